//! Random streams of a client: valid ones with the events they mean, and damaged ones.

use greenwood_websocket::proto::Event;
use proptest::prelude::*;

use super::{FIN, KEY, MORE, OpCode, binary, raw_frame, text};

/// What a client does next.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// A message, cut into frames at these places; before each further frame a ping, if there is
    /// one.
    Message {
        payload: Payload,
        cuts: Vec<prop::sample::Index>,
        ping: Option<Vec<u8>>,
    },
    Ping(Vec<u8>),
    Pong(Vec<u8>),
}

#[derive(Debug, Clone)]
pub(crate) enum Payload {
    Text(String),
    Binary(Vec<u8>),
}

impl Act {
    /// Appends the frames to `wire` and what they mean to `events`.
    pub(crate) fn play(&self, wire: &mut Vec<u8>, events: &mut Vec<Event>) {
        match self {
            Act::Message {
                payload,
                cuts,
                ping,
            } => {
                let (first, bytes, event) = match payload {
                    Payload::Text(string) => (OpCode::Text, string.as_bytes(), text(string)),
                    Payload::Binary(bytes) => (OpCode::Binary, &bytes[..], binary(bytes)),
                };
                let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
                cuts.sort_unstable();
                let mut opcode = first;
                let mut start = 0;
                for cut in cuts {
                    push(wire, MORE, opcode, &bytes[start..cut]);
                    if let Some(payload) = ping {
                        push(wire, FIN, OpCode::Ping, payload);
                        events.push(Event::Ping(payload.clone()));
                    }
                    opcode = OpCode::Continuation;
                    start = cut;
                }
                push(wire, FIN, opcode, &bytes[start..]);
                events.push(event);
            }
            Act::Ping(payload) => {
                push(wire, FIN, OpCode::Ping, payload);
                events.push(Event::Ping(payload.clone()));
            }
            Act::Pong(payload) => {
                push(wire, FIN, OpCode::Pong, payload);
                events.push(Event::Pong(payload.clone()));
            }
        }
    }
}

/// Another key for each frame, so that none is right by accident.
fn push(wire: &mut Vec<u8>, fin: bool, opcode: OpCode, payload: &[u8]) {
    let turn = wire.len() as u8;
    let key = KEY.map(|byte| byte.wrapping_add(turn));
    wire.extend(raw_frame(fin, 0, opcode, payload, Some(key)));
}

pub(crate) fn acts() -> impl Strategy<Value = Vec<Act>> {
    prop::collection::vec(act(), 0..6)
}

fn act() -> impl Strategy<Value = Act> {
    let cuts = prop::collection::vec(any::<prop::sample::Index>(), 0..4);
    let message = (payload(), cuts, prop::option::of(control_payload()));
    prop_oneof![
        4 => message.prop_map(|(payload, cuts, ping)| Act::Message { payload, cuts, ping }),
        1 => control_payload().prop_map(Act::Ping),
        1 => control_payload().prop_map(Act::Pong),
    ]
}

fn payload() -> impl Strategy<Value = Payload> {
    let characters = prop::collection::vec(any::<char>(), 0..60);
    prop_oneof![
        3 => characters.prop_map(|all| Payload::Text(all.into_iter().collect())),
        1 => (100usize..400).prop_map(|n| Payload::Text("aé€😀".repeat(n))),
        3 => prop::collection::vec(any::<u8>(), 0..300).prop_map(Payload::Binary),
        1 => edge_length().prop_map(|n| Payload::Binary((0..n).map(|i| (i * 7) as u8).collect())),
    ]
}

/// Lengths where the header changes its form.
fn edge_length() -> impl Strategy<Value = usize> {
    prop::sample::select(vec![0, 1, 125, 126, 127, 65_535, 65_536, 70_000])
}

fn control_payload() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..=125)
}

/// The close frame at the end of a stream, often a wrong one.
pub(crate) fn closing() -> impl Strategy<Value = Option<Vec<u8>>> {
    let code = prop_oneof![990u16..1020, 2990u16..3010, 4990u16..5010];
    let reason = prop_oneof![
        3 => "[a-zé]{0,20}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..4),
    ];
    prop_oneof![
        2 => Just(None),
        1 => prop::collection::vec(any::<u8>(), 0..2).prop_map(Some),
        3 => (code, reason).prop_map(|(code, reason)| {
            Some([&code.to_be_bytes()[..], &reason].concat())
        }),
    ]
}

/// A stream as bytes, with a few of them replaced.
pub(crate) fn damaged() -> impl Strategy<Value = Vec<u8>> {
    // Most hits near the front, where the headers of small streams are.
    let position = prop_oneof![0usize..40, any::<usize>()];
    let damage = prop::collection::vec((position, any::<u8>()), 0..4);
    (acts(), closing(), damage).prop_map(|(acts, closing, damage)| {
        let mut wire = Vec::new();
        for act in acts {
            act.play(&mut wire, &mut Vec::new());
        }
        if let Some(payload) = closing {
            push(&mut wire, FIN, OpCode::Close, &payload);
        }
        for (position, byte) in damage {
            if !wire.is_empty() {
                let position = position % wire.len();
                wire[position] = byte;
            }
        }
        wire
    })
}
