//! The opening handshake over the wire: what is granted, what is refused and how.
#![cfg(feature = "io")]

mod io_support;

use greenwood_websocket::{WebSocketEnviron, WebSocketHandler};
use greenwood_wsgi::{Body, Environ, Result, StartResponse};
use io_support::{KEY, Server, close, handshake, serve_app, text};

/// Says what was agreed on, then echoes.
fn app(environ: &mut Environ, start_response: StartResponse<'_>) -> Result<Body> {
    if let Some(ws) = environ.websocket() {
        ws.send(format!("{:?}", ws.subprotocol()))?;
        while let Some(message) = ws.receive()? {
            ws.send(message)?;
        }
        return Ok(Body::empty());
    }
    start_response("200 OK", &[("Content-Type", "text/plain")])?;
    Ok(format!("plain {} {}", environ.method(), environ.path()).into())
}

fn server(handler: WebSocketHandler) -> Server {
    serve_app(handler, app)
}

/// The refusal of a handshake. What was sent behind it, frames or a request that poses as some, is
/// not looked at: the connection ends (see `HandshakeError::headers`).
#[track_caller]
fn refused(server: &Server, request: &str) -> (String, String) {
    let mut peer = server.connect();
    let hidden = "GET /hidden HTTP/1.1\r\nHost: h\r\n\r\n";
    peer.write([request.as_bytes(), hidden.as_bytes(), &text(hidden)].concat());
    let (head, body) = peer.response();
    let connection = head.to_lowercase();
    assert!(connection.contains("\r\nconnection: close"), "{head}");
    peer.expect_end();
    (head, body)
}

/// The answer to a plain request, after which the connection serves another.
#[track_caller]
fn plain(server: &Server, request: &str) -> (String, String) {
    let mut peer = server.connect();
    peer.write(request);
    let answer = peer.response();
    peer.write("GET /after HTTP/1.1\r\nHost: h\r\n\r\n");
    let (head, body) = peer.response();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(body, "plain GET /after");
    answer
}

fn has(head: &str, line: &str) -> bool {
    head.to_lowercase()
        .split("\r\n")
        .any(|l| l == line.to_lowercase())
}

#[test]
fn answer_is_the_rfcs() {
    let server = server(WebSocketHandler::new());
    let mut peer = server.connect();
    peer.write(handshake(""));
    let head = peer.accepted();
    for line in ["Upgrade: websocket", "Connection: Upgrade"] {
        assert!(has(&head, line), "{head}");
    }
    for name in [
        "sec-websocket-protocol:",
        "sec-websocket-extensions:",
        "content-length:",
    ] {
        assert!(!head.to_lowercase().contains(name), "{head}");
    }
    peer.expect(io_support::TEXT, "None");
    peer.close();
}

#[test]
fn header_case_and_lists_do_not_matter() {
    let server = server(WebSocketHandler::new());
    for request in [
        format!(
            "GET / HTTP/1.1\r\nHOST: h\r\nUPGRADE: WebSocket\r\nCONNECTION: UPGRADE\r\n\
             SEC-WEBSOCKET-VERSION: 13\r\nSEC-WEBSOCKET-KEY: {KEY}\r\n\r\n"
        ),
        format!(
            "GET / HTTP/1.1\r\nhost: h\r\nupgrade: h2c, websocket\r\nconnection: keep-alive\r\n\
             connection: keep-alive, upgrade\r\nsec-websocket-version:13\r\nsec-websocket-key:{KEY}\r\n\r\n"
        ),
    ] {
        let mut peer = server.connect();
        peer.write(request);
        peer.accepted();
        peer.close();
    }
}

#[test]
fn versions_other_than_13_get_426_and_the_version() {
    let server = server(WebSocketHandler::new());
    for line in [
        "",
        "Sec-WebSocket-Version: 12\r\n",
        "Sec-WebSocket-Version: 8, 13\r\n",
        "Sec-WebSocket-Version: x\r\n",
    ] {
        let request = handshake("").replace("Sec-WebSocket-Version: 13\r\n", line);
        let (head, body) = refused(&server, &request);
        assert!(
            head.starts_with("HTTP/1.1 426 Upgrade Required\r\n"),
            "{head}"
        );
        assert!(has(&head, "Sec-WebSocket-Version: 13"), "{head}");
        assert!(has(&head, "Upgrade: websocket"), "{head}");
        assert!(body.contains("Sec-WebSocket-Version"), "{body}");
    }
}

#[test]
fn bad_keys_get_400() {
    let server = server(WebSocketHandler::new());
    let good = format!("Sec-WebSocket-Key: {KEY}\r\n");
    let twice = format!("{good}{good}");
    for line in [
        "",
        "Sec-WebSocket-Key:\r\n",
        "Sec-WebSocket-Key: short\r\n",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAAAAAAAA\r\n",
        "Sec-WebSocket-Key: !!!!!!!!!!!!!!!!!!!!!!==\r\n",
        &twice,
    ] {
        let (head, body) = refused(&server, &handshake("").replace(&good, line));
        assert!(head.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{head}");
        assert!(body.contains("Sec-WebSocket-Key"), "{body}");
    }
}

/// RFC 6455, 4.2.1.
#[test]
fn http_1_0_can_not_be_upgraded() {
    let server = server(WebSocketHandler::new());
    let mut peer = server.connect();
    peer.write(handshake("").replace("HTTP/1.1", "HTTP/1.0"));
    let (head, body) = peer.response();
    assert!(head.contains(" 400 Bad Request\r\n"), "{head}");
    assert!(body.contains("HTTP/1.1"), "{body}");
    peer.expect_end();
}

/// RFC 9110, 7.8: where there is no more than the Upgrade header.
#[test]
fn upgrade_in_http_1_0_is_ignored() {
    let server = server(WebSocketHandler::new());
    let mut peer = server.connect();
    peer.write("GET /x HTTP/1.0\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n");
    let (head, body) = peer.response();
    assert!(head.contains(" 200 OK\r\n"), "{head}");
    assert_eq!(body, "plain GET /x");
    peer.expect_end();
}

#[test]
fn other_requests_are_the_applications() {
    let server = server(WebSocketHandler::new().origin(|_, _| false));
    for request in [
        "GET /x HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(),
        handshake("").replace("Upgrade: websocket\r\n", ""),
        handshake("").replace("Upgrade: websocket\r\n", "Upgrade: h2c\r\n"),
        handshake("").replace("Connection: Upgrade\r\n", "Connection: keep-alive\r\n"),
        handshake("").replace("GET", "POST"),
    ] {
        let (head, body) = plain(&server, &request);
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(body.starts_with("plain "), "{body}");
    }
    let mut peer = server.connect();
    peer.write("GET /old HTTP/1.0\r\n\r\n");
    assert_eq!(peer.response().1, "plain GET /old");
}

#[test]
fn clients_favourite_subprotocol_is_agreed_on() {
    let server = server(WebSocketHandler::new().subprotocols(["chat.v2", "chat.v1"]));
    for (lines, agreed) in [
        ("Sec-WebSocket-Protocol: chat.v1, chat.v2\r\n", "chat.v1"),
        (
            "Sec-WebSocket-Protocol: other\r\nSec-WebSocket-Protocol: chat.v2\r\nSec-WebSocket-Protocol: chat.v1\r\n",
            "chat.v2",
        ),
    ] {
        let mut peer = server.connect();
        peer.write(handshake(lines));
        let head = peer.accepted();
        assert!(
            has(&head, &format!("Sec-WebSocket-Protocol: {agreed}")),
            "{head}"
        );
        peer.expect(io_support::TEXT, format!("Some({agreed:?})"));
        peer.close();
    }
    for lines in [
        "",
        "Sec-WebSocket-Protocol: other\r\n",
        "Sec-WebSocket-Protocol: CHAT.V1\r\n",
    ] {
        let mut peer = server.connect();
        peer.write(handshake(lines));
        let head = peer.accepted();
        assert!(!head.contains("Protocol:"), "{head}");
        peer.expect(io_support::TEXT, "None");
        peer.close();
    }
    let (head, _) = refused(&server, &handshake("Sec-WebSocket-Protocol: a b\r\n"));
    assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
}

#[test]
#[should_panic(expected = "is not a token")]
fn subprotocol_that_is_no_token_is_the_programmers_mistake() {
    let _ = WebSocketHandler::new().subprotocols(["a b"]);
}

#[test]
fn origin_is_checked_by_the_user() {
    let allow = |origin: Option<&str>, environ: &Environ| {
        assert_eq!(environ.path(), "/ws");
        origin.is_none_or(|origin| origin == "https://example.org")
    };
    let server = server(WebSocketHandler::new().origin(allow));
    for lines in ["", "Origin: https://example.org\r\n"] {
        let mut peer = server.connect();
        peer.write(handshake(lines));
        peer.accepted();
        peer.close();
    }
    for lines in ["Origin: https://evil.example\r\n", "Origin: null\r\n"] {
        let (head, body) = refused(&server, &handshake(lines));
        assert!(head.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{head}");
        assert!(!body.is_empty());
    }
}

/// An origin that is there but can't be read must not pass for none.
#[test]
fn unreadable_or_repeated_origins_are_refused() {
    let server = server(
        WebSocketHandler::new()
            .origin(|origin, _| origin.is_none_or(|origin| origin == "https://example.org")),
    );
    for lines in [
        &b"Origin: https://\xff.example\r\n"[..],
        b"Origin: https://example.org\r\nOrigin: https://evil.example\r\n",
    ] {
        let mut request = handshake("").into_bytes();
        request.truncate(request.len() - 2);
        request.extend_from_slice(lines);
        request.extend_from_slice(b"\r\n");
        let mut peer = server.connect();
        peer.write(request);
        let (head, _) = peer.response();
        assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    }
}

#[test]
fn origin_check_that_panics_ends_its_request_only() {
    let server = server(WebSocketHandler::new().origin(|_, _| panic!("on purpose")));
    let mut peer = server.connect();
    peer.write(handshake(""));
    assert!(peer.head().starts_with("HTTP/1.1 500 "));
    let mut peer = server.connect();
    peer.write("GET /x HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(peer.response().1, "plain GET /x");
}

#[test]
fn upgrade_may_follow_other_requests_of_the_connection() {
    let server = server(WebSocketHandler::new());
    let mut peer = server.connect();
    let requests = format!("GET /1 HTTP/1.1\r\nHost: h\r\n\r\n{}", handshake(""));
    peer.write([requests.as_bytes(), &text("early"), &close(1000)].concat());
    assert_eq!(peer.response().1, "plain GET /1");
    peer.accepted();
    peer.expect(io_support::TEXT, "None");
    peer.expect(io_support::TEXT, "early");
    assert_eq!(peer.close_code(), 1000);
    peer.expect_end();
}
