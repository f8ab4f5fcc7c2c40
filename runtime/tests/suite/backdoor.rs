//! The backdoor, as a tool sees it: lines on a real socket.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use greenwood_runtime::net::TcpStream;
use greenwood_runtime::{BackdoorServer, Builder, Hub, sleep, spawn};

use crate::support::{EVERYWHERE, case, child, deadline, eventually, open_descriptors, spawn_on};

const LONG: Duration = Duration::from_secs(1_000);

/// A path that is free.
fn free_path() -> PathBuf {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("greenwood-{}-{number}.sock", std::process::id()))
}

fn started() -> (BackdoorServer, PathBuf) {
    let path = free_path();
    let server = BackdoorServer::unix(&path).unwrap();
    server.start().unwrap();
    (server, path)
}

/// Somebody at the other end.
struct Client<S: Read + Write>(BufReader<S>);

impl Client<UnixStream> {
    fn new(path: &PathBuf) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        Client(BufReader::new(stream))
    }
}

impl<S: Read + Write> Client<S> {
    fn send(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).unwrap();
    }

    /// The lines of the next answer, with its end.
    fn answer(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).unwrap() == 0 {
                return lines;
            }
            let line = line.trim_end().to_owned();
            let is_last = line == "ok" || line.starts_with("error:");
            lines.push(line);
            if is_last {
                return lines;
            }
        }
    }

    fn ask(&mut self, line: &str) -> Vec<String> {
        self.send(format!("{line}\n").as_bytes());
        self.answer()
    }

    fn is_cut(&mut self) -> bool {
        matches!(self.0.read(&mut [0]), Ok(0) | Err(_))
    }
}

#[test]
fn it_answers_what_it_is_asked() {
    let _deadline = deadline();
    let (server, path) = started();
    let mut client = Client::new(&path);
    let help = client.ask("help").join("\n");
    for command in ["info", "greenlets", "stats", "kill ID", "help", "quit"] {
        assert!(help.contains(command), "{help}");
    }
    let info = client.ask("info").join("\n");
    assert!(
        info.contains(&format!("process {}", std::process::id())),
        "{info}"
    );
    let stats = client.ask("stats");
    assert_eq!(stats.len(), Hub::count() + 1);
    assert!(stats[0].starts_with("hub 0: "));

    let waiting = Builder::new()
        .name("to be seen")
        .spawn(|| sleep(LONG))
        .unwrap();
    eventually("it is listed", || {
        let mut client = Client::new(&path);
        let line = client.ask("greenlets").join("\n");
        line.contains(&format!("{} \"to be seen\"", waiting.id()))
            && line.contains("the end of a sleep")
    });
    assert_eq!(client.ask(&format!("kill {}", waiting.id())), ["ok"]);
    assert!(waiting.join().is_err());
    assert_eq!(client.ask("quit"), ["ok"]);
    assert!(client.is_cut());
    server.stop();
    assert!(!path.exists());
}

#[test]
fn what_is_no_command_is_an_error_and_the_next_is_answered() {
    let _deadline = deadline();
    let (server, path) = started();
    let mut client = Client::new(&path);
    for line in [
        "nonsense",
        "kill",
        "kill x",
        "kill -1",
        "kill 18446744073709551615",
        "monitor x",
    ] {
        let answer = client.ask(line);
        assert!(
            answer.len() == 1 && answer[0].starts_with("error: "),
            "{line}: {answer:?}"
        );
    }
    assert_eq!(client.ask(""), ["ok"]);
    assert_eq!(client.ask("  help\r").last().unwrap(), "ok");
    client.send(b"\xff\xfe\n");
    assert!(client.answer()[0].starts_with("error: no command"));
    // Byte by byte, and several at once.
    for byte in b"stats\n" {
        client.send(&[*byte]);
    }
    assert_eq!(client.answer().last().unwrap(), "ok");
    client.send(b"\n\nkill x\n");
    assert_eq!(client.answer(), ["ok"]);
    assert_eq!(client.answer(), ["ok"]);
    assert!(client.answer()[0].starts_with("error: "));
    server.stop();
}

#[test]
fn a_line_has_a_limit_and_a_browser_is_sent_away() {
    let _deadline = deadline();
    let (server, path) = started();
    let mut client = Client::new(&path);
    client.send(&[b'x'; 1_024]);
    assert_eq!(client.answer(), ["error: a line has at most 1024 bytes"]);
    assert!(client.is_cut());

    let victim = spawn(|| sleep(LONG));
    let mut client = Client::new(&path);
    client.send(format!("POST / HTTP/1.1\r\n\r\nkill {}\r\n", victim.id()).as_bytes());
    assert_eq!(client.answer(), ["error: this is no web server"]);
    assert!(client.is_cut());
    assert!(!victim.ready());
    victim.kill();
    server.stop();
}

#[test]
fn connections_are_cut_off_after_a_time_of_silence() {
    let _deadline = deadline();
    let path = free_path();
    let server = BackdoorServer::unix(&path).unwrap();
    let server = server.idle_timeout(Duration::from_millis(100));
    server.start().unwrap();
    let mut clients: Vec<_> = (0..8).map(|_| Client::new(&path)).collect();
    for client in &mut clients {
        assert!(client.is_cut());
    }
    eventually("they are cut off", || server.connections() == 0);
    server.stop();
}

#[test]
fn connections_have_a_limit() {
    let _deadline = deadline();
    let path = free_path();
    let server = BackdoorServer::unix(&path).unwrap();
    server.start().unwrap();
    let clients: Vec<_> = (0..8).map(|_| Client::new(&path)).collect();
    eventually("all are let in", || server.connections() == 8);
    let mut one_too_many = Client::new(&path);
    assert_eq!(
        one_too_many.answer(),
        ["error: there are 8 connections already"]
    );
    assert!(one_too_many.is_cut());
    drop(clients);
    eventually("they have gone", || server.connections() == 0);
    assert_eq!(Client::new(&path).ask(""), ["ok"]);
    server.stop();
}

#[test]
fn only_the_owner_may_use_the_socket() {
    let _deadline = deadline();
    let (server, path) = started();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // Somebody listens there.
    let error = BackdoorServer::unix(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert_eq!(Client::new(&path).ask(""), ["ok"]);
    server.stop();
    assert!(server.start().is_err());

    // Left over by a process that has died.
    drop(UnixListener::bind(&path).unwrap());
    let server = BackdoorServer::unix(&path).unwrap();
    server.start().unwrap();
    assert_eq!(Client::new(&path).ask(""), ["ok"]);
    server.stop();

    // Not everything that is in the way is removed.
    std::fs::write(&path, "text").unwrap();
    let error = BackdoorServer::unix(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert_eq!(std::fs::read(&path).unwrap(), b"text");
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn tcp_is_for_this_machine_unless_asked() {
    let _deadline = deadline();
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let error = BackdoorServer::tcp(address).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert!(error.to_string().contains("tcp_open_to_all"), "{error}");
    }
    // No other test uses this address, and could have got the port after the stop.
    let server = BackdoorServer::tcp("127.0.0.6:0").unwrap();
    server.start().unwrap();
    server.start().unwrap();
    let address = server.local_addr().unwrap();
    let mut client = Client(BufReader::new(TcpStream::connect(address).unwrap()));
    assert_eq!(client.ask("info").last().unwrap(), "ok");
    server.stop();
    assert!(client.is_cut());
    // The port is free.
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn commands_of_ones_own_are_answered() {
    let _deadline = deadline();
    let path = free_path();
    let server = BackdoorServer::unix(&path)
        .unwrap()
        .command("echo", "say it again", |rest| format!("<{rest}>"))
        .command("panic", "", |_| panic!("a panic that the test wants"));
    let serving = server.clone();
    let forever = spawn(move || serving.serve_forever());
    let mut client = Client::new(&path);
    assert_eq!(client.ask("echo  two words "), ["<two words>", "ok"]);
    assert!(
        client
            .ask("help")
            .join("\n")
            .contains("echo       say it again")
    );
    // It ends its own connection.
    assert_eq!(client.ask("panic"), Vec::<String>::new());
    let mut client = Client::new(&path);
    assert_eq!(client.ask("echo x"), ["<x>", "ok"]);
    assert_eq!(client.ask("monitor 100"), ["ok"]);
    assert_eq!(client.ask("monitor 0"), ["ok"]);
    server.stop();
    forever.join().unwrap().unwrap();
}

#[test]
fn a_connection_may_kill_its_own_greenlet() {
    let _deadline = deadline();
    let (server, path) = started();
    let mut client = Client::new(&path);
    let listed = client.ask("greenlets");
    let runs = |line: &&String| line.contains("\"backdoor connection\"") && line.contains(", runs");
    let line = listed.iter().find(runs).unwrap();
    let id = line.split_whitespace().next().unwrap().to_owned();
    client.send(format!("kill {id}\n").as_bytes());
    assert!(client.is_cut());
    assert_eq!(Client::new(&path).ask(""), ["ok"]);
    server.stop();
}

#[test]
fn a_stopped_backdoor_leaves_nothing() {
    const NAME: &str = "backdoor::a_stopped_backdoor_leaves_nothing";
    if case().is_none() {
        return child(NAME, "alone", &[]).passed();
    }
    let _deadline = deadline();
    let round = || {
        for from in EVERYWHERE {
            let (server, path) = from.run(started);
            let mut idle = Client::new(&path);
            assert_eq!(idle.ask(""), ["ok"]);
            let stopping = server.clone();
            from.run(move || stopping.stop());
            server.stop();
            assert!(idle.is_cut());
        }
        eventually("no greenlet is left", || Hub::greenlets() == 0);
    };
    spawn_on(0, || ()).join().unwrap();
    round();
    let before = open_descriptors();
    for _ in 0..20 {
        round();
    }
    assert_eq!(open_descriptors(), before);
}

#[test]
fn many_who_come_at_once_are_no_more_than_the_limit() {
    let _deadline = deadline();
    let server = BackdoorServer::tcp("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    // They wait in the backlog, and are taken in a row.
    let clients: Vec<_> = (0..60)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    server.start().unwrap();
    let served = clients.iter().filter(|client| {
        client
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        let mut client = Client(BufReader::new(*client));
        client.0.get_mut().write_all(b"\n").ok();
        let mut line = String::new();
        client.0.read_line(&mut line).is_ok() && line == "ok\n"
    });
    assert_eq!(served.count(), 8);
    drop(clients);
    eventually("they have gone", || server.connections() == 0);
    let mut client = Client(BufReader::new(TcpStream::connect(address).unwrap()));
    assert_eq!(client.ask(""), ["ok"]);
    server.stop();
}

#[test]
fn a_path_whose_listener_takes_nobody_does_not_hold_the_hub() {
    let _deadline = deadline();
    let path = free_path();
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    let address = socket2::SockAddr::unix(&path).unwrap();
    socket.bind(&address).unwrap();
    socket.listen(0).unwrap();
    let filler = || {
        let kind = socket2::Type::STREAM.nonblocking();
        let socket = socket2::Socket::new(socket2::Domain::UNIX, kind, None).unwrap();
        socket.connect(&address).is_ok().then_some(socket)
    };
    let _fillers: Vec<_> = std::iter::from_fn(filler).take(100).collect();
    let theirs = path.clone();
    let error = spawn(move || BackdoorServer::unix(&theirs).unwrap_err());
    assert!(
        error.join_timeout(Duration::from_secs(10)),
        "the hub is blocked"
    );
    assert_eq!(error.join().unwrap().kind(), ErrorKind::AddrInUse);
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_stop_leaves_the_socket_of_a_successor() {
    let _deadline = deadline();
    let (first, path) = started();
    std::fs::remove_file(&path).unwrap();
    let second = BackdoorServer::unix(&path).unwrap();
    second.start().unwrap();
    first.stop();
    let mut client = Client::new(&path);
    assert_eq!(client.ask(""), ["ok"]);
    second.stop();
    assert!(!path.exists());
}

#[test]
fn who_sends_too_long_a_line_is_told_so() {
    let _deadline = deadline();
    let (server, path) = started();
    for bytes in [1_024, 5_000, 60_000] {
        let mut client = Client::new(&path);
        client.send(&vec![b'x'; bytes]);
        assert_eq!(
            client.answer(),
            ["error: a line has at most 1024 bytes"],
            "{bytes}"
        );
        client
            .0
            .get_ref()
            .shutdown(std::net::Shutdown::Write)
            .unwrap();
        assert!(client.is_cut());
    }
    // Who sends on and on is not listened to for ever.
    let mut client = Client::new(&path);
    let endless = std::iter::from_fn(|| client.0.get_mut().write_all(&[b'x'; 1_024]).ok());
    assert!(endless.take(100_000).count() < 100_000);
    server.stop();
}
