//! What servers say instead of a WebSocket, and where clients are dropped.
#![cfg(feature = "io")]
#![expect(
    clippy::disallowed_types,
    reason = "the foreign server is on a plain thread"
)]

mod io_support;

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use greenwood_websocket::{Connect, ConnectError, Refusal, WebSocket, connect};
use io_support::{DEADLINE, NEVER, echo, news, serve, watchdog};

/// A server for one connection.
fn server<T: Send + 'static>(
    serve: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (SocketAddr, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        serve(stream)
    });
    (address, server)
}

fn refused(result: Result<WebSocket, ConnectError>) -> Box<Refusal> {
    match result {
        Err(ConnectError::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

/// What comes of an answer after which the server keeps the connection open, as HTTP/1.1 has it.
fn refusal_of(answer: &'static str) -> Box<Refusal> {
    let (address, server) = server(move |mut stream| {
        stream.write_all(answer.as_bytes()).unwrap();
        // Until the client goes.
        stream.read_to_end(&mut Vec::new()).ok();
    });
    let began = Instant::now();
    let asked = Connect::to(format!("ws://{address}/")).timeout(NEVER);
    let refusal = refused(asked.connect());
    assert!(began.elapsed() < DEADLINE, "{answer:?}");
    server.join().unwrap();
    refusal
}

#[test]
fn chunked_body_of_a_refusal_comes_without_its_framing() {
    let _watchdog = watchdog();
    let refusal = refusal_of(
        "HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n\
         3\r\nnot\r\n6;x=y\r\n there\r\n0\r\nTrailer: x\r\n\r\n",
    );
    assert_eq!(refusal.status(), 404);
    assert_eq!(refusal.body(), b"not there");
}

#[test]
fn broken_chunks_of_a_refusal_end_its_body() {
    let _watchdog = watchdog();
    let refusal =
        refusal_of("HTTP/1.1 500 x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nnot\r\nxyz\r\n");
    assert_eq!(refusal.body(), b"not");
}

#[test]
fn refusal_that_can_have_no_body_is_not_waited_for() {
    let _watchdog = watchdog();
    for (answer, status) in [
        ("HTTP/1.1 204 No Content\r\n\r\n", 204),
        (
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
            304,
        ),
        ("HTTP/1.1 401 x\r\nContent-Length: 0\r\n\r\n", 401),
    ] {
        let refusal = refusal_of(answer);
        assert_eq!(refusal.status(), status);
        assert_eq!(refusal.body(), b"");
    }
}

#[test]
fn interim_responses_are_passed_over() {
    let _watchdog = watchdog();
    let refusal = refusal_of(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n\
         HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno more than that",
    );
    assert_eq!((refusal.status(), refusal.body()), (403, &b"no"[..]));
}

#[test]
fn refusal_comes_even_if_the_request_was_not_read() {
    let _watchdog = watchdog();
    let (address, server) = server(|mut stream| {
        stream.read_exact(&mut [0; 1000]).unwrap();
        let answer =
            "HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Length: 5\r\n\r\nlarge";
        stream.write_all(answer.as_bytes()).unwrap();
        // With unread data, that is a reset.
    });
    let request = Connect::to(format!("ws://{address}/")).header("X", "x".repeat(16 << 20));
    let refusal = refused(request.connect());
    assert_eq!((refusal.status(), refusal.body()), (431, &b"large"[..]));
    server.join().unwrap();
}

#[test]
fn no_limit_is_a_limit_too() {
    let server = serve(echo);
    let ws = Connect::to(format!("ws://localhost:{}/", server.address.port()))
        .timeout(Duration::MAX)
        .connect()
        .unwrap();
    ws.send("x").unwrap();
    assert_eq!(ws.receive().unwrap(), Some("x".into()));
}

#[test]
fn last_handle_may_go_with_its_thread() {
    thread_local! {
        static KEPT: RefCell<Option<WebSocket>> = const { RefCell::new(None) };
    }
    let (tell, told) = news();
    let server = serve(move |ws| {
        tell.send(ws.receive().map(|_| ws.disconnect())).unwrap();
        Ok(())
    });
    let url = format!("ws://{}/", server.address);
    // First of all, so that it outlives what the connection has in the thread's memory.
    let thread = thread::spawn(move || {
        KEPT.with(|_| ());
        KEPT.set(Some(connect(&url).unwrap()));
    });
    thread.join().unwrap();
    let end = told.next().unwrap().unwrap();
    assert_eq!(end.close_code().as_u16(), 1001);
}
