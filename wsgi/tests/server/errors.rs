//! Applications that fail.

use std::{io, time::Duration};

use greenwood_runtime::{Timeout, sleep};
use greenwood_wsgi::{Body, Environ, Error, Result, StartResponse};

use crate::client::{DEADLINE, get, serve};

/// What an application may panic with.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("the payload panics too");
    }
}

fn failing(environ: &mut Environ, start_response: StartResponse<'_>) -> Result<Body> {
    let path = environ.path().into_owned();
    match &*path {
        "/early-panic" => panic!("on purpose"),
        "/bomb" => std::panic::panic_any(Bomb),
        "/time-out" => {
            let _timeout = Timeout::start_new(Duration::from_millis(20));
            sleep(DEADLINE);
        }
        _ => {}
    }
    match &*path {
        "/silent" => return Ok("x".into()),
        "/early-error" => return Err(Error::application("on purpose")),
        "/early-io" => return Err(io::Error::other("on purpose").into()),
        "/204" => start_response("204 No Content", &[])?,
        "/304" => start_response("304 Not Modified", &[])?,
        "/split" => start_response("200 OK", &[("A", "b\r\nC: d")])?,
        "/status" => start_response("200 OK\r\nC: d", &[])?,
        "/coding" => start_response("200 OK", &[("Transfer-Encoding", "chunked")])?,
        "/short" | "/long" | "/long-stream" => {
            start_response("200 OK", &[("Content-Length", "4")])?
        }
        "/twice" => {
            start_response("200 OK", &[("A", "b")])?;
            start_response("500 Oops", &[("C", "d")])?;
        }
        _ => start_response("200 OK", &[("A", "b")])?,
    }
    Ok(match &*path {
        "/late-panic" => panic!("on purpose"),
        "/late-error" => return Err("on purpose".into()),
        "/first-chunk-panic" => {
            Body::from_iter(std::iter::once_with(|| -> String { panic!("on purpose") }))
        }
        "/stream-early-error" => Body::stream(|_| Err("on purpose".into())),
        "/stream-error" => Body::stream(|out| {
            out.send(b"some")?;
            Err("on purpose".into())
        }),
        "/stream-panic" => Body::stream(|out| {
            out.send(b"some")?;
            panic!("on purpose")
        }),
        "/stream-time-out" => Body::stream(|out| {
            out.send(b"some")?;
            let _timeout = Timeout::start_new(Duration::from_millis(20));
            sleep(DEADLINE);
            Ok(())
        }),
        "/stream-for-ever" => Body::stream(|out| {
            out.send(b"some")?;
            sleep(10 * DEADLINE);
            Ok(())
        }),
        "/short" => Body::stream(|out| out.send(b"123")),
        "/long" => "12345".into(),
        "/long-stream" => Body::stream(|out| {
            out.send(b"1234")?;
            // The error is ignored; nothing may go out all the same.
            let _ = out.send(b"5");
            let _ = out.send(b"6");
            Ok(())
        }),
        _ => "body".into(),
    })
}

#[test]
fn failure_before_the_first_byte_is_a_500() {
    let server = serve(failing);
    for path in [
        "/early-panic",
        "/bomb",
        "/time-out",
        "/late-panic",
        "/early-error",
        "/late-error",
        "/early-io",
        "/silent",
        "/204",
        "/304",
        "/split",
        "/status",
        "/coding",
        "/long",
        "/first-chunk-panic",
        "/stream-early-error",
    ] {
        let mut client = server.connect();
        client.send(get(path, ""));
        let response = client.response();
        assert_eq!(response.status, 500, "{path}");
        assert_eq!(response.header("connection"), Some("close"), "{path}");
        assert_eq!(response.text(), "Internal Server Error\n", "{path}");
        assert_eq!(response.header("a"), None, "{path}");
        assert!(client.has_ended(), "{path}");
    }
    // The others never noticed.
    assert_eq!(server.get("/", "").text(), "body");
}

#[test]
fn failure_after_the_first_byte_cuts() {
    let server = serve(failing);
    for path in ["/stream-error", "/stream-panic", "/stream-time-out"] {
        let mut client = server.connect();
        client.send(get(path, "") + &get("/", ""));
        client.until(b"\r\n\r\n");
        // No last chunk: the peer sees that it is not whole.
        assert_eq!(client.rest(), b"4\r\nsome\r\n", "{path}");
    }
}

#[test]
fn failure_after_the_first_byte_resets_where_the_end_means_success() {
    let server = serve(failing);
    for path in ["/stream-error", "/stream-panic", "/stream-time-out"] {
        let mut client = server.connect();
        client.send(format!("GET {path} HTTP/1.0\r\n\r\n"));
        // The bytes themselves may be lost by the reset.
        client.rest_before_reset();
    }
    let mut client = server.connect();
    client.send("GET /stream-for-ever HTTP/1.0\r\n\r\n");
    client.until(b"some");
    server.server.stop(Duration::ZERO);
    client.rest_before_reset();
}

#[test]
fn body_that_contradicts_its_length_cuts() {
    let server = serve(failing);
    let mut client = server.connect();
    client.send(get("/short", "") + &get("/", ""));
    client.until(b"\r\n\r\n");
    assert_eq!(client.rest(), b"123");
    let mut client = server.connect();
    client.send(get("/long-stream", "") + &get("/", ""));
    client.until(b"\r\n\r\n");
    assert_eq!(client.rest(), b"1234");
}

#[test]
fn second_start_response_replaces_the_first() {
    let server = serve(failing);
    let response = server.get("/twice", "");
    assert_eq!(
        (response.status, response.header("a"), response.header("c")),
        (500, None, Some("d"))
    );
    assert_eq!(response.text(), "body");
}

#[test]
fn failure_of_head_has_no_body() {
    let server = serve(failing);
    let mut client = server.connect();
    client.send("HEAD /early-error HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(client.response_to("HEAD").status, 500);
    assert!(client.has_ended());
}
