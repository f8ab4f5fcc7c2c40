//! Runs the example `client` as a program of its own against the examples `echo` and `echo_tls`.
//!
//! `cargo test` builds the examples too; with `--test example_client` it does not, so that one comes
//! after a `cargo build --examples`.

mod running;

use std::{
    fs,
    io::Write,
    path::PathBuf,
    process::{Child, ChildStdin, Output, Stdio},
};

use running::{DEADLINE, Server, example, lines, wait};

#[test]
fn lines_are_sent_and_what_comes_is_printed() {
    let server = echo();
    for options in [&[][..], &["--deflate", "--header", "X-Test: yes"]] {
        let url = server.url("ws", "/echo");
        let output = run(&[&[&*url], options].concat(), "hello\n\ngr\u{fc}n\n");
        assert_eq!(text(&output.stdout), "hello\n\ngr\u{fc}n\n");
        assert_eq!(
            text(&output.stderr),
            "connected\nclosed by this side, 1000 (normal closure)\n"
        );
        assert_eq!(output.status.code(), Some(0));
    }
}

#[test]
fn answers_are_printed_while_stdin_is_open() {
    let server = echo();
    let mut child = start(&[&server.url("ws", "/echo")]);
    let mut stdin = child.stdin.take().unwrap();
    let lines = lines(child.stdout.take().unwrap());
    for line in ["one", "two"] {
        writeln!(stdin, "{line}").unwrap();
        assert_eq!(lines.recv_timeout(DEADLINE).unwrap(), line);
    }
    drop(stdin);
    assert_eq!(wait(child).status.code(), Some(0));
}

#[test]
fn end_by_the_server_does_not_wait_for_stdin() {
    let server = echo();
    // Closed with 1008: that is no ordinary end.
    let mut child = start(&[&server.url("ws", "/")]);
    let _open: Option<ChildStdin> = child.stdin.take();
    let output = wait(child);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        text(&output.stderr),
        "connected\nclosed by the peer, 1008 (policy violation): the WebSocket is at /echo\n"
    );
    // Gone without a word.
    let mut server = server;
    let mut child = start(&[&server.url("ws", "/echo")]);
    let mut stdin = child.stdin.take().unwrap();
    let lines = lines(child.stdout.take().unwrap());
    writeln!(stdin, "there").unwrap();
    assert_eq!(lines.recv_timeout(DEADLINE).unwrap(), "there");
    server.child.kill().unwrap();
    let output = wait(child);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("transport"), "{output:?}");
}

#[test]
fn certificates_are_trusted_as_told() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("example_client");
    fs::create_dir_all(&folder).unwrap();
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    fs::write(&cert, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let (cert, key) = (cert.to_str().unwrap(), key.to_str().unwrap());
    let server = Server::start_example("echo_tls", "https", &["127.0.0.1", "0", cert, key]);
    let by_name = server.url("wss", "/echo").replace("127.0.0.1", "localhost");
    let by_address = server.url("wss", "/echo");
    for (arguments, code) in [
        (&[&*by_name, "--ca-file", cert][..], 0),
        (&[&by_address, "--ca-file", cert], 1),
        (&[&by_address, "--insecure"], 0),
    ] {
        let output = run(arguments, "x\n");
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        match code {
            0 => assert_eq!(text(&output.stdout), "x\n"),
            _ => assert!(text(&output.stderr).starts_with("client: can't connect by TLS: ")),
        }
    }
}

#[test]
fn refusals_and_wrong_arguments_are_explained() {
    let server = echo();
    let url = server.url("ws", "/echo");
    drop(server);
    let output = run(&[&url], "");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).starts_with("client: can't connect: 127.0.0.1:"));
    for (arguments, message) in [
        (&[][..], "no URL"),
        (&["--loud"], "unknown option \"--loud\""),
        (&["ws://a", "ws://b"], "one URL only"),
        (&["ws://a", "--header", "X"], "not a header: \"X\""),
        (
            &["ws://a", "--subprotocol"],
            "--subprotocol lacks its value",
        ),
    ] {
        let output = run(arguments, "");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let errors = text(&output.stderr);
        assert!(errors.contains(message), "{errors}");
        assert!(errors.contains("usage: cargo run"), "{errors}");
    }
    let output = run(&["http://host/"], "");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("the scheme must be ws or wss"));
    assert!(text(&run(&["--help"], "").stdout).starts_with("usage: "));
}

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap()
}

fn start(arguments: &[&str]) -> Child {
    let mut client = example("client");
    client
        .stdin(Stdio::piped())
        .args(arguments)
        .spawn()
        .unwrap()
}

/// Runs the client to its end, with these lines.
fn run(arguments: &[&str], lines: &str) -> Output {
    let mut child = start(arguments);
    let mut stdin = child.stdin.take().unwrap();
    // It may have ended before it reads.
    stdin.write_all(lines.as_bytes()).ok();
    drop(stdin);
    wait(child)
}

fn echo() -> Server {
    Server::start_example("echo", "http", &["127.0.0.1", "0"])
}
