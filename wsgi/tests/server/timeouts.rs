//! Peers that take their time.

use std::{
    sync::mpsc,
    time::{Duration, Instant},
};

use greenwood_wsgi::{Application, Body, Environ, Result, StartResponse, WsgiServer};

use crate::client::{DEADLINE, LIMITS, echo, get, hello, post, serve_with};

const SHORT: Duration = Duration::from_millis(200);

fn long(server: WsgiServer) -> WsgiServer {
    let long = 10 * DEADLINE;
    server
        .head_timeout(long)
        .body_timeout(long)
        .keep_alive_timeout(long)
        .write_timeout(long)
}

#[test]
fn slow_head_gets_408() {
    let in_time = LIMITS.into_iter().find_map(|limit| {
        let server = serve_with(hello, |server| long(server).head_timeout(limit));
        let mut client = server.connect();
        let sent = client.try_send("GET / HTTP/1.1\r\nHost: h\r\nX: ");
        (sent.is_ok() && client.is_answered()).then_some(client)
    });
    let mut client = in_time.unwrap();
    let response = client.response();
    assert_eq!(
        (response.status, response.header("connection")),
        (408, Some("close"))
    );
    assert!(client.has_ended());
}

#[test]
fn trickling_head_gets_408() {
    let in_time = LIMITS.into_iter().find_map(|limit| {
        let server = serve_with(hello, |server| long(server).head_timeout(limit));
        let mut client = server.connect();
        let sent = client.try_send(get("/", ""));
        (sent.is_ok() && client.is_answered()).then_some((server, client, limit))
    });
    let (_server, mut client, limit) = in_time.unwrap();
    client.response();
    let began = Instant::now();
    client.send("GET / HTTP/1.1\r\nHost: h\r\nX: ");
    // The time counts from the first byte, not from the last.
    while client.is_silent(Duration::from_millis(20)) {
        assert!(began.elapsed() < DEADLINE);
        client.send("x");
    }
    assert_eq!(client.response().status, 408);
    assert!(began.elapsed() >= limit);
}

/// Beyond what the clock can count.
#[test]
fn time_outs_may_be_as_good_as_none() {
    let server = serve_with(echo, |server| {
        server
            .head_timeout(Duration::MAX)
            .body_timeout(Duration::MAX)
            .keep_alive_timeout(Duration::MAX)
            .write_timeout(Duration::MAX)
    });
    let mut client = server.connect();
    for _ in 0..2 {
        let request = post("", "hello");
        let (first, rest) = request.split_at(20);
        client.send(first);
        assert!(client.is_silent(SHORT / 4));
        let (second, third) = rest.split_at(rest.len() - 2);
        client.send(second);
        assert!(client.is_silent(SHORT / 4));
        client.send(third);
        assert_eq!(client.response().text(), "hello");
    }
    // What the application leaves of a body is read and dropped.
    let server = serve_with(hello, |server| server.body_timeout(Duration::MAX));
    let mut client = server.connect();
    client.send(post("", "hello") + &get("/", ""));
    assert_eq!(client.response().text(), "POST /");
    assert_eq!(client.response().text(), "GET /");
}

#[test]
fn connection_without_a_byte_ends_quietly() {
    let server = serve_with(hello, |server| long(server).head_timeout(SHORT));
    assert!(server.connect().has_ended());
}

#[test]
fn idle_connection_expires_quietly() {
    let server = serve_with(hello, |server| long(server).keep_alive_timeout(SHORT));
    let mut client = server.connect();
    let began = Instant::now();
    client.send(get("/", ""));
    assert_eq!(client.response().status, 200);
    assert!(client.has_ended());
    assert!(began.elapsed() >= SHORT);
    // An empty line behind a request is no beginning of the next (RFC 9112 section 2.2).
    let mut client = server.connect();
    client.send(get("/", "") + "\r\n");
    assert_eq!(client.response().status, 200);
}

#[test]
fn slow_body_gets_408() {
    let server = serve_with(echo, |server| long(server).body_timeout(SHORT));
    let mut client = server.connect();
    client.send(&post("", "hello")[..post("", "hello").len() - 2]);
    assert_eq!(client.response().status, 408);
    assert!(client.has_ended());
}

#[test]
fn slow_unread_body_closes() {
    let server = serve_with(hello, |server| long(server).body_timeout(SHORT));
    let mut client = server.connect();
    client.send(&post("", "hello")[..post("", "hello").len() - 2]);
    assert_eq!(client.response().text(), "POST /");
    assert!(client.has_ended());
}

/// An application whose body has no end but the error that it tells.
fn endless() -> (impl Application, mpsc::Receiver<String>) {
    let (ended, outcome) = mpsc::channel();
    let app = move |_: &mut Environ, start_response: StartResponse<'_>| -> Result<Body> {
        start_response("200 OK", &[])?;
        let ended = ended.clone();
        Ok(Body::stream(move |out| {
            loop {
                if let Err(error) = out.send(&[b'x'; 100_000]) {
                    // Nor does anything go out later.
                    assert!(out.send(b"more").is_err());
                    ended.send(error.to_string()).unwrap();
                    return Err(error);
                }
            }
        }))
    };
    (app, outcome)
}

#[test]
fn slow_reader_is_cut() {
    let (app, outcome) = endless();
    let server = serve_with(app, |server| long(server).write_timeout(SHORT));
    let mut client = server.connect();
    client.send(get("/", ""));
    outcome.recv_timeout(DEADLINE).unwrap();
    assert!(!client.rest_or_reset().ends_with(b"\r\n0\r\n\r\n"));
}

#[test]
fn abrupt_end_within_the_body_is_the_applications_error() {
    let (ended, outcome) = mpsc::channel();
    let app = move |environ: &mut Environ, start_response: StartResponse<'_>| -> Result<Body> {
        let result = echo(environ, start_response);
        ended
            .send(result.as_ref().map_err(|e| e.status_hint()).err())
            .unwrap();
        result
    };
    let server = serve_with(app, long);
    let mut client = server.connect();
    client.send(&post("", "hello")[..post("", "hello").len() - 2]);
    drop(client);
    assert_eq!(outcome.recv_timeout(DEADLINE).unwrap(), Some(400));
}

#[test]
#[should_panic(expected = "time-out of zero")]
fn time_out_of_zero_is_refused() {
    let _ = WsgiServer::new("127.0.0.1:0", hello).head_timeout(Duration::ZERO);
}

/// Bytes that are framing only are no body: they must not win time for who sends them.
#[test]
fn trickling_framing_of_an_unread_body_closes() {
    let server = serve_with(hello, |server| long(server).body_timeout(SHORT));
    for start in ["0\r\nA: ", "1;"] {
        let mut client = server.connect();
        let head = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
        client.send(format!("{head}{start}"));
        assert_eq!(client.response().text(), "POST /");
        let began = Instant::now();
        while client.is_silent(SHORT / 4) {
            assert!(began.elapsed() < DEADLINE, "{start}");
            if client.try_send("x").is_err() {
                break;
            }
        }
    }
}

/// A byte now and then is no pause, and yet too slow.
#[test]
fn trickling_body_gets_408() {
    let server = serve_with(echo, |server| {
        long(server).body_timeout(SHORT).min_data_rate(1_000)
    });
    let chunked = "Transfer-Encoding: chunked\r\n";
    for (headers, start) in [
        ("Content-Length: 10000\r\n", ""),
        (chunked, "ffff\r\n"),
        (chunked, "1;"),
        (chunked, "0\r\nA: "),
    ] {
        let mut client = server.connect();
        let began = Instant::now();
        client.send(format!(
            "POST / HTTP/1.1\r\nHost: h\r\n{headers}\r\n{start}"
        ));
        while client.is_silent(SHORT / 10) {
            assert!(began.elapsed() < DEADLINE, "{start}");
            client.send("x");
        }
        assert_eq!(client.response().status, 408, "{start}");
        assert!(began.elapsed() >= SHORT, "{start}");
    }
    // Nobody minds where no rate is asked for.
    let in_time = LIMITS.into_iter().find_map(|limit| {
        let server = serve_with(echo, |server| {
            long(server).body_timeout(limit).min_data_rate(0)
        });
        let mut client = server.connect();
        client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 20\r\n\r\n");
        let all_sent =
            (0..20).all(|_| client.is_silent(limit / 10) && client.try_send("x").is_ok());
        let response = client.is_answered().then(|| client.response())?;
        (all_sent && response.status == 200).then_some(response)
    });
    assert_eq!(in_time.unwrap().text(), "x".repeat(20));
}

#[test]
fn trickling_reader_is_cut() {
    let in_time = LIMITS.into_iter().any(|limit| {
        let (app, outcome) = endless();
        let server = serve_with(app, |server| {
            // More than can be read here in pieces with pauses between them.
            long(server)
                .write_timeout(4 * limit)
                .min_data_rate(100_000_000)
        });
        let mut client = server.connect();
        client.send(get("/", ""));
        let error = loop {
            if !client.skip(200_000) {
                break outcome.recv_timeout(DEADLINE).unwrap();
            }
            if let Ok(error) = outcome.recv_timeout(SHORT / 10) {
                break error;
            }
        };
        error.contains("minimum rate")
    });
    assert!(in_time);
}
