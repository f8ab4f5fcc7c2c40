//! Limits and memory: exactly at, one over, and what an announcement costs.

mod proto_support;

use std::mem::size_of;

use greenwood_websocket::proto::{
    CloseCode, CloseHandshake, DIRECT_READ_MIN, Decoder, EncodeError, Event, Fault, Limits,
    Message, ProtocolError, Role, Utf8Validator,
};
use proto_support::*;

fn limited(frame: usize, message: usize) -> impl Fn() -> Decoder {
    let limits = Limits::default()
        .max_frame_size(frame)
        .max_message_size(message);
    move || Decoder::new(Role::Server, limits)
}

#[test]
fn frame_of_exactly_the_limit_passes() {
    let wire = frame(FIN, OpCode::Text, &[b'x'; 100]);
    let expected = (vec![text(&"x".repeat(100))], None);
    assert_eq!(outcome_of(limited(100, 100), &wire), expected);
}

#[test]
fn frame_one_over_the_limit_is_refused_by_its_header() {
    let error = ProtocolError::FrameTooLarge { len: 101, max: 100 };
    let wire = announcement(FIN, OpCode::Binary, 101);
    assert_eq!(outcome_of(limited(100, 1000), &wire), (vec![], Some(error)));
    assert_eq!(error.close_code(), CloseCode::MESSAGE_TOO_BIG);
    assert_eq!(error.fault(), Fault::Limit);
}

#[test]
fn message_one_over_the_limit_is_refused_by_its_header() {
    let error = ProtocolError::MessageTooLarge { len: 101, max: 100 };
    let wire = announcement(MORE, OpCode::Text, 101);
    assert_eq!(outcome_of(limited(1000, 100), &wire), (vec![], Some(error)));
    assert_eq!(error.close_code(), CloseCode::MESSAGE_TOO_BIG);
}

#[test]
fn fragments_of_exactly_the_limit_pass() {
    let wire = [
        frame(MORE, OpCode::Binary, &[1; 60]),
        frame(FIN, OpCode::Continuation, &[1; 40]),
    ];
    let expected = (vec![binary(&[1; 100])], None);
    assert_eq!(outcome_of(limited(60, 100), &wire.concat()), expected);
}

#[test]
fn fragments_one_over_the_limit_are_refused_by_the_header() {
    let error = ProtocolError::MessageTooLarge { len: 101, max: 100 };
    let wire = [
        frame(MORE, OpCode::Binary, &[1; 60]),
        announcement(MORE, OpCode::Continuation, 41),
    ];
    assert_eq!(
        outcome_of(limited(60, 100), &wire.concat()),
        (vec![], Some(error))
    );
}

#[test]
fn unfinished_character_counts_to_the_limit() {
    let error = ProtocolError::MessageTooLarge { len: 5, max: 4 };
    let wire = [
        frame(MORE, OpCode::Text, b"a\xe2\x82"),
        announcement(FIN, OpCode::Continuation, 2),
    ];
    assert_eq!(
        outcome_of(limited(4, 4), &wire.concat()),
        (vec![], Some(error))
    );
}

#[test]
fn limit_counts_per_message() {
    let one = [
        frame(MORE, OpCode::Text, b"123"),
        frame(FIN, OpCode::Continuation, b"45"),
    ];
    let wire = one.concat().repeat(3);
    let expected = (vec![text("12345"); 3], None);
    assert_eq!(outcome_of(limited(5, 5), &wire), expected);
}

#[test]
fn control_frames_are_not_limited() {
    let wire = frame(FIN, OpCode::Ping, &[1; 125]);
    let expected = (vec![Event::Ping(vec![1; 125])], None);
    assert_eq!(outcome_of(limited(0, 0), &wire), expected);
}

#[test]
fn limit_of_nothing_admits_empty_messages() {
    let wire = frame(FIN, OpCode::Text, b"");
    assert_eq!(outcome_of(limited(0, 0), &wire), (vec![text("")], None));
}

#[test]
fn default_limit_is_a_mebibyte() {
    let over = announcement(FIN, OpCode::Binary, (1 << 20) + 1);
    let error = ProtocolError::FrameTooLarge {
        len: (1 << 20) + 1,
        max: 1 << 20,
    };
    assert_error(&over, error);
    assert_eq!(
        outcome(&announcement(FIN, OpCode::Binary, 1 << 20)),
        (vec![], None)
    );
}

#[test]
fn any_length_passes_without_limits_but_takes_no_memory() {
    for len in [1 << 40, u64::MAX >> 1] {
        let mut decoder = limited(usize::MAX, usize::MAX)();
        decoder
            .decode(&mut announcement(FIN, OpCode::Binary, len))
            .1
            .unwrap();
        decoder.decode(&mut [0; 100]).1.unwrap();
        let capacity = decoder.payload_sink().unwrap().buffer.capacity();
        assert!(capacity <= 4 * DIRECT_READ_MIN, "{capacity}");
    }
}

#[test]
fn large_announcement_takes_little_memory() {
    let mut decoder = limited(64 << 20, 64 << 20)();
    decoder
        .decode(&mut announcement(FIN, OpCode::Binary, 64 << 20))
        .1
        .unwrap();
    let sink = decoder.payload_sink().unwrap();
    assert!(
        sink.buffer.capacity() <= 64 << 10,
        "{}",
        sink.buffer.capacity()
    );
    assert_eq!(sink.remaining, 64 << 20);
}

#[test]
fn memory_grows_with_what_arrives() {
    let mut decoder = limited(64 << 20, 64 << 20)();
    decoder
        .decode(&mut announcement(FIN, OpCode::Binary, 64 << 20))
        .1
        .unwrap();
    let (mut arrived, mut last, mut steps) = (0, 0, 0);
    while let Some(sink) = decoder.payload_sink() {
        let capacity = sink.buffer.capacity();
        assert!(
            capacity - arrived >= DIRECT_READ_MIN,
            "{capacity} for {arrived}"
        );
        assert!(
            capacity <= 2 * arrived + 2 * DIRECT_READ_MIN,
            "{capacity} for {arrived}"
        );
        assert!(capacity <= 64 << 20, "{capacity}");
        steps += usize::from(capacity != last);
        last = capacity;
        let n = 10_000.min(sink.remaining);
        sink.buffer.resize(arrived + n, 0);
        arrived += n;
        assert_eq!(decoder.sink_filled(n), Ok(None));
    }
    assert!(arrived > (64 << 20) - DIRECT_READ_MIN);
    assert!(steps < 20, "grew {steps} times");
}

#[test]
fn message_in_one_frame_has_no_spare_capacity() {
    for len in [1, 100, 5_000, 16 << 10, 100_000] {
        for opcode in [OpCode::Text, OpCode::Binary] {
            let wire = frame(FIN, opcode, &vec![b'x'; len]);
            for sizes in [vec![wire.len()], vec![1000]] {
                let mut events = run_cut(server(), &wire, &sizes).0;
                let Some(Event::Message(message)) = events.pop() else {
                    panic!("no message")
                };
                assert_eq!(message.into_bytes().capacity(), len);
            }
        }
    }
}

#[test]
fn character_that_is_cut_costs_no_spare_capacity() {
    let wire = frame(FIN, OpCode::Text, "€".repeat(40_000).as_bytes());
    for size in 10_000..10_010 {
        let mut events = run_cut(server(), &wire, &[size]).0;
        let Some(Event::Message(message)) = events.pop() else {
            panic!("no message")
        };
        assert_eq!(
            message.into_bytes().capacity(),
            120_000,
            "in pieces of {size}"
        );
    }
}

#[test]
fn many_small_fragments_take_twice_their_bytes_at_most() {
    let mut wire = frame(MORE, OpCode::Text, b"x");
    for _ in 0..10_000 {
        wire.extend(frame(MORE, OpCode::Continuation, "é".as_bytes()));
    }
    wire.extend(frame(FIN, OpCode::Continuation, b"x"));
    let mut events = run_whole(server(), &wire).0;
    let Some(Event::Message(message)) = events.pop() else {
        panic!("no message")
    };
    assert_eq!(message.len(), 20_002);
    assert!(message.into_bytes().capacity() <= 2 * 20_002 + 8);
}

#[test]
fn flood_of_empty_fragments_takes_no_memory() {
    let mut wire = frame(MORE, OpCode::Binary, b"");
    for _ in 0..100_000 {
        wire.extend(frame(MORE, OpCode::Continuation, b""));
    }
    wire.extend(frame(FIN, OpCode::Continuation, b""));
    let mut events = run_whole(server(), &wire).0;
    let Some(Event::Message(message)) = events.pop() else {
        panic!("no message")
    };
    assert_eq!(message.into_bytes().capacity(), 0);
}

/// An idle connection is a decoder and a closing handshake: no more than a few cache lines.
#[test]
fn sizes_stay_small() {
    assert!(size_of::<Decoder>() <= 160, "{}", size_of::<Decoder>());
    assert!(
        size_of::<CloseHandshake>() <= 80,
        "{}",
        size_of::<CloseHandshake>()
    );
    assert!(
        size_of::<ProtocolError>() <= 24,
        "{}",
        size_of::<ProtocolError>()
    );
    assert!(
        size_of::<EncodeError>() <= 16,
        "{}",
        size_of::<EncodeError>()
    );
    assert!(size_of::<Message>() <= 32, "{}", size_of::<Message>());
    assert!(size_of::<Event>() <= 40, "{}", size_of::<Event>());
    assert!(
        size_of::<Utf8Validator>() <= 16,
        "{}",
        size_of::<Utf8Validator>()
    );
}
