//! A request for a WebSocket, from its bytes to the answer. What is granted is in order, and no
//! answer carries a line that the client made up.
#![no_main]

use greenwood_fuzz::byte;
use greenwood_websocket::proto::{
    Deflate, HandshakeError, RequestView, ServerHandshake, accept_key,
};
use greenwood_wsgi::proto::{HeadParser, Limits, RequestHead, Version};
use libfuzzer_sys::fuzz_target;

struct Request(RequestHead);

impl RequestView for Request {
    fn method(&self) -> &str {
        self.0.method()
    }

    fn version(&self) -> (u8, u8) {
        match self.0.version() {
            Version::Http10 => (1, 0),
            Version::Http11 => (1, 1),
        }
    }

    fn header_values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.0
            .headers()
            .filter(move |(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }
}

fuzz_target!(|data: &[u8]| {
    let mut data = data;
    let kind = byte(&mut data);
    // Most inputs are only headers behind a good request's, or all headers of one.
    let start: &[u8] = match kind & 3 {
        0 => b"",
        1 => b"GET / HTTP/1.1\r\nHost: h\r\n",
        2 => b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
        _ => {
            b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
              Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        }
    };
    let bytes = [start, data, b"\r\n\r\n"].concat();
    let Ok(Some((head, _))) = HeadParser::new().parse(&bytes, &Limits::default()) else {
        return;
    };
    let request = Request(head);
    let asks = ServerHandshake::is_upgrade_request(&request);
    match ServerHandshake::check(&request) {
        Ok(mut upgrade) => {
            assert!(asks && request.version() == (1, 1) && request.method() == "GET");
            let key: Vec<_> = request.header_values("sec-websocket-key").collect();
            let [key] = key[..] else {
                panic!("{} keys", key.len());
            };
            let key = std::str::from_utf8(key.trim_ascii()).expect("base64");
            assert_eq!((key.len(), &upgrade.accept), (24, &accept_key(key)));
            if kind & 4 != 0 {
                upgrade.accept_deflate(&Deflate::default());
            }
            let wanted = upgrade.subprotocols.last().cloned();
            let head = upgrade
                .response_head(wanted.as_deref())
                .expect("it was offered");
            check_head(
                &head,
                3 + usize::from(wanted.is_some()) + usize::from(upgrade.deflate.is_some()),
            );
            assert!(upgrade.response_head(Some("not, offered")).is_err());
        }
        Err(error) => {
            assert_eq!(asks, error != HandshakeError::NotWebSocket);
            assert!(matches!(error.status_hint(), 400 | 426), "{error}");
            let body = error.body();
            let line = body.strip_suffix('\n').expect("one line");
            assert!(
                line.bytes().all(|byte| (b' '..=b'~').contains(&byte)),
                "{line:?}"
            );
            assert!(line.len() < 400);
        }
    }
});

/// A status line, so many headers, and an empty line.
fn check_head(head: &[u8], headers: usize) {
    let text = std::str::from_utf8(head).expect("ASCII");
    let lines: Vec<&str> = text
        .strip_suffix("\r\n\r\n")
        .expect("an end")
        .split("\r\n")
        .collect();
    assert_eq!(lines.len(), 1 + headers, "{text}");
    for line in lines {
        assert!(
            line.bytes().all(|byte| (b' '..=b'~').contains(&byte)),
            "{line:?}"
        );
    }
}
