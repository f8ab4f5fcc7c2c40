//! Messages in parts: as they arrive, and frame by frame.

mod proto_support;
#[path = "proto_support/stream.rs"]
mod stream;

use greenwood_websocket::proto::{
    Decoder, Deflate, DeflateParams, Event, Extension, Limits, Message, Part, ProtocolError, Role,
    Unit,
};
use proptest::prelude::*;
use proto_support::*;
use stream::{Sender, acts, damaged, senders};

/// What receives from `sender`, in this unit.
fn of(sender: Sender, unit: Unit) -> Decoder {
    let mut decoder = sender.receiver();
    decoder.deliver(unit).unwrap();
    decoder
}

fn by(unit: Unit) -> Decoder {
    limited(unit, Limits::default())
}

fn limited(unit: Unit, limits: Limits) -> Decoder {
    let mut decoder = Decoder::new(Role::Server, limits);
    decoder.deliver(unit).unwrap();
    decoder
}

fn part(opcode: OpCode, fin: bool, payload: impl AsRef<[u8]>) -> Event {
    Event::Part(Part {
        opcode,
        fin,
        payload: payload.as_ref().to_vec(),
    })
}

/// Joins parts to messages, and checks that they are in order.
fn joined(events: Vec<Event>) -> Vec<Event> {
    let mut all = Vec::new();
    let mut open: Option<(OpCode, Vec<u8>)> = None;
    for event in events {
        let Event::Part(part) = event else {
            all.push(event);
            continue;
        };
        let (opcode, mut bytes) = match open.take() {
            None => (part.opcode, Vec::new()),
            Some(open) => {
                assert_eq!(part.opcode, OpCode::Continuation);
                open
            }
        };
        bytes.extend(part.payload);
        match (part.fin, opcode) {
            (false, _) => open = Some((opcode, bytes)),
            (true, OpCode::Text) => all.push(text(str::from_utf8(&bytes).unwrap())),
            (true, _) => all.push(binary(&bytes)),
        }
    }
    all
}

/// Where control frames lie between a message's parts is not for the message's end to say.
fn sorted(events: Vec<Event>) -> (Vec<Event>, Vec<Event>) {
    events
        .into_iter()
        .partition(|event| matches!(event, Event::Message(_)))
}

fn sizes() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![1usize..10, 1usize..30_000], 1..8)
}

proptest! {
    #[test]
    fn chunks_are_what_was_sent(sender in senders(), acts in acts(), sizes in sizes()) {
        let stream = sender.play(&acts);
        let (parts, error) = run_cut(of(sender, Unit::Chunks), &stream.wire, &sizes);
        prop_assert_eq!(error, None);
        for event in &parts {
            if let Event::Part(part) = event {
                prop_assert!(part.payload.len() <= 96 << 10, "{}", part.payload.len());
            }
        }
        prop_assert_eq!(sorted(joined(parts)), sorted(stream.events));
    }

    #[test]
    fn frames_are_what_was_sent_however_they_are_cut(
        (sender, wire) in senders().prop_flat_map(|sender| (Just(sender), damaged(sender))),
        sizes in sizes(),
    ) {
        let frames = || of(sender, Unit::Frames);
        let whole = run_whole(frames(), &wire);
        prop_assert_eq!(&run_bytewise(frames(), &wire), &whole);
        prop_assert_eq!(&run_cut(frames(), &wire, &sizes), &whole);
        // The same as messages, with the same errors.
        let messages = run_whole(sender.receiver(), &wire);
        prop_assert_eq!(whole.1, messages.1);
        prop_assert_eq!(sorted(joined(whole.0)), sorted(messages.0));
    }

    #[test]
    fn the_unit_may_change_at_any_time(
        sender in senders(),
        acts in acts(),
        sizes in sizes(),
        changes in prop::collection::vec(0usize..3, 1..20),
    ) {
        let stream = sender.play(&acts);
        let events = stream.events;
        let mut decoder = sender.receiver();
        let mut outcome = Outcome::default();
        let mut rest = &stream.wire[..];
        for (size, change) in sizes.iter().cycle().zip(changes.iter().cycle()) {
            if rest.is_empty() {
                break;
            }
            let units = [Unit::Messages, Unit::Chunks, Unit::Frames];
            decoder.deliver(units[*change]).unwrap();
            let (piece, after) = rest.split_at(rest.len().min(*size));
            feed(&mut decoder, piece, &mut outcome);
            rest = after;
        }
        prop_assert_eq!(outcome.1, None);
        // Whole messages are whole, and control frames all there.
        let (_, controls) = sorted(events.clone());
        let found = outcome.0.iter().filter(|event| matches!(event, Event::Ping(_) | Event::Pong(_)));
        prop_assert!(found.eq(controls.iter()));
        let mut sent = events.iter();
        for message in outcome.0.iter().filter(|event| matches!(event, Event::Message(_))) {
            prop_assert!(sent.any(|event| event == message));
        }
    }
}

#[test]
fn chunk_comes_with_what_has_arrived() {
    let mut wire = frame(MORE, OpCode::Text, "a\u{20ac}".as_bytes());
    wire.extend(frame(FIN, OpCode::Continuation, b"b"));
    // Without the end of the character, and then the first frame's end and all of the second.
    let cut = 6 + 3;
    let mut decoder = by(Unit::Chunks);
    let mut outcome = Outcome::default();
    feed(&mut decoder, &wire[..cut], &mut outcome);
    assert_eq!(outcome.0, [part(OpCode::Text, MORE, "a")]);
    feed(&mut decoder, &wire[cut..], &mut outcome);
    let rest = [
        part(OpCode::Continuation, MORE, "\u{20ac}"),
        part(OpCode::Continuation, FIN, "b"),
    ];
    assert_eq!(outcome.0[1..], rest);
    assert!(decoder.is_idle());
}

#[test]
fn frames_keep_their_bounds_and_their_cut_characters() {
    let wire = [
        frame(MORE, OpCode::Text, b"\xe2"),
        frame(FIN, OpCode::Ping, b"!"),
        frame(MORE, OpCode::Continuation, b""),
        frame(FIN, OpCode::Continuation, b"\x82\xac"),
        frame(FIN, OpCode::Binary, b""),
    ];
    let expected = vec![
        part(OpCode::Text, MORE, b"\xe2"),
        Event::Ping(b"!".to_vec()),
        part(OpCode::Continuation, MORE, b""),
        part(OpCode::Continuation, FIN, b"\x82\xac"),
        part(OpCode::Binary, FIN, b""),
    ];
    let outcome = outcome_of(|| by(Unit::Frames), &wire.concat());
    assert_eq!(outcome, (expected, None));
}

#[test]
fn messages_of_any_length_come_in_chunks() {
    let limits = Limits::default().max_message_size(10).max_frame_size(10);
    let mut decoder = limited(Unit::Chunks, limits);
    let mut head = announcement(FIN, OpCode::Binary, 1 << 40);
    let mut outcome = Outcome::default();
    feed(&mut decoder, &head, &mut outcome);
    for _ in 0..100 {
        feed(&mut decoder, &[0; 100_000], &mut outcome);
    }
    assert_eq!(outcome.1, None);
    let len = |event: &Event| match event {
        Event::Part(part) => part.payload.len(),
        other => panic!("{other:?}"),
    };
    assert_eq!(outcome.0.iter().map(len).sum::<usize>(), 10_000_000);
    // The limits hold for frames.
    head = announcement(FIN, OpCode::Binary, 11);
    let (_, error) = run_whole(limited(Unit::Frames, limits), &head);
    assert_eq!(
        error,
        Some(ProtocolError::FrameTooLarge { len: 11, max: 10 })
    );
    // And not for what they make up.
    let many: Vec<u8> = frame(MORE, OpCode::Binary, &[0; 10])
        .into_iter()
        .chain(frame(MORE, OpCode::Continuation, &[0; 10]).repeat(5))
        .collect();
    assert_eq!(run_whole(limited(Unit::Frames, limits), &many).1, None);
}

#[test]
fn a_message_that_may_be_too_long_is_judged_when_it_is_wanted_whole() {
    let limits = Limits::default().max_message_size(10).max_frame_size(10);
    let mut decoder = limited(Unit::Chunks, limits);
    let mut outcome = Outcome::default();
    feed(
        &mut decoder,
        &announcement(FIN, OpCode::Binary, 11),
        &mut outcome,
    );
    let error = ProtocolError::MessageTooLarge { len: 11, max: 10 };
    assert_eq!(decoder.deliver(Unit::Messages), Err(error));
    feed(&mut decoder, &[0], &mut outcome);
    assert_eq!(outcome, (vec![], Some(error)));
}

#[test]
fn the_rest_of_a_message_is_dropped_where_whole_ones_are_wanted() {
    let wire = [
        frame(MORE, OpCode::Binary, &[1; 100]),
        frame(FIN, OpCode::Ping, b"!"),
        frame(FIN, OpCode::Continuation, &[2; 100_000]),
        frame(FIN, OpCode::Text, b"next"),
    ]
    .concat();
    let mut decoder = by(Unit::Chunks);
    let mut outcome = Outcome::default();
    feed(&mut decoder, &wire[..50], &mut outcome);
    assert!(matches!(&outcome.0[..], [Event::Part(_)]));
    decoder.deliver(Unit::Messages).unwrap();
    feed(&mut decoder, &wire[50..], &mut outcome);
    assert_eq!(outcome.0[1..], [Event::Ping(b"!".to_vec()), text("next")]);
    assert!(decoder.is_idle());
    // The same where the next one is wanted in chunks, too.
    let mut decoder = by(Unit::Chunks);
    let mut outcome = Outcome::default();
    feed(&mut decoder, &wire[..50], &mut outcome);
    decoder.skip_rest();
    feed(&mut decoder, &wire[50..], &mut outcome);
    let rest = [Event::Ping(b"!".to_vec()), part(OpCode::Text, FIN, "next")];
    assert_eq!(outcome.0[1..], rest);
}

#[test]
fn what_is_dropped_is_still_judged() {
    let wire = [
        frame(MORE, OpCode::Text, b"abc"),
        frame(FIN, OpCode::Continuation, b"\xff"),
    ]
    .concat();
    let mut decoder = by(Unit::Chunks);
    let mut outcome = Outcome::default();
    feed(&mut decoder, &wire[..9], &mut outcome);
    decoder.skip_rest();
    feed(&mut decoder, &wire[9..], &mut outcome);
    assert_eq!(
        outcome.1,
        Some(ProtocolError::InvalidText { valid_up_to: 3 })
    );
    for unit in [Unit::Chunks, Unit::Frames] {
        let (_, error) = run_bytewise(by(unit), &frame(FIN, OpCode::Text, b"ab\xe2"));
        assert_eq!(error, Some(ProtocolError::InvalidText { valid_up_to: 2 }));
    }
}

#[test]
fn a_kept_part_of_a_message_comes_with_the_next() {
    let wire = frame(FIN, OpCode::Text, "ab\u{20ac}cd".as_bytes());
    for (unit, first) in [
        (Unit::Chunks, "ab\u{20ac}c"),
        (Unit::Frames, "ab\u{20ac}cd"),
    ] {
        let mut decoder = server();
        let mut outcome = Outcome::default();
        // Up to the middle of a character.
        feed(&mut decoder, &wire[..6 + 4], &mut outcome);
        decoder.deliver(unit).unwrap();
        feed(&mut decoder, &wire[10..12], &mut outcome);
        feed(&mut decoder, &wire[12..], &mut outcome);
        let Some(Event::Part(part)) = outcome.0.first() else {
            panic!("{outcome:?}");
        };
        assert_eq!(
            (part.opcode, &part.payload[..]),
            (OpCode::Text, first.as_bytes())
        );
        assert_eq!(joined(outcome.0), [text("ab\u{20ac}cd")]);
    }
}

fn deflate() -> DeflateParams {
    let offer = Extension::parse_list(b"permessage-deflate").unwrap();
    Deflate::default().accept(&offer).unwrap()
}

/// A compressed message in frames of `size` bytes.
fn compressed(opcode: OpCode, payload: &[u8], size: usize) -> Vec<u8> {
    let mut packed = Vec::new();
    let settings = Deflate::default().threshold(0);
    assert!(
        deflate()
            .deflater(Role::Client, &settings)
            .compress(payload, &mut packed)
    );
    let count = packed.len().div_ceil(size);
    let frames = packed.chunks(size).enumerate().flat_map(|(i, piece)| {
        let (opcode, rsv) = match i {
            0 => (opcode, 4),
            _ => (OpCode::Continuation, 0),
        };
        raw_frame(i + 1 == count, rsv, opcode, piece, Some(KEY))
    });
    frames.collect()
}

fn inflating(unit: Unit, limits: Limits) -> Decoder {
    limited(unit, limits).with_deflate(deflate().inflater(Role::Server))
}

#[test]
fn compressed_messages_come_in_parts_too() {
    let payload = "a\u{20ac}\u{1f600}, b\u{fc}, ".repeat(20_000);
    for size in [7, 1000, 1 << 20] {
        let wire = compressed(OpCode::Text, payload.as_bytes(), size);
        for unit in [Unit::Chunks, Unit::Frames] {
            for sizes in [[1, 2], [3000, 100_000]] {
                let decoder = inflating(unit, Limits::default());
                let (parts, error) = run_cut(decoder, &wire, &sizes);
                assert_eq!(error, None);
                assert!(
                    joined(parts) == [text(&payload)],
                    "{size} {unit:?} {sizes:?}"
                );
            }
        }
    }
}

#[test]
fn a_bomb_is_given_in_small_chunks_and_refused_as_a_frame() {
    let wire = compressed(OpCode::Binary, &vec![0; 50 << 20], 1 << 20);
    assert!(wire.len() < 100_000, "{}", wire.len());
    let (parts, error) = run_whole(inflating(Unit::Chunks, Limits::default()), &wire);
    assert_eq!(error, None);
    let mut whole = 0;
    for event in parts {
        let Event::Part(part) = event else {
            panic!("{event:?}");
        };
        assert!(part.payload.len() <= 96 << 10, "{}", part.payload.len());
        whole += part.payload.len();
    }
    assert_eq!(whole, 50 << 20);
    let (_, error) = run_whole(inflating(Unit::Frames, Limits::default()), &wire);
    assert!(
        matches!(error, Some(ProtocolError::MessageTooLarge { .. })),
        "{error:?}"
    );
    // Dropped, it takes no memory at all.
    let mut decoder = inflating(Unit::Chunks, Limits::default());
    let mut outcome = Outcome::default();
    feed(&mut decoder, &wire[..100], &mut outcome);
    decoder.deliver(Unit::Messages).unwrap();
    outcome.0.clear();
    feed(&mut decoder, &wire[100..], &mut outcome);
    feed(
        &mut decoder,
        &frame(FIN, OpCode::Text, b"next"),
        &mut outcome,
    );
    assert_eq!(outcome, (vec![Event::Message(Message::from("next"))], None));
}
