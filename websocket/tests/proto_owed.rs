//! How much of a refused frame the peer has still to send: `Decoder::owed`.

mod proto_support;

use greenwood_websocket::proto::{
    Decoder, Deflate, DeflateParams, Extension, Limits, ProtocolError, Role, Unit,
};
use proto_support::*;

/// No message is longer for these decoders, and no frame.
const MAX: usize = 40_000;

fn limited() -> Decoder {
    Decoder::new(Role::Server, Limits::default().max_message_size(MAX))
}

fn agreed() -> DeflateParams {
    let offer = Extension::parse_list(b"permessage-deflate").expect("a good offer");
    let params = Deflate::default().accept(&offer);
    params.expect("an offer that can be accepted")
}

/// Feeds `start` at once and in pieces, and looks after each piece that is behind the error: what
/// is owed then is the rest of the frame.
fn check(make: impl Fn() -> Decoder, start: &[u8], refused: &[u8], error: ProtocolError) {
    let wire = [start, refused].concat();
    for size in [1, 3, 1_000, 16_384, wire.len()] {
        let mut decoder = make();
        let mut outcome = Outcome::default();
        let mut at = 0;
        while outcome.1.is_none() {
            assert!(at < wire.len(), "pieces of {size}: no error");
            assert_eq!(decoder.owed(), 0, "pieces of {size}: owed before the error");
            let end = wire.len().min(at + size);
            feed(&mut decoder, &wire[at..end], &mut outcome);
            at = end;
        }
        assert_eq!(outcome.1, Some(error), "pieces of {size}");
        assert_eq!(
            decoder.owed(),
            wire.len() - at,
            "pieces of {size}, {at} fed"
        );
    }
}

#[test]
fn rest_of_a_frame_over_the_limit_is_owed() {
    let len = MAX as u64 + 1;
    let error = ProtocolError::MessageTooLarge { len, max: MAX };
    let refused = frame(FIN, OpCode::Binary, &vec![0; MAX + 1]);
    check(limited, &[], &refused, error);
    check(limited, &frame(FIN, OpCode::Text, b"good"), &refused, error);
}

#[test]
fn rest_of_a_fragment_over_the_limit_is_owed_and_not_that_of_its_message() {
    let error = ProtocolError::MessageTooLarge {
        len: MAX as u64 + 100,
        max: MAX,
    };
    let start = frame(MORE, OpCode::Binary, &vec![0; MAX - 100]);
    let refused = frame(MORE, OpCode::Continuation, &[0; 200]);
    check(limited, &start, &refused, error);
}

#[test]
fn rest_behind_a_byte_that_is_no_text_is_owed() {
    let mut payload = vec![b'a'; 30_000];
    payload[20_000] = 0xff;
    let refused = frame(FIN, OpCode::Text, &payload);
    let error = ProtocolError::InvalidText {
        valid_up_to: 20_000,
    };
    check(limited, &[], &refused, error);
    // In parts, of which some are given before the error.
    let mut decoder = limited();
    decoder.deliver(Unit::Chunks).expect("nothing has come");
    let mut outcome = Outcome::default();
    feed(&mut decoder, &refused[..25_000], &mut outcome);
    assert!(outcome.1.is_some());
    assert_eq!(decoder.owed(), refused.len() - 25_000);
}

#[test]
fn rest_of_an_unmasked_frame_is_owed() {
    let refused = raw_frame(FIN, 0, OpCode::Binary, &[0; 30_000], None);
    let mut decoder = limited();
    let mut outcome = Outcome::default();
    feed(&mut decoder, &refused[..100], &mut outcome);
    assert_eq!(outcome.1, Some(ProtocolError::Unmasked));
    assert_eq!(decoder.owed(), refused.len() - 100);
}

#[test]
fn rest_of_a_message_that_grows_too_long_is_owed() {
    let packed = {
        let mut deflater = agreed().deflater(Role::Client, &Deflate::default());
        let mut packed = Vec::new();
        // It becomes half as long, no matter which part: the limit is passed before its end.
        let mut state = 1u32;
        let payload: Vec<u8> = (0..MAX + MAX / 16)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 28) as u8
            })
            .collect();
        assert!(deflater.compress(&payload, &mut packed));
        packed
    };
    let refused = raw_frame(FIN, 4, OpCode::Binary, &packed, Some(KEY));
    let mut decoder = limited().with_deflate(agreed().inflater(Role::Server));
    let mut outcome = Outcome::default();
    let mut at = 0;
    while outcome.1.is_none() {
        let end = refused.len().min(at + 1_000);
        feed(&mut decoder, &refused[at..end], &mut outcome);
        at = end;
    }
    assert!(
        matches!(outcome.1, Some(ProtocolError::MessageTooLarge { .. })),
        "{outcome:?}"
    );
    assert!(at < refused.len());
    assert_eq!(decoder.owed(), refused.len() - at);
}

#[test]
fn a_length_that_nobody_can_send_is_owed_as_it_is() {
    let mut decoder = limited();
    let mut outcome = Outcome::default();
    let most = i64::MAX as u64;
    feed(
        &mut decoder,
        &announcement(FIN, OpCode::Binary, most),
        &mut outcome,
    );
    assert_eq!(decoder.owed() as u64, most);
}

#[test]
fn nothing_is_owed_where_no_frame_was_refused() {
    let mut decoder = limited();
    let mut outcome = Outcome::default();
    let half = frame(FIN, OpCode::Binary, &[0; 1_000]);
    feed(&mut decoder, &half[..500], &mut outcome);
    assert_eq!((decoder.owed(), outcome.1), (0, None));
    feed(&mut decoder, &half[500..], &mut outcome);
    feed(
        &mut decoder,
        &frame(FIN, OpCode::Close, &[3, 0xe8]),
        &mut outcome,
    );
    assert!(decoder.is_over());
    assert_eq!((decoder.owed(), outcome.1), (0, None));
}
