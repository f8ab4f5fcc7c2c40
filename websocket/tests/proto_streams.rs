//! Properties of whole streams: they mean what was sent, however they are cut and read.

mod proto_support;
#[path = "proto_support/stream.rs"]
mod stream;

use greenwood_websocket::proto::{CloseCode, CloseFrame, DIRECT_READ_MIN, Event};
use proptest::prelude::*;
use proto_support::*;
use stream::{Sender, acts, damaged, senders};

fn sizes() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![1usize..10, 1usize..30_000], 1..8)
}

/// A stream of any sender, and often a damaged one.
fn of_any_sender() -> impl Strategy<Value = (Sender, Vec<u8>)> {
    senders().prop_flat_map(|sender| (Just(sender), damaged(sender)))
}

proptest! {
    #[test]
    fn valid_stream_gives_what_was_sent(sender in senders(), acts in acts(), sizes in sizes()) {
        let mut stream = sender.play(&acts);
        stream.close(b"\x03\xe8bye");
        stream.events.push(Event::Close(Some(CloseFrame::new(CloseCode::NORMAL, "bye"))));
        let sent = (stream.events, None);
        prop_assert_eq!(&run_cut(sender.receiver(), &stream.wire, &sizes), &sent);
        prop_assert_eq!(&run_whole(sender.receiver(), &stream.wire), &sent);
    }

    #[test]
    fn cuts_change_nothing((sender, wire) in of_any_sender(), sizes in sizes()) {
        let whole = run_whole(sender.receiver(), &wire);
        prop_assert_eq!(&run_bytewise(sender.receiver(), &wire), &whole);
        prop_assert_eq!(&run_cut(sender.receiver(), &wire, &sizes), &whole);
        prop_assert_eq!(&run_sink(sender.receiver(), &wire, &sizes).0, &whole);
        prop_assert_eq!(&run_short(sender.receiver(), &wire, &sizes), &whole);
    }

    /// Whatever the peer sends, it is told a code that may be sent, if it is told one.
    #[test]
    fn every_fault_has_its_code((sender, wire) in of_any_sender()) {
        let (events, error) = run_whole(sender.receiver(), &wire);
        if let Some(error) = error {
            prop_assert!(matches!(error.close_code().as_u16(), 1002 | 1007 | 1009), "{}", error);
            prop_assert!(!matches!(events.last(), Some(Event::Close(_))));
        }
    }

    #[test]
    fn only_the_end_of_a_frame_gives_an_event(
        (sender, wire) in of_any_sender(),
        sizes in sizes(),
    ) {
        let mut decoder = sender.receiver();
        let mut rest = &wire[..];
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at(rest.len().min(*size));
            let complete = decoder.has_complete_frame(piece);
            let mut outcome = Outcome::default();
            feed(&mut decoder, piece, &mut outcome);
            // Bad text may fail before its frame ends, and what is compressed by its size too.
            let early = outcome.1.is_some_and(|error| error.close_code().as_u16() != 1002);
            prop_assert!(complete || early || outcome == Outcome::default());
            if outcome.1.is_some() || matches!(outcome.0.last(), Some(Event::Close(_))) {
                break;
            }
            rest = after;
        }
    }
}

fn patterned(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

#[test]
fn large_binary_frame_is_read_through_the_sink() {
    let payload = patterned(200_000);
    let wire = frame(FIN, OpCode::Binary, &payload);
    for size in [1, 3, 1000, 16_384, 65_536, 200_000] {
        let (outcome, sunk) = run_sink(server(), &wire, &[14, size]);
        assert_eq!(
            outcome,
            (vec![binary(&payload)], None),
            "in pieces of {size}"
        );
        assert!(
            sunk > 90_000,
            "{sunk} bytes through the sink in pieces of {size}"
        );
    }
}

#[test]
fn sink_serves_every_large_fragment() {
    let payload = patterned(100_000);
    let wire = [
        frame(MORE, OpCode::Binary, &payload[..40_001]),
        frame(FIN, OpCode::Ping, b"!"),
        frame(MORE, OpCode::Continuation, &payload[40_001..80_002]),
        frame(FIN, OpCode::Continuation, &payload[80_002..]),
    ];
    let (outcome, sunk) = run_sink(server(), &wire.concat(), &[100]);
    assert_eq!(
        outcome,
        (vec![Event::Ping(b"!".to_vec()), binary(&payload)], None)
    );
    assert!(sunk > 40_000);
}

#[test]
fn sink_that_completes_the_message_gives_the_event() {
    let payload = patterned(DIRECT_READ_MIN);
    let wire = frame(FIN, OpCode::Binary, &payload);
    let header = wire.len() - payload.len();
    let mut decoder = server();
    assert_eq!(
        decoder.decode(&mut wire[..header].to_vec()),
        (header, Ok(None))
    );
    let sink = decoder.payload_sink().unwrap();
    assert_eq!(sink.remaining, DIRECT_READ_MIN);
    sink.buffer.extend_from_slice(&wire[header..]);
    assert_eq!(
        decoder.sink_filled(DIRECT_READ_MIN),
        Ok(Some(binary(&payload)))
    );
    assert!(decoder.is_idle());
}

#[test]
fn no_sink_for_what_is_small_or_text_or_complete() {
    let header_fed = |opcode, len| {
        let mut decoder = server();
        decoder
            .decode(&mut announcement(FIN, opcode, len))
            .1
            .unwrap();
        decoder
    };
    assert!(server().payload_sink().is_none());
    assert!(
        header_fed(OpCode::Binary, DIRECT_READ_MIN as u64 - 1)
            .payload_sink()
            .is_none()
    );
    assert!(header_fed(OpCode::Text, 100_000).payload_sink().is_none());
    assert!(header_fed(OpCode::Ping, 100).payload_sink().is_none());
    assert!(
        header_fed(OpCode::Binary, DIRECT_READ_MIN as u64)
            .payload_sink()
            .is_some()
    );
}

#[test]
fn no_sink_between_fragments_and_in_control_frames_between_them() {
    let mut decoder = server();
    decoder
        .decode(&mut frame(MORE, OpCode::Binary, &patterned(50_000)))
        .1
        .unwrap();
    assert!(decoder.payload_sink().is_none());
    decoder
        .decode(&mut announcement(FIN, OpCode::Ping, 100))
        .1
        .unwrap();
    assert!(decoder.payload_sink().is_none());
}

#[test]
#[should_panic(expected = "sink_filled(100001)")]
fn sink_filled_with_more_than_is_missing_panics() {
    let mut decoder = server();
    decoder
        .decode(&mut announcement(FIN, OpCode::Binary, 100_000))
        .1
        .unwrap();
    decoder
        .payload_sink()
        .unwrap()
        .buffer
        .extend_from_slice(&[0; 100_001]);
    let _ = decoder.sink_filled(100_001);
}

#[test]
#[should_panic(expected = "sink_filled(5)")]
fn sink_filled_inside_a_control_frame_panics() {
    let mut decoder = server();
    decoder
        .decode(&mut frame(MORE, OpCode::Binary, b"binary"))
        .1
        .unwrap();
    decoder
        .decode(&mut announcement(FIN, OpCode::Ping, 5))
        .1
        .unwrap();
    let _ = decoder.sink_filled(5);
}

#[test]
fn nothing_read_through_the_sink_is_nothing() {
    assert_eq!(server().sink_filled(0), Ok(None));
}

#[test]
#[should_panic(expected = "without a payload sink")]
fn sink_filled_without_a_sink_panics() {
    let _ = server().sink_filled(1);
}
