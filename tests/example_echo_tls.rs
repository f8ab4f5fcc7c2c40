//! Runs the example `echo_tls` as a program of its own and looks at it from outside.
//!
//! `cargo test` builds the examples too; with `--test example_echo_tls` it does not, so that one
//! comes after a `cargo build --example echo_tls`. What foreign clients make of it is in `interop/`.

mod running;

use std::{
    fs,
    io::{Read, Write},
    path::PathBuf,
    process::Output,
};

use greenwood::{
    Connect, Deflate, Message,
    runtime::net::{ClientTls, TcpStream, TlsStream},
};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use running::{DEADLINE, Server, example, wait};

#[test]
fn page_body_and_facts_of_tls_are_served() {
    let files = Files::new("served");
    let server = Server::start(&["0", files.cert(), files.key()]);
    let response = server.request(&files.client(), "GET / HTTP/1.1");
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    assert!(response.ends_with(include_str!("../examples/echo.html")));
    let response = server.request(&files.client(), "GET /tls HTTP/1.1");
    let facts = ", name localhost, protocol http/1.1, scheme https\n";
    assert!(response.ends_with(facts), "{response}");
    assert!(response.contains("TLSv1.3 TLS_"), "{response}");
    let body = "POST /echo HTTP/1.1\r\nContent-Length: 5";
    let mut stream = server.connect(&files.client());
    write!(
        stream,
        "{body}\r\nHost: localhost\r\nConnection: close\r\n\r\nhello"
    )
    .unwrap();
    assert!(rest(stream).ends_with("\r\n\r\nhello"));
    let response = server.request(&files.client(), "GET /nowhere HTTP/1.1");
    assert!(response.starts_with("HTTP/1.1 404 "), "{response}");
}

#[test]
fn websocket_echoes_text_and_binary_compressed_or_not() {
    let files = Files::new("websocket");
    let server = Server::start(&["0", files.cert(), files.key()]);
    for deflate in [None, Some(Deflate::default())] {
        let mut connect = Connect::to(format!("wss://localhost:{}/echo", server.address.port()));
        if let Some(deflate) = deflate {
            connect = connect.deflate(deflate);
        }
        let ws = connect
            .connect_over(server.connect(&files.client()))
            .unwrap();
        for message in [
            Message::Text("grün wie der Wald".into()),
            Message::Binary(vec![0, 255, 128]),
            Message::Binary(
                (0..900_000_u32)
                    .map(|i| (i.wrapping_mul(i) >> 5) as u8)
                    .collect(),
            ),
            Message::Text("squeeze me ".repeat(10_000)),
        ] {
            ws.send(message.clone()).unwrap();
            assert!(ws.receive().unwrap() == Some(message), "the echo differs");
        }
    }
}

#[test]
fn certificate_is_made_if_none_is_given() {
    let server = Server::start(&["127.0.0.1", "0"]);
    let anybody = ClientTls::builder()
        .dangerous_accept_any_certificate()
        .build()
        .unwrap();
    let response = server.request(&anybody, "GET /tls HTTP/1.1");
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    // Nobody has signed it.
    let nobody = Files::new("nobody").client();
    TlsStream::connect(server.tcp(), "localhost", &nobody).unwrap_err();
}

#[test]
fn hangup_reloads_the_certificate_and_interrupt_ends_the_server() {
    let files = Files::new("hangup");
    let mut server = Server::start(&["0", files.cert(), files.key()]);
    let old = server.connect(&files.client());
    let ws = Connect::to("wss://localhost/echo")
        .connect_over(server.connect(&files.client()))
        .unwrap();
    let before = files.client();
    files.renew();
    server.signal("HUP");
    server.log_says("was read again");
    server.connect(&files.client());
    TlsStream::connect(server.tcp(), "localhost", &before).unwrap_err();
    // What can't be used is said, and changes nothing.
    fs::write(files.cert(), "").unwrap();
    server.signal("HUP");
    server.log_says("cert.pem: there is no certificate");
    server.connect(&files.client());

    ws.send("still here").unwrap();
    assert_eq!(ws.receive().unwrap(), Some("still here".into()));
    server.signal("INT");
    server.log_says("stopping; open connections");
    // The close frame comes with 1001, which is a clean end for us.
    assert!(ws.receive().unwrap().is_none());
    assert_eq!(rest(old), "");
    assert!(server.wait().0.success());
}

#[test]
fn wrong_arguments_and_files_are_told() {
    for (arguments, code, said) in [
        (&["--help"][..], 0, ""),
        (&["--port"], 2, "unknown option \"--port\""),
        (&["0", "cert.pem"], 2, "a CERTFILE without a KEYFILE"),
        (&["99999"], 2, "not a port between 0 and 65535"),
        (
            &["0", "/nowhere/c.pem", "/nowhere/k.pem"],
            1,
            "can't read certfile /nowhere/c.pem",
        ),
    ] {
        let output = run(arguments);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {errors}");
        assert!(errors.contains(said), "{arguments:?}: {errors}");
    }
}

/// A certificate and its key, in files of a folder that goes with this.
struct Files {
    folder: PathBuf,
    cert: String,
    key: String,
}

impl Files {
    fn new(name: &str) -> Files {
        let name = format!("greenwood-echo-tls-{}-{name}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir(&folder).unwrap();
        let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
        let files = Files {
            cert: path("cert.pem"),
            key: path("key.pem"),
            folder,
        };
        files.renew();
        files
    }

    fn renew(&self) {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(&self.cert, cert.pem()).unwrap();
        fs::write(&self.key, signing_key.serialize_pem()).unwrap();
        // It survives the files.
        fs::write(self.trusted(), cert.pem()).unwrap();
    }

    fn trusted(&self) -> PathBuf {
        self.folder.join("trusted.pem")
    }

    fn cert(&self) -> &str {
        &self.cert
    }

    fn key(&self) -> &str {
        &self.key
    }

    /// A client that trusts this certificate only.
    fn client(&self) -> ClientTls {
        ClientTls::builder()
            .system_roots(false)
            .ca_certs(self.trusted())
            .alpn(["http/1.1"])
            .build()
            .unwrap()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.folder).ok();
    }
}

/// Runs the example to its end.
fn run(arguments: &[&str]) -> Output {
    wait(example("echo_tls").args(arguments).spawn().unwrap())
}

impl Server {
    fn start(arguments: &[&str]) -> Server {
        Server::start_example("echo_tls", "https", arguments)
    }

    fn tcp(&self) -> TcpStream {
        let tcp = TcpStream::connect(self.address).unwrap();
        tcp.set_read_timeout(Some(DEADLINE)).unwrap();
        tcp.set_write_timeout(Some(DEADLINE)).unwrap();
        tcp
    }

    fn connect(&self, client: &ClientTls) -> TlsStream {
        TlsStream::connect(self.tcp(), "localhost", client).unwrap()
    }

    /// Sends a request, on a connection of its own; `head` goes without the headers that all have.
    fn request(&self, client: &ClientTls, head: &str) -> String {
        let mut stream = self.connect(client);
        write!(
            stream,
            "{head}\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        rest(stream)
    }
}

/// Everything up to the end, which TLS has to announce.
fn rest(mut stream: TlsStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}
