//! The lines of the access log. In a binary of its own: the subscriber is the process's.

#[path = "client/mod.rs"]
mod client;

use std::{
    io::{self, Read, Write},
    sync::{Arc, Mutex},
};

use client::{get, hello, serve_handler};
use greenwood_wsgi::{Application, Exchange, Handler, Result, WsgiServer};

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Upgrading;

impl Handler for Upgrading {
    fn handle(&self, exchange: &mut Exchange<'_>, app: &dyn Application) -> Result<()> {
        match &*exchange.environ().path() {
            "/upgrade" => exchange.upgrade(&[]).map(drop),
            "/fail" => Err("on purpose".into()),
            _ => exchange.run(app),
        }
    }
}

#[test]
fn every_request_is_one_line() {
    let lines = Lines::default();
    let writer = lines.clone();
    tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .without_time()
        .with_level(false)
        .init();
    let server = serve_handler(Upgrading, hello);
    for request in [
        get("/x", ""),
        "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(),
        get("/upgrade", ""),
        get("/fail", ""),
        "GET /\"\x1b[1m\r\n\r\n".to_owned(),
        "GET /a\"b HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".to_owned(),
    ] {
        let mut client = server.connect();
        client.send(request);
        client.until(b"\r\n\r\n");
        client.end_sending();
        client.rest_or_reset();
    }
    // All connections have ended, so all lines are written.
    server.server.stop(client::DEADLINE);
    ask_by_a_unix_socket();
    let lines = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let access: Vec<_> = lines
        .lines()
        .filter_map(|line| line.strip_prefix("greenwood::access: "))
        .collect();
    let expected = [
        r#""GET /x HTTP/1.1" 200 "#,
        r#""HEAD / HTTP/1.1" 200 "#,
        r#""GET /upgrade HTTP/1.1" 101 "#,
        r#""GET /fail HTTP/1.1" 500 "#,
        r#""GET /\"\x1b[1m" 400 "#,
        r#""GET /a\"b HTTP/1.1" 200 "#,
    ];
    let (by_unix, access) = access.split_last().unwrap();
    assert!(
        is_line_of("-", by_unix, r#""GET /unix HTTP/1.1" 200 "#),
        "{by_unix}"
    );
    assert_eq!(access.len(), expected.len(), "{lines}");
    for (line, request) in access.iter().zip(expected) {
        assert!(
            is_access_line(line, request),
            "{line}\nhas not the form of {request}"
        );
    }
    assert!(
        lines.contains("greenwood::wsgi: \"GET /fail HTTP/1.1\" failed: on purpose"),
        "{lines}"
    );
}

fn ask_by_a_unix_socket() {
    let name = format!("greenwood-access-log-{}", std::process::id());
    let path = std::env::temp_dir().join(name);
    let server = WsgiServer::unix(&path, hello);
    server.start().unwrap();
    let mut client = std::os::unix::net::UnixStream::connect(&path).unwrap();
    let request = get("/unix", "Connection: close\r\n");
    client.write_all(request.as_bytes()).unwrap();
    client.read_to_end(&mut Vec::new()).unwrap();
    server.stop(client::DEADLINE);
}

/// `127.0.0.1 - - [2026-11-22 14:35:38] "GET /x HTTP/1.1" 200 701 0.000411`
fn is_access_line(line: &str, request: &str) -> bool {
    is_line_of("127.0.0.1", line, request)
}

fn is_line_of(peer: &str, line: &str, request: &str) -> bool {
    let rest = line.strip_prefix(peer);
    let Some(rest) = rest.and_then(|rest| rest.strip_prefix(" - - [")) else {
        return false;
    };
    let (date, rest) = rest.split_once("] ").unwrap();
    let shape: String = date
        .chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    let Some((length, seconds)) = rest.strip_prefix(request).and_then(|r| r.split_once(' ')) else {
        return false;
    };
    shape == "0000-00-00 00:00:00"
        && length.parse::<u64>().is_ok_and(|length| length > 30)
        && seconds.parse::<f64>().is_ok()
        && seconds
            .split_once('.')
            .is_some_and(|(_, digits)| digits.len() == 6)
}
