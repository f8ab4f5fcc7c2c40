//! The payload of a close frame, and text that comes in pieces: judged by std.
#![no_main]

use greenwood_fuzz::Cuts;
use greenwood_websocket::proto::{CloseHandshake, Utf8Validator, parse_close_payload};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut data = data;
    let cuts = Cuts::take(&mut data);
    close(data);
    text(data, cuts);
});

fn close(payload: &[u8]) {
    let Ok(frame) = parse_close_payload(payload) else {
        let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
        let allowed = code.is_some_and(|c| matches!(c, 1000..=1003 | 1007..=1014 | 3000..=4999));
        assert!(!payload.is_empty());
        assert!(!allowed || std::str::from_utf8(&payload[2..]).is_err());
        return;
    };
    match &frame {
        None => assert!(payload.is_empty()),
        Some(frame) if payload.len() <= 125 => {
            assert_eq!(frame.encode().as_deref(), Ok(payload));
        }
        Some(frame) => assert!(frame.encode().is_err()),
    }
    // The answer has the code and nothing else, and may be sent.
    let reply = CloseHandshake::new()
        .on_close_received(frame)
        .expect("an answer");
    assert_eq!(reply, &payload[..payload.len().min(2)]);
}

fn text(bytes: &[u8], mut cuts: Cuts<'_>) {
    let judge = std::str::from_utf8(bytes);
    let mut validator = Utf8Validator::new();
    let (mut rest, mut at) = (bytes, 0);
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.len().min(cuts.next_size()));
        at += piece.len();
        let so_far = std::str::from_utf8(&bytes[..at]);
        let hopeless = so_far.is_err_and(|error| error.error_len().is_some());
        match validator.push(piece) {
            Ok(()) => assert!(!hopeless, "a bad byte has passed"),
            Err(error) => {
                assert!(hopeless, "an unfinished character is no error");
                let up_to = judge.expect_err("bad").valid_up_to();
                assert_eq!(error.valid_up_to, up_to as u64);
                return;
            }
        }
        rest = after;
    }
    assert_eq!(validator.finish().is_ok(), judge.is_ok());
}
