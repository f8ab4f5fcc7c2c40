//! The client's side of the opening handshake.

use greenwood_websocket::proto::{
    Agreement, ClientHandshake, Deflate, MAX_RESPONSE_HEAD, RequestError, ResponseError,
    ResponseHead, Url,
};

/// RFC 6455, 1.3.
const NONCE: [u8; 16] = *b"the sample nonce";
const GOOD: &str = "HTTP/1.1 101 Switching Protocols\r\n\
    Upgrade: websocket\r\n\
    Connection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

fn client() -> ClientHandshake {
    let url = Url::parse("ws://example.com:8000/chat?room=1").unwrap();
    ClientHandshake::new(url, NONCE)
}

fn parse(response: &str) -> ResponseHead {
    let (head, used) = ResponseHead::parse(response.as_bytes()).unwrap().unwrap();
    assert_eq!(used, response.len());
    head
}

fn check(client: &ClientHandshake, response: &str) -> Result<Agreement, ResponseError> {
    client.check(&parse(response))
}

/// A good answer with further lines.
fn with(lines: &str) -> String {
    GOOD.replacen("\r\n\r\n", &format!("\r\n{lines}\r\n\r\n"), 1)
}

#[test]
fn request_has_what_the_rfc_asks_for() {
    let mut client = client();
    client.subprotocol("chat").unwrap();
    client.subprotocol("superchat").unwrap();
    client.deflate(Deflate::default());
    client.header("Origin", "http://example.com").unwrap();
    let request = String::from_utf8(client.request()).unwrap();
    assert_eq!(
        request,
        format!(
            "GET /chat?room=1 HTTP/1.1\r\n\
             Host: example.com:8000\r\n\
             Upgrade: websocket\r\n\
             Connection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Protocol: chat, superchat\r\n\
             Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; \
             client_no_context_takeover; client_max_window_bits\r\n\
             User-Agent: greenwood/{}\r\n\
             Origin: http://example.com\r\n\r\n",
            env!("CARGO_PKG_VERSION")
        )
    );
}

#[test]
fn given_headers_take_the_place_of_our_own() {
    let url = Url::parse("ws://me:pass@example.com/").unwrap();
    let mut client = ClientHandshake::new(url, NONCE);
    let own = String::from_utf8(client.request()).unwrap();
    assert!(
        own.contains("Authorization: Basic bWU6cGFzcw==\r\n"),
        "{own}"
    );
    for (name, value) in [
        ("HOST", "other"),
        ("authorization", "Bearer x"),
        ("User-Agent", "y"),
    ] {
        client.header(name, value).unwrap();
    }
    let request = String::from_utf8(client.request()).unwrap();
    for (name, value) in [
        ("host", "other"),
        ("authorization", "Bearer x"),
        ("user-agent", "y"),
    ] {
        let lines = request.lines().filter_map(|line| line.split_once(": "));
        let values: Vec<&str> = lines
            .filter(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
            .collect();
        assert_eq!(values, [value], "{request}");
    }
}

#[test]
fn headers_that_would_change_the_request_are_refused() {
    for (name, value, own) in [
        ("", "x", false),
        ("a b", "x", false),
        ("a:", "x", false),
        ("a\r\nb", "x", false),
        ("a", "x\r\nb: y", false),
        ("a", "x\n", false),
        ("a", "x\0", false),
        ("a", " x", false),
        ("Upgrade", "h2c", true),
        ("connection", "close", true),
        ("Sec-WebSocket-Key", "x", true),
        ("sec-websocket-protocol", "x", true),
        ("Content-Length", "5", true),
        ("Transfer-Encoding", "chunked", true),
    ] {
        let mut client = client();
        let expected = RequestError::Header {
            name: name.to_owned(),
            is_own: own,
        };
        assert_eq!(
            client.header(name, value),
            Err(expected),
            "{name:?}: {value:?}"
        );
    }
    let mut client = client();
    client.header("X-Empty", "").unwrap();
    client.header("X-Tab", "a\tb").unwrap();
    for name in ["", "a b", "a,b", "\u{f6}"] {
        assert!(client.subprotocol(name).is_err(), "{name:?}");
    }
    client.subprotocol("a").unwrap();
    assert!(client.subprotocol("a").is_err());
}

#[test]
fn good_answers_are_taken() {
    let plain = check(&client(), GOOD).unwrap();
    assert_eq!((plain.subprotocol, plain.deflate), (None, None));
    // Case and lists are the server's choice (RFC 9110, 5.1 and 7.8).
    let odd = "HTTP/1.1 101 \r\n\
        upgrade:WebSocket\r\n\
        CONNECTION: keep-alive,\r\n\
        Connection: , UPGRADE\r\n\
        sec-websocket-accept:   s3pPLMBiTxaQ9kYGzzhZRbK+xOo=  \r\n\
        Server: x\r\n\r\n";
    check(&client(), odd).unwrap();
}

#[test]
fn answers_that_no_server_may_give_are_refused() {
    let accept = |value: &str| GOOD.replace("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", value);
    let line = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
    for (response, error) in [
        (
            GOOD.replace("1.1 101", "1.0 101"),
            ResponseError::HttpVersion(1, 0),
        ),
        (
            GOOD.replace("Upgrade: websocket\r\n", ""),
            ResponseError::Upgrade,
        ),
        (GOOD.replace(": websocket", ": h2c"), ResponseError::Upgrade),
        (
            GOOD.replace(": websocket", ": websocket, h2c"),
            ResponseError::Upgrade,
        ),
        (
            GOOD.replace(": websocket", ": h2c, websocket"),
            ResponseError::Upgrade,
        ),
        (
            GOOD.replace("Connection: Upgrade\r\n", ""),
            ResponseError::Connection,
        ),
        (
            GOOD.replace("Connection: Upgrade", "Connection: close"),
            ResponseError::Connection,
        ),
        (GOOD.replace(line, "X: y"), ResponseError::Accept),
        (with(line), ResponseError::Accept),
        (accept(""), ResponseError::Accept),
        // Base64 has a case, and the key is not the accept.
        (
            accept("S3PPLMBITXAQ9KYGZZHZRBK+XOO="),
            ResponseError::Accept,
        ),
        (accept("dGhlIHNhbXBsZSBub25jZQ=="), ResponseError::Accept),
        (GOOD.replace("101", "200"), ResponseError::Status(200)),
        (GOOD.replace("101", "404"), ResponseError::Status(404)),
        (
            "HTTP/1.1 301 x\r\nLocation: ws://other/\r\n\r\n".to_owned(),
            ResponseError::Status(301),
        ),
    ] {
        assert_eq!(check(&client(), &response), Err(error), "{response}");
    }
}

#[test]
fn subprotocol_must_be_one_of_those_offered() {
    let mut client = client();
    client.subprotocol("a").unwrap();
    client.subprotocol("b").unwrap();
    let answer = |lines: &str| check(&client, &with(lines)).map(|agreed| agreed.subprotocol);
    assert_eq!(answer("X: y"), Ok(None));
    assert_eq!(
        answer("Sec-WebSocket-Protocol: b"),
        Ok(Some("b".to_owned()))
    );
    for lines in [
        "Sec-WebSocket-Protocol: c",
        "Sec-WebSocket-Protocol: A",
        "Sec-WebSocket-Protocol:",
        "Sec-WebSocket-Protocol: a, b",
        "Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: a",
    ] {
        assert!(
            matches!(answer(lines), Err(ResponseError::Subprotocol(_))),
            "{lines}"
        );
    }
}

#[test]
fn extensions_must_be_what_was_offered() {
    let answer = |client: &ClientHandshake, value: &str| {
        let lines = format!("Sec-WebSocket-Extensions: {value}");
        check(client, &with(&lines)).map(|agreed| agreed.deflate.is_some())
    };
    let plain = client();
    assert_eq!(answer(&plain, ""), Ok(false));
    let mut deflating = client();
    deflating.deflate(Deflate::default());
    let good = "permessage-deflate; server_no_context_takeover";
    assert_eq!(answer(&deflating, good), Ok(true));
    assert_eq!(check(&deflating, GOOD).unwrap().deflate, None);
    for (client, value) in [
        (&plain, good),
        (&plain, "x-webkit-deflate-frame"),
        (&deflating, "foo"),
        (
            &deflating,
            "permessage-deflate; server_no_context_takeover, foo",
        ),
        (
            &deflating,
            "permessage-deflate; server_no_context_takeover; unknown",
        ),
        // Not as asked: context was declined.
        (&deflating, "permessage-deflate"),
        (
            &deflating,
            "permessage-deflate; server_no_context_takeover; server_max_window_bits=16",
        ),
        (
            &deflating,
            "permessage-deflate; server_no_context_takeover; client_max_window_bits",
        ),
        (&deflating, ";"),
    ] {
        let answer = answer(client, value);
        assert!(
            matches!(answer, Err(ResponseError::Extension(_))),
            "{value}"
        );
    }
    // Twice is once too often, in one line or two.
    for lines in [
        format!("Sec-WebSocket-Extensions: {good}, {good}"),
        format!("Sec-WebSocket-Extensions: {good}\r\nSec-WebSocket-Extensions: {good}"),
    ] {
        let answer = check(&deflating, &with(&lines));
        assert!(
            matches!(answer, Err(ResponseError::Extension(_))),
            "{lines}"
        );
    }
}

#[test]
fn response_is_read_at_any_cut() {
    let response = with("X: y") + "frames";
    let end = response.len() - "frames".len();
    for cut in 0..end {
        assert_eq!(ResponseHead::parse(&response.as_bytes()[..cut]), Ok(None));
    }
    for cut in end..=response.len() {
        let (head, used) = ResponseHead::parse(&response.as_bytes()[..cut])
            .unwrap()
            .unwrap();
        assert_eq!(
            (head.status(), head.reason(), used),
            (101, "Switching Protocols", end)
        );
        assert_eq!(head.header_values("x").next(), Some(&b"y"[..]));
    }
}

/// RFC 9112, 5.2: who asks has to take a folded line for one.
#[test]
fn folded_lines_of_an_answer_are_joined() {
    let folded = GOOD
        .replace(": websocket", ":\r\n websocket")
        .replace("Connection: ", "Connection: keep-alive,\r\n\t  ")
        .replace("\r\n\r\n", "\r\nX: a \r\n  b\n c\r\n \r\n\r\n");
    for cut in 0..folded.len() {
        let part = ResponseHead::parse(&folded.as_bytes()[..cut]);
        assert_eq!(part, Ok(None), "at {cut}");
    }
    let response = parse(&folded);
    assert_eq!(response.header_values("x").next(), Some(&b"a b c"[..]));
    assert!(client().check(&response).is_ok());
    let first = GOOD.replacen("\r\n", "\r\n Folded: what\r\n", 1);
    assert!(matches!(
        ResponseHead::parse(first.as_bytes()),
        Err(ResponseError::Malformed(_))
    ));
}

#[test]
fn interim_responses_are_passed_over() {
    let early = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n";
    let response = format!("{early}{GOOD}");
    for cut in 0..response.len() {
        assert_eq!(ResponseHead::parse(&response.as_bytes()[..cut]), Ok(None));
    }
    assert!(check(&client(), &response).is_ok());
}

#[test]
fn endless_and_foreign_answers_are_refused() {
    let endless = format!("HTTP/1.1 101 x\r\nX: {}", "y".repeat(MAX_RESPONSE_HEAD));
    let interim = "HTTP/1.1 100 Continue\r\n\r\n".repeat(MAX_RESPONSE_HEAD / 20);
    for response in [endless, interim] {
        let parsed = ResponseHead::parse(response.as_bytes());
        assert_eq!(parsed, Err(ResponseError::TooLong));
    }
    let many = format!("HTTP/1.1 101 x\r\n{}\r\n", "X: y\r\n".repeat(200));
    for response in [
        "SSH-2.0-OpenSSH_9.2\r\n",
        "\x15\x03\x01\0\x02\x02\x0a",
        &many,
    ] {
        let parsed = ResponseHead::parse(response.as_bytes());
        assert!(
            matches!(parsed, Err(ResponseError::Malformed(_))),
            "{response:?}"
        );
    }
}
