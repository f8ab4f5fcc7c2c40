//! A server's answer to the client's handshake: the same at every cut, within bounds, and what is
//! taken is what was offered.
#![no_main]

use greenwood_fuzz::byte;
use greenwood_websocket::proto::{
    ClientHandshake, Deflate, MAX_RESPONSE_HEAD, ResponseError, ResponseHead, Url,
};
use libfuzzer_sys::fuzz_target;

/// The start of a good answer: most inputs are the lines behind it.
const GOOD: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";

fuzz_target!(|data: &[u8]| {
    let mut data = data;
    let kind = byte(&mut data);
    let start: &[u8] = if kind & 1 == 0 { b"" } else { GOOD };
    let bytes = [start, data, b"\r\n\r\n"].concat();

    let url = Url::parse("ws://example.com/").expect("a URL");
    let mut handshake = ClientHandshake::new(url, *b"the sample nonce");
    handshake.subprotocol("chat").expect("a token");
    handshake.subprotocol("superchat").expect("a token");
    let settings = Deflate::default().context_takeover(kind & 2 != 0, kind & 4 != 0);
    if kind & 8 != 0 {
        handshake.deflate(settings);
    }

    let (head, used) = match ResponseHead::parse(&bytes) {
        Ok(Some(parsed)) => parsed,
        Ok(None) => return assert!(bytes.len() <= MAX_RESPONSE_HEAD),
        Err(error) => {
            assert!(matches!(
                error,
                ResponseError::Malformed(_) | ResponseError::TooLong
            ));
            return;
        }
    };
    assert!(used <= bytes.len().min(MAX_RESPONSE_HEAD));
    for end in 0..used {
        assert_eq!(ResponseHead::parse(&bytes[..end]), Ok(None), "cut at {end}");
    }
    assert_eq!(
        ResponseHead::parse(&bytes[..used]),
        Ok(Some((head.clone(), used)))
    );

    match handshake.check(&head) {
        Ok(agreed) => {
            assert_eq!(head.status(), 101);
            let lines = head.header_values("sec-websocket-accept");
            assert!(lines.eq([&b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="[..]]));
            let name = agreed.subprotocol.as_deref();
            assert!(matches!(name, None | Some("chat" | "superchat")));
            if let Some(params) = agreed.deflate {
                assert!(kind & 8 != 0, "it was not offered");
                assert!(params.server_no_context_takeover || settings.decompress_with_context);
                assert!(params.client_no_context_takeover || settings.compress_with_context);
            } else {
                let mut lines = head.header_values("sec-websocket-extensions");
                assert!(lines.all(|line| !line.iter().any(u8::is_ascii_alphanumeric)));
            }
        }
        Err(error) => {
            let text = error.to_string();
            assert!(
                text.bytes().all(|byte| (b' '..=b'~').contains(&byte)),
                "{text:?}"
            );
            assert!(text.len() < 400);
        }
    }
});
