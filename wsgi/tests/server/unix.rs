//! Servers on Unix sockets and on listeners of one's own, with a foreign client on std's sockets.

use std::io::{ErrorKind, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

use greenwood_runtime::net;
use greenwood_wsgi::{Application, Body, Environ, Result, StartResponse, WsgiServer};

use crate::client::{DEADLINE, LIMITS, Server, echo, get, hello, post};

/// A path of the test's own; what is there is removed at the end.
struct Place(PathBuf);

impl Place {
    fn new(test: &str) -> Place {
        let name = format!("greenwood-wsgi-{test}-{}", std::process::id());
        Place(std::env::temp_dir().join(name))
    }

    fn connect(&self) -> UnixStream {
        timed(UnixStream::connect(&self.0).unwrap())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).ok();
    }
}

fn timed(stream: UnixStream) -> UnixStream {
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream
}

fn started(server: WsgiServer) -> Running {
    server.start().unwrap();
    Running(server)
}

/// Stops with its test.
struct Running(WsgiServer);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.stop(Duration::from_millis(100));
    }
}

/// All that comes up to the end.
fn rest(mut stream: &UnixStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// Answers with the variables that the query names, by `get` and as they are listed.
fn variables(environ: &mut Environ, start_response: StartResponse<'_>) -> Result<Body> {
    let values: Vec<_> = environ
        .query_string()
        .split(',')
        .map(|key| {
            let listed = environ.iter().any(|(name, _)| name == key);
            let value = environ.get(key);
            assert_eq!(listed, value.is_some(), "{key}");
            value.unwrap_or("none".into()).into_owned()
        })
        .collect();
    let nobody = "0.0.0.0:0".parse().unwrap();
    assert_eq!(
        (environ.remote_addr(), environ.local_addr()),
        (nobody, nobody)
    );
    start_response("200 OK", &[])?;
    Ok(values.join("|").into())
}

const ADDRESSES: &str = "/?SERVER_NAME,SERVER_PORT,REMOTE_ADDR,REMOTE_PORT,wsgi.url_scheme";

#[test]
fn unix_connection_has_no_addresses_in_the_environ() {
    let place = Place::new("environ");
    let server = started(WsgiServer::unix(&place.0, variables));
    let client = place.connect();
    // Pipelined, and after a wait.
    (&client)
        .write_all(get(ADDRESSES, "").repeat(2).as_bytes())
        .unwrap();
    let expected = "||none|none|http";
    for _ in 0..2 {
        assert_eq!(response(&client), expected);
    }
    (&client)
        .write_all(get(ADDRESSES, "Connection: close\r\n").as_bytes())
        .unwrap();
    assert_eq!(response(&client), expected);
    assert_eq!(rest(&client), "");
    drop(server);
    let named = started(WsgiServer::unix(&place.0, variables).server_name("example.org"));
    let client = place.connect();
    (&client)
        .write_all(get("/?SERVER_NAME", "").as_bytes())
        .unwrap();
    assert_eq!(response(&client), "example.org");
    drop(named);
}

/// The body of a response with a length.
fn response(mut stream: &UnixStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    let (_, length) = head
        .split_once("Content-Length: ")
        .expect("it has a length");
    let mut body = vec![0; length.lines().next().unwrap().parse().unwrap()];
    stream.read_exact(&mut body).unwrap();
    String::from_utf8(body).unwrap()
}

#[test]
fn large_bodies_pass_a_unix_socket_both_ways() {
    let place = Place::new("bodies");
    let server = started(WsgiServer::unix(&place.0, echo));
    let text: String = (0..200_000).map(|i| format!("{i:06}\n")).collect();
    let client = place.connect();
    let sender = client.try_clone().unwrap();
    let sent = text.clone();
    let sending = std::thread::spawn(move || {
        for _ in 0..2 {
            (&sender).write_all(post("", &sent).as_bytes()).unwrap();
        }
    });
    for _ in 0..2 {
        assert!(response(&client) == text);
    }
    sending.join().unwrap();
    drop(server);
}

#[test]
fn stale_socket_is_replaced_and_one_in_use_is_not() {
    let place = Place::new("stale");
    drop(UnixListener::bind(&place.0).unwrap());
    let server = started(WsgiServer::unix(&place.0, hello));
    let shown = format!("unix:{}", place.0.display());
    assert_eq!(server.0.address().unwrap().to_string(), shown);
    let address = server.0.handle().address().unwrap();
    assert_eq!(address.unix().unwrap().as_pathname(), Some(&*place.0));
    let error = server.0.local_addr().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains(&shown), "{error}");
    // Somebody serves there.
    let second = WsgiServer::unix(&place.0, hello);
    let error = second.start().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert!(
        error.to_string().contains(place.0.to_str().unwrap()),
        "{error}"
    );
    let client = place.connect();
    (&client).write_all(get("/x", "").as_bytes()).unwrap();
    assert_eq!(response(&client), "GET /x");
    // An idle connection ends with the server, and so does the file.
    server.0.stop(DEADLINE);
    assert_eq!(rest(&client), "");
    assert!(!place.0.exists());
    // What is no socket stays.
    std::fs::write(&place.0, "precious").unwrap();
    let error = WsgiServer::unix(&place.0, hello).start().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert_eq!(std::fs::read_to_string(&place.0).unwrap(), "precious");
}

#[test]
fn unix_client_that_says_nothing_is_sent_away() {
    let place = Place::new("silent");
    let in_time = LIMITS.into_iter().any(|limit| {
        let server = WsgiServer::unix(&place.0, hello).head_timeout(limit);
        let _server = started(server);
        assert_eq!(rest(&place.connect()), "");
        let (mut half, mut answer) = (place.connect(), String::new());
        half.write_all(b"GET / HT").is_ok()
            && half.read_to_string(&mut answer).is_ok()
            && answer.starts_with("HTTP/1.1 408 ")
    });
    assert!(in_time);
}

#[test]
fn listener_may_be_the_callers() {
    let app: std::sync::Arc<dyn Application> = std::sync::Arc::new(hello);
    // An abstract name, as a descriptor that was inherited.
    let name = format!("greenwood-wsgi-{}", std::process::id());
    let name = SocketAddr::from_abstract_name(name).unwrap();
    let theirs = UnixListener::bind_addr(&name).unwrap();
    let listener = net::StreamListener::from_fd(theirs).unwrap();
    let server = started(WsgiServer::from_listener(listener, app.clone()));
    assert!(
        server
            .0
            .address()
            .unwrap()
            .to_string()
            .starts_with("unix:@greenwood-wsgi-")
    );
    let client = timed(UnixStream::connect_addr(&name).unwrap());
    (&client).write_all(get("/unix", "").as_bytes()).unwrap();
    assert_eq!(response(&client), "GET /unix");
    drop(server);
    // And by TCP.
    let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server = WsgiServer::from_listener(listener, app);
    server.start().unwrap();
    let address = server.address().unwrap().internet().unwrap();
    assert_eq!(address, server.local_addr().unwrap());
    let server = Server { server, address };
    assert_eq!(server.get("/tcp", "").text(), "GET /tcp");
}

#[test]
fn descriptor_that_does_not_listen_is_refused() {
    let (one, _other) = UnixStream::pair().unwrap();
    let error = net::StreamListener::from_fd(one).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let (reader, _writer) = std::io::pipe().unwrap();
    let error = net::StreamListener::from_fd(reader).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let datagrams = std::os::unix::net::UnixDatagram::unbound().unwrap();
    assert!(net::StreamListener::from_fd(datagrams).is_err());
}
