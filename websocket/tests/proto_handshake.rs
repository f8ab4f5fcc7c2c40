//! The opening handshake.

use greenwood_websocket::proto::{
    Deflate, HandshakeError, RequestView, ServerHandshake, Upgrade, accept_key, select_subprotocol,
};

/// The key and its answer in RFC 6455, 1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

struct Request {
    method: &'static str,
    version: (u8, u8),
    headers: Vec<(&'static str, String)>,
}

impl RequestView for Request {
    fn method(&self) -> &str {
        self.method
    }

    fn version(&self) -> (u8, u8) {
        self.version
    }

    fn header_values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        let same = move |header: &&(&str, String)| header.0.eq_ignore_ascii_case(name);
        self.headers
            .iter()
            .filter(same)
            .map(|(_, value)| value.as_bytes())
    }
}

impl Request {
    fn good() -> Request {
        let headers = [
            ("Host", "example.com"),
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Key", KEY),
            ("Sec-WebSocket-Version", "13"),
        ];
        let headers = headers.map(|(name, value)| (name, value.to_owned())).into();
        Request {
            method: "GET",
            version: (1, 1),
            headers,
        }
    }

    fn without(mut self, name: &str) -> Request {
        self.headers.retain(|header| header.0 != name);
        self
    }

    fn with(mut self, name: &'static str, value: &str) -> Request {
        self.headers.push((name, value.to_owned()));
        self
    }

    fn replaced(self, name: &'static str, value: &str) -> Request {
        self.without(name).with(name, value)
    }

    fn check(&self) -> Result<Upgrade, HandshakeError> {
        ServerHandshake::check(self)
    }
}

#[test]
fn accept_key_is_the_rfcs() {
    assert_eq!(accept_key(KEY), ACCEPT);
}

#[test]
fn good_request_is_upgraded() {
    let upgrade = Request::good().check().unwrap();
    let head = upgrade.response_head(None).unwrap();
    assert_eq!(
        String::from_utf8(head).unwrap(),
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
        )
    );
}

#[test]
fn tokens_are_found_in_lists_and_in_any_case() {
    let request = Request::good()
        .replaced("Upgrade", "h2c , WebSocket")
        .replaced("Connection", "keep-alive,,\tUPGRADE ");
    assert!(request.check().is_ok());
}

#[test]
fn tokens_are_found_over_several_lines() {
    let request = Request::good()
        .replaced("Upgrade", "h2c")
        .with("Upgrade", "websocket")
        .replaced("Connection", "keep-alive")
        .with("Connection", "upgrade");
    assert!(request.check().is_ok());
}

#[test]
fn other_requests_are_for_the_plain_application() {
    let mut post = Request::good();
    post.method = "POST";
    let others = [
        post,
        Request::good().without("Upgrade"),
        Request::good().without("Connection"),
        Request::good().replaced("Upgrade", "h2c"),
        Request::good().replaced("Upgrade", "websockets"),
        Request::good().replaced("Upgrade", "web socket"),
        Request::good().replaced("Connection", "keep-alive"),
        Request::good().replaced("Connection", "keep-alive upgrade"),
    ];
    for request in others {
        assert!(
            !ServerHandshake::is_upgrade_request(&request),
            "{:?}",
            request.headers
        );
        assert_eq!(request.check(), Err(HandshakeError::NotWebSocket));
    }
}

#[test]
fn http_1_0_is_answered_with_400() {
    let mut request = Request::good();
    request.version = (1, 0);
    let error = request.check().unwrap_err();
    assert_eq!(error, HandshakeError::HttpVersion(1, 0));
    assert_eq!(error.status_hint(), 400);
    assert_eq!(error.body(), "WebSocket needs HTTP/1.1, not HTTP/1.0\n");
}

/// RFC 9110, 7.8: with nothing of a WebSocket but the Upgrade, HTTP/1.0 has none.
#[test]
fn upgrade_alone_is_ignored_in_http_1_0() {
    let mut request = Request::good().without("Sec-WebSocket-Key");
    assert!(ServerHandshake::is_upgrade_request(&request));
    request.version = (1, 0);
    assert!(!ServerHandshake::is_upgrade_request(&request));
    assert_eq!(request.check(), Err(HandshakeError::NotWebSocket));
}

/// What comes behind a refused handshake may be frames.
#[test]
fn every_refusal_ends_the_connection() {
    let refused = [
        Request::good().without("Sec-WebSocket-Version"),
        Request::good().replaced("Sec-WebSocket-Version", "8"),
        Request::good().without("Sec-WebSocket-Key"),
        Request::good().with("Sec-WebSocket-Key", KEY),
        Request::good().replaced("Sec-WebSocket-Key", "short"),
        Request::good().with("Sec-WebSocket-Protocol", "a b"),
        Request::good().with("Sec-WebSocket-Extensions", ";"),
        Request {
            version: (1, 0),
            ..Request::good()
        },
    ];
    for request in refused {
        let error = request.check().unwrap_err();
        let connection = error.headers().iter().find(|h| h.0 == "Connection");
        assert!(
            connection.is_some_and(|h| h.1.starts_with("close")),
            "{error}"
        );
    }
    let plain = Request::good().without("Upgrade").check().unwrap_err();
    assert!(plain.headers().contains(&("Connection", "Upgrade")));
}

#[test]
fn missing_version_is_answered_with_426() {
    let error = Request::good()
        .without("Sec-WebSocket-Version")
        .check()
        .unwrap_err();
    assert_eq!(error, HandshakeError::VersionMissing);
    assert_eq!(error.status_hint(), 426);
    assert!(error.headers().contains(&("Sec-WebSocket-Version", "13")));
}

#[test]
fn other_version_is_answered_with_426() {
    for version in ["8", "", "13, 8", "013", "+13", "13a"] {
        let error = Request::good()
            .replaced("Sec-WebSocket-Version", version)
            .check()
            .unwrap_err();
        assert_eq!(
            error,
            HandshakeError::VersionUnsupported(version.to_owned())
        );
        assert_eq!(error.status_hint(), 426);
    }
    let twice = Request::good().with("Sec-WebSocket-Version", "13");
    assert_eq!(
        twice.check(),
        Err(HandshakeError::VersionUnsupported("13, 13".to_owned()))
    );
}

#[test]
fn bad_key_is_answered_with_400() {
    let missing = Request::good()
        .without("Sec-WebSocket-Key")
        .check()
        .unwrap_err();
    assert_eq!(
        (missing.status_hint(), missing),
        (400, HandshakeError::KeyMissing)
    );
    let twice = Request::good()
        .with("Sec-WebSocket-Key", KEY)
        .check()
        .unwrap_err();
    assert_eq!(
        (twice.status_hint(), twice),
        (400, HandshakeError::KeyRepeated)
    );
    let keys = [
        "",
        "dGhlIHNhbXBsZSBub25jZQ",
        "dGhlIHNhbXBsZSBub25jZQ=",
        "dGhlIHNhbXBsZSBub25j",
        "dGhlIHNhbXBsZSBub25jZSEh",
        "dGhlIHNhbXBsZSBub25jZQ==, x",
        "dGhlIHNhbXBsZSBub25jZ-==",
        "dGhlIHNhbXBs ZSBub25jZQ==",
        "ключ",
    ];
    for key in keys {
        let error = Request::good()
            .replaced("Sec-WebSocket-Key", key)
            .check()
            .unwrap_err();
        assert!(matches!(error, HandshakeError::KeyInvalid(_)), "{key}");
        assert_eq!(error.status_hint(), 400);
    }
}

/// 22 characters picked at random: the last one has four bits that mean nothing.
#[test]
fn key_with_stray_bits_is_accepted() {
    let upgrade = Request::good()
        .replaced("Sec-WebSocket-Key", "abcdefghijklmnopqrstuv==")
        .check();
    assert_eq!(
        upgrade.unwrap().accept,
        accept_key("abcdefghijklmnopqrstuv==")
    );
}

#[test]
fn error_shows_the_bad_value_short_and_printable() {
    let key = format!("\r\n<é>{}", "x".repeat(1000));
    let body = Request::good()
        .replaced("Sec-WebSocket-Key", &key)
        .check()
        .unwrap_err()
        .body();
    assert!(
        body.trim_end()
            .bytes()
            .all(|byte| (b' '..=b'~').contains(&byte)),
        "{body}"
    );
    assert!(body.len() < 200, "{body}");
}

#[test]
fn subprotocols_are_kept_in_order_over_several_lines() {
    let upgrade = Request::good()
        .with("Sec-WebSocket-Protocol", "wamp , chat,")
        .with("Sec-WebSocket-Protocol", "v1.example")
        .check()
        .unwrap();
    assert_eq!(upgrade.subprotocols, ["wamp", "chat", "v1.example"]);
}

#[test]
fn clients_favourite_among_the_supported_is_selected() {
    let upgrade = Request::good()
        .with("Sec-WebSocket-Protocol", "a, b, c")
        .check()
        .unwrap();
    assert_eq!(upgrade.select_subprotocol(&["c", "b"]), Some("b"));
    assert_eq!(upgrade.select_subprotocol(&["B"]), None);
    assert_eq!(upgrade.select_subprotocol(&[]), None);
    assert_eq!(select_subprotocol([], &["a"]), None);
}

#[test]
fn selected_subprotocol_is_in_the_response() {
    let upgrade = Request::good()
        .with("Sec-WebSocket-Protocol", "chat")
        .check()
        .unwrap();
    let head = upgrade.response_head(Some("chat")).unwrap();
    assert!(head.ends_with(b"\r\nSec-WebSocket-Protocol: chat\r\n\r\n"));
}

#[test]
fn subprotocol_that_was_not_offered_is_not_sent() {
    let upgrade = Request::good().check().unwrap();
    let error = upgrade
        .response_head(Some("chat\r\nSet-Cookie: x"))
        .unwrap_err();
    assert!(matches!(error, HandshakeError::SubprotocolNotOffered(_)));
    assert_eq!(error.status_hint(), 500);
}

#[test]
fn malformed_subprotocol_is_answered_with_400() {
    for value in ["cha t", "chat;v=1", "chat/1", "\"chat\"", "é"] {
        let error = Request::good()
            .with("Sec-WebSocket-Protocol", value)
            .check()
            .unwrap_err();
        assert!(
            matches!(error, HandshakeError::SubprotocolInvalid(_)),
            "{value}"
        );
        assert_eq!(error.status_hint(), 400);
    }
}

#[test]
fn extensions_are_not_agreed_on_by_themselves() {
    let upgrade = Request::good()
        .with(
            "Sec-WebSocket-Extensions",
            "permessage-deflate; client_max_window_bits",
        )
        .with("Sec-WebSocket-Extensions", "x-nonsense; a=\"b\"")
        .check()
        .unwrap();
    let headers = upgrade.response_headers(None).unwrap();
    assert!(
        headers
            .iter()
            .all(|(name, _)| *name != "Sec-WebSocket-Extensions")
    );
}

/// RFC 6455, 9.1.
#[test]
fn malformed_extensions_are_refused() {
    for value in ["x;;", "x=1", "permessage-deflate; a=\"", ";"] {
        let error = Request::good()
            .with("Sec-WebSocket-Extensions", value)
            .check()
            .unwrap_err();
        assert!(
            matches!(error, HandshakeError::ExtensionsInvalid(_)),
            "{value}"
        );
        assert_eq!(error.status_hint(), 400);
    }
}

#[test]
fn deflate_is_answered_with_what_was_agreed_on() {
    let mut upgrade = Request::good()
        .with("Sec-WebSocket-Extensions", "x-other")
        .with(
            "Sec-WebSocket-Extensions",
            "permessage-deflate; server_max_window_bits=99, permessage-deflate; \
             server_max_window_bits=10",
        )
        .check()
        .unwrap();
    upgrade.accept_deflate(&Deflate::default());
    let headers = upgrade.response_headers(None).unwrap();
    assert_eq!(
        headers.last().unwrap(),
        &(
            "Sec-WebSocket-Extensions",
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
             server_max_window_bits=10"
                .to_owned()
        )
    );
    upgrade.extensions.clear();
    upgrade.accept_deflate(&Deflate::default());
    assert_eq!(upgrade.deflate, None);
}
