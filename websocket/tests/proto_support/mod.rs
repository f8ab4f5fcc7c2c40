//! What the protocol tests share: frames as a peer would write them, and ways to feed them.
#![allow(dead_code, reason = "each test file uses its own part")]

use greenwood_websocket::proto::{
    Decoder, Event, FrameHeader, Limits, Message, ProtocolError, Role,
};

pub(crate) use greenwood_websocket::proto::OpCode;

/// The key of all frames here: four different bytes, so that a wrong rotation shows.
pub(crate) const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

pub(crate) const FIN: bool = true;
pub(crate) const MORE: bool = false;

/// A masked frame, as a client sends it.
pub(crate) fn frame(fin: bool, opcode: OpCode, payload: &[u8]) -> Vec<u8> {
    raw_frame(fin, 0, opcode, payload, Some(KEY))
}

pub(crate) fn raw_frame(
    fin: bool,
    rsv: u8,
    opcode: OpCode,
    payload: &[u8],
    mask: Option<[u8; 4]>,
) -> Vec<u8> {
    let header = FrameHeader {
        fin,
        rsv,
        opcode,
        mask,
        payload_len: payload.len() as u64,
    };
    let (bytes, len) = header.encode();
    let mut wire = bytes[..len].to_vec();
    let key = mask.unwrap_or_default();
    wire.extend(
        payload
            .iter()
            .zip(key.iter().cycle())
            .map(|(byte, key)| byte ^ key),
    );
    wire
}

/// Only the header of a masked frame that announces `len` bytes.
pub(crate) fn announcement(fin: bool, opcode: OpCode, len: u64) -> Vec<u8> {
    let header = FrameHeader {
        fin,
        rsv: 0,
        opcode,
        mask: Some(KEY),
        payload_len: len,
    };
    let (bytes, len) = header.encode();
    bytes[..len].to_vec()
}

pub(crate) fn text(text: &str) -> Event {
    Event::Message(Message::from(text))
}

pub(crate) fn binary(bytes: &[u8]) -> Event {
    Event::Message(Message::from(bytes))
}

pub(crate) fn server() -> Decoder {
    Decoder::new(Role::Server, Limits::default())
}

/// What a stream gave: the events, and the error that ended it.
pub(crate) type Outcome = (Vec<Event>, Option<ProtocolError>);

/// Feeds one piece to its end. After an error nothing more is to come.
pub(crate) fn feed(decoder: &mut Decoder, piece: &[u8], outcome: &mut Outcome) {
    let mut piece = piece.to_vec();
    let mut at = 0;
    loop {
        let (consumed, result) = decoder.decode(&mut piece[at..]);
        at += consumed;
        match result {
            Ok(Some(event)) => outcome.0.push(event),
            Ok(None) => {
                assert_eq!(at, piece.len(), "without an event all input is taken");
                return;
            }
            Err(error) => {
                assert_eq!(at, piece.len(), "with an error all input is taken");
                assert!(
                    outcome.1.is_none_or(|first| first == error),
                    "the error stays"
                );
                outcome.1 = Some(error);
                return;
            }
        }
    }
}

pub(crate) fn run_whole(mut decoder: Decoder, wire: &[u8]) -> Outcome {
    let mut outcome = Outcome::default();
    feed(&mut decoder, wire, &mut outcome);
    outcome
}

pub(crate) fn run_bytewise(mut decoder: Decoder, wire: &[u8]) -> Outcome {
    let mut outcome = Outcome::default();
    for byte in wire {
        feed(&mut decoder, std::slice::from_ref(byte), &mut outcome);
    }
    outcome
}

/// Feeds `wire` in pieces of these sizes, in turn and over again.
pub(crate) fn run_cut(mut decoder: Decoder, wire: &[u8], sizes: &[usize]) -> Outcome {
    let mut outcome = Outcome::default();
    let mut rest = wire;
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, after) = rest.split_at(rest.len().min((*size).max(1)));
        feed(&mut decoder, piece, &mut outcome);
        rest = after;
    }
    outcome
}

/// As `run_cut`, but by the short way for whole messages wherever it leads somewhere.
pub(crate) fn run_short(mut decoder: Decoder, wire: &[u8], sizes: &[usize]) -> Outcome {
    let mut outcome = Outcome::default();
    let mut rest = wire;
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, after) = rest.split_at(rest.len().min((*size).max(1)));
        let (mut piece, mut at) = (piece.to_vec(), 0);
        loop {
            if let Some((used, message)) = decoder.decode_message(&mut piece[at..]) {
                at += used;
                outcome.0.push(Event::Message(message));
                continue;
            }
            match decoder.decode(&mut piece[at..]) {
                (used, Ok(Some(event))) => {
                    at += used;
                    outcome.0.push(event);
                }
                (_, Ok(None)) => break,
                (_, Err(error)) => {
                    outcome.1 = Some(error);
                    break;
                }
            }
        }
        rest = after;
    }
    outcome
}

/// As `run_cut`, but through the payload sink whenever there is one. Also says how many bytes went
/// so.
pub(crate) fn run_sink(mut decoder: Decoder, wire: &[u8], sizes: &[usize]) -> (Outcome, usize) {
    let mut outcome = Outcome::default();
    let mut rest = wire;
    let mut sunk = 0;
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let size = rest.len().min((*size).max(1));
        if let Some(sink) = decoder.payload_sink() {
            let size = size.min(sink.remaining);
            let (piece, after) = rest.split_at(size);
            sink.buffer.extend_from_slice(piece);
            match decoder.sink_filled(size) {
                Ok(event) => outcome.0.extend(event),
                Err(error) => outcome.1 = Some(error),
            }
            rest = after;
            sunk += size;
        } else {
            let (piece, after) = rest.split_at(size);
            feed(&mut decoder, piece, &mut outcome);
            rest = after;
        }
    }
    (outcome, sunk)
}

/// The outcome of a stream for a server, the same whole, byte by byte and in threes.
#[track_caller]
pub(crate) fn outcome(wire: &[u8]) -> Outcome {
    outcome_of(server, wire)
}

#[track_caller]
pub(crate) fn outcome_of(decoder: impl Fn() -> Decoder, wire: &[u8]) -> Outcome {
    let whole = run_whole(decoder(), wire);
    assert_eq!(
        whole,
        run_bytewise(decoder(), wire),
        "whole (left) and byte by byte (right)"
    );
    assert_eq!(
        whole,
        run_cut(decoder(), wire, &[3]),
        "whole (left) and in threes (right)"
    );
    whole
}

#[track_caller]
pub(crate) fn assert_events(wire: &[u8], events: &[Event]) {
    assert_eq!(outcome(wire), (events.to_vec(), None));
}

#[track_caller]
pub(crate) fn assert_error(wire: &[u8], error: ProtocolError) {
    assert_eq!(outcome(wire), (vec![], Some(error)));
}
