//! Bodies both ways.

use std::{
    io::{Read, Write},
    sync::mpsc,
};

use greenwood_runtime::Event;
use greenwood_wsgi::{Body, Environ, Result, StartResponse};

use crate::client::{DEADLINE, echo, get, hello, post, serve};

fn by_path(environ: &mut Environ, start_response: StartResponse<'_>) -> Result<Body> {
    start_response("200 OK", &[])?;
    Ok(match &*environ.path() {
        "/chunks" => Body::from_iter(["one", "", "two"].into_iter().filter(|_| true)),
        "/single" => Body::from_iter(["single"]),
        "/none" => Body::from_iter(Vec::<String>::new()),
        "/stream" => Body::stream(|out| {
            out.send(b"one")?;
            out.write_all(b"two")?;
            Ok(())
        }),
        "/nothing" => Body::stream(|_| Ok(())),
        "/known" => Body::stream(|out| out.send(b"sixsix")).with_length(6),
        "/large" => vec![b'x'; 3_000_000].into(),
        "/pieces" => Body::from_iter((0..50).map(|_| vec![b'y'; 100_000])),
        _ => Body::empty(),
    })
}

#[test]
fn chunks_go_out_chunked() {
    let server = serve(by_path);
    let mut client = server.connect();
    for path in ["/chunks", "/stream"] {
        client.send(get(path, ""));
        let head = String::from_utf8(client.until(b"\r\n\r\n")).unwrap();
        assert!(head.contains("Transfer-Encoding: chunked\r\n"), "{head}");
        assert_eq!(
            client.until(b"0\r\n\r\n"),
            b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"
        );
    }
}

#[test]
fn chunks_end_with_the_connection_in_the_old_version() {
    let server = serve(by_path);
    for path in ["/chunks", "/stream"] {
        let mut client = server.connect();
        client.send(format!(
            "GET {path} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
        ));
        let response = client.response();
        assert_eq!(response.header("connection"), Some("close"));
        assert_eq!(response.header("transfer-encoding"), None);
        assert_eq!(response.text(), "onetwo");
    }
}

#[test]
fn known_lengths_are_announced() {
    let server = serve(by_path);
    for (path, length) in [
        ("/single", "6"),
        ("/none", "0"),
        ("/nothing", "0"),
        ("/known", "6"),
        ("/empty", "0"),
    ] {
        let response = server.get(path, "");
        assert_eq!(response.header("content-length"), Some(length), "{path}");
        assert_eq!(response.header("transfer-encoding"), None, "{path}");
    }
}

#[test]
fn large_bodies_arrive_whole() {
    let server = serve(by_path);
    let mut client = server.connect();
    client.send(get("/large", "") + &get("/pieces", "") + &get("/single", ""));
    assert!(client.response().body == vec![b'x'; 3_000_000]);
    assert!(client.response().body == vec![b'y'; 5_000_000]);
    assert_eq!(client.response().text(), "single");
}

#[test]
fn head_has_no_body() {
    let server = serve(by_path);
    let mut client = server.connect();
    for path in [
        "/chunks", "/single", "/stream", "/large", "/known", "/empty",
    ] {
        client.send(format!("HEAD {path} HTTP/1.1\r\nHost: h\r\n\r\n"));
        let response = client.response_to("HEAD");
        assert_eq!(response.status, 200);
        if path == "/large" {
            assert_eq!(response.header("content-length"), Some("3000000"));
        }
    }
    client.send(get("/single", ""));
    assert_eq!(client.response().text(), "single");
}

#[test]
fn each_piece_leaves_at_once() {
    let (events, waiting) = mpsc::channel();
    let app = move |_: &mut Environ, start_response: StartResponse<'_>| {
        start_response("200 OK", &[])?;
        let go_on = std::sync::Arc::new(Event::new());
        events.send(go_on.clone()).unwrap();
        Ok(Body::stream(move |out| {
            out.send(b"first")?;
            go_on.wait();
            out.send(b"second")
        }))
    };
    let server = serve(app);
    let mut client = server.connect();
    client.send(get("/", ""));
    client.until(b"\r\n\r\n5\r\nfirst\r\n");
    waiting.recv_timeout(DEADLINE).unwrap().set();
    assert_eq!(client.until(b"0\r\n\r\n"), b"6\r\nsecond\r\n0\r\n\r\n");
}

#[test]
fn request_bodies_of_both_framings_are_read() {
    let server = serve(echo);
    let mut client = server.connect();
    for length in [0, 1, 5000, 16_384, 20_000, 1_000_000] {
        let body = "b".repeat(length);
        client.send(post("", &body));
        assert!(client.response().text() == body, "{length}");
        let chunks: String = body
            .as_bytes()
            .chunks(7000)
            .map(|chunk| format!("{:X};x\r\n{}\r\n", chunk.len(), "b".repeat(chunk.len())))
            .collect();
        let head = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
        client.send(format!("{head}{chunks}0\r\nTrailer: x\r\n\r\n"));
        assert!(client.response().text() == body, "{length} chunked");
    }
}

#[test]
fn continue_is_sent_at_the_first_read() {
    let server = serve(echo);
    let mut client = server.connect();
    for _ in 0..2 {
        client.send(
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
        );
        assert_eq!(client.until(b"\r\n\r\n"), b"HTTP/1.1 100 Continue\r\n\r\n");
        client.send("hello");
        assert_eq!(client.response().text(), "hello");
    }
}

#[test]
fn continue_is_not_sent_without_a_read() {
    let server = serve(hello);
    let mut client = server.connect();
    client.send("POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    let response = client.response();
    assert_eq!((response.status, response.text()), (200, "POST /x"));
    // Whether the body will come is not known, so the connection cannot go on.
    assert_eq!(response.header("connection"), Some("close"));
    assert!(client.has_ended());
}

/// RFC 9110 section 15.2: it would land in the middle of the response.
#[test]
fn continue_is_not_sent_within_a_response() {
    let app = |environ: &mut Environ, start_response: StartResponse<'_>| -> Result<Body> {
        start_response("200 OK", &[])?;
        // To go on reading while the response is sent, the input is taken out.
        let mut other = Environ::from_bytes(b"GET / HTTP/1.0\r\n\r\n")?;
        std::mem::swap(environ.input(), other.input());
        Ok(Body::stream(move |out| {
            out.send(b"begin ")?;
            let mut body = Vec::new();
            other.input().read_to_end(&mut body)?;
            out.send(&body)
        }))
    };
    let server = serve(app);
    let mut client = server.connect();
    client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    let head = String::from_utf8(client.until(b"\r\n\r\n")).unwrap();
    // What is left of the body is not known any more.
    assert!(head.contains("Connection: close\r\n"), "{head}");
    assert_eq!(client.exactly(11), b"6\r\nbegin \r\n");
    client.send("hello");
    assert_eq!(client.rest(), b"5\r\nhello\r\n0\r\n\r\n");
}

#[test]
fn continue_is_not_sent_when_the_body_is_there_already() {
    let server = serve(echo);
    let mut client = server.connect();
    client.send(post("Expect: 100-continue\r\n", "hello"));
    let response = client.response();
    assert_eq!((response.status, response.text()), (200, "hello"));
    client.send("POST / HTTP/1.0\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    assert!(client.is_silent(std::time::Duration::from_millis(50)));
    client.send("hello");
    assert_eq!(client.response().text(), "hello");
}

#[test]
fn body_is_read_no_further_than_its_end() {
    let app = |environ: &mut Environ, start_response: StartResponse<'_>| {
        let mut three = [0; 3];
        environ.input().read_exact(&mut three)?;
        start_response("200 OK", &[])?;
        Ok(three.to_vec().into())
    };
    let server = serve(app);
    let mut client = server.connect();
    client.send(post("", "abcdef") + &post("", "xyz"));
    assert_eq!(client.response().text(), "abc");
    assert_eq!(client.response().text(), "xyz");
    client.send(post("", "ab"));
    assert_eq!(client.response().status, 500);
}
