//! Random streams of a client or a server: valid ones with the events they mean, and damaged ones.
#![allow(dead_code, reason = "each test file uses its own part")]

use greenwood_websocket::proto::{
    Decoder, Deflate, DeflateParams, Deflater, Event, Extension, Limits, Role,
};
use proptest::prelude::*;

use super::{FIN, KEY, MORE, OpCode, binary, raw_frame, text};

/// What a peer does next.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// A message, cut into frames at these places; before each further frame these control frames.
    Message {
        payload: Payload,
        cuts: Vec<prop::sample::Index>,
        between: Vec<Control>,
    },
    Control(Control),
}

#[derive(Debug, Clone)]
pub(crate) enum Payload {
    Text(String),
    Binary(Vec<u8>),
}

#[derive(Debug, Clone)]
pub(crate) enum Control {
    Ping(Vec<u8>),
    Pong(Vec<u8>),
}

/// Who sends a stream, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sender {
    pub(crate) role: Role,
    /// Whether messages are compressed, and if so, whether with context.
    pub(crate) deflate: Option<bool>,
}

/// A client that does not compress.
pub(crate) const CLIENT: Sender = Sender {
    role: Role::Client,
    deflate: None,
};

/// A server that does not compress.
pub(crate) const SERVER: Sender = Sender {
    role: Role::Server,
    deflate: None,
};

pub(crate) fn senders() -> impl Strategy<Value = Sender> {
    let role = prop::sample::select(vec![Role::Client, Role::Server]);
    (role, prop::option::of(any::<bool>())).prop_map(|(role, deflate)| Sender { role, deflate })
}

impl Sender {
    /// A decoder for its stream.
    pub(crate) fn receiver(&self) -> Decoder {
        let role = match self.role {
            Role::Client => Role::Server,
            Role::Server => Role::Client,
        };
        let decoder = Decoder::new(role, Limits::default());
        match self.params() {
            None => decoder,
            Some(params) => decoder.with_deflate(params.inflater(role)),
        }
    }

    fn settings(&self) -> Deflate {
        let context = self.deflate.unwrap_or_default();
        Deflate::default()
            .context_takeover(context, context)
            .threshold(0)
    }

    fn params(&self) -> Option<DeflateParams> {
        self.deflate?;
        let offers = Extension::parse_list(b"permessage-deflate; client_max_window_bits").unwrap();
        self.settings().accept(&offers)
    }

    /// The stream of these acts, and what it means.
    pub(crate) fn play(&self, acts: &[Act]) -> Stream {
        let mut stream = Stream {
            sender: *self,
            deflater: self
                .params()
                .map(|params| params.deflater(self.role, &self.settings())),
            wire: Vec::new(),
            events: Vec::new(),
        };
        for act in acts {
            stream.act(act);
        }
        stream
    }
}

pub(crate) struct Stream {
    sender: Sender,
    deflater: Option<Deflater>,
    pub(crate) wire: Vec<u8>,
    pub(crate) events: Vec<Event>,
}

impl Stream {
    fn act(&mut self, act: &Act) {
        let (payload, cuts, between) = match act {
            Act::Message {
                payload,
                cuts,
                between,
            } => (payload, cuts, between),
            Act::Control(control) => return self.control(control),
        };
        let (first, bytes, event) = match payload {
            Payload::Text(string) => (OpCode::Text, string.as_bytes(), text(string)),
            Payload::Binary(bytes) => (OpCode::Binary, &bytes[..], binary(bytes)),
        };
        let mut packed = Vec::new();
        let compressed = self
            .deflater
            .as_mut()
            .is_some_and(|deflater| deflater.compress(bytes, &mut packed));
        let bytes = if compressed { &packed } else { bytes };
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.sort_unstable();
        let (mut opcode, mut rsv) = (first, if compressed { 4 } else { 0 });
        let mut start = 0;
        for cut in cuts {
            self.push(MORE, rsv, opcode, &bytes[start..cut]);
            for control in between {
                self.control(control);
            }
            (opcode, rsv) = (OpCode::Continuation, 0);
            start = cut;
        }
        self.push(FIN, rsv, opcode, &bytes[start..]);
        self.events.push(event);
    }

    fn control(&mut self, control: &Control) {
        let (opcode, payload, event) = match control {
            Control::Ping(payload) => (OpCode::Ping, payload, Event::Ping(payload.clone())),
            Control::Pong(payload) => (OpCode::Pong, payload, Event::Pong(payload.clone())),
        };
        self.push(FIN, 0, opcode, payload);
        self.events.push(event);
    }

    pub(crate) fn close(&mut self, payload: &[u8]) {
        self.push(FIN, 0, OpCode::Close, payload);
    }

    /// Another key for each frame, so that none is right by accident.
    fn push(&mut self, fin: bool, rsv: u8, opcode: OpCode, payload: &[u8]) {
        let turn = self.wire.len() as u8;
        let key = KEY.map(|byte| byte.wrapping_add(turn));
        let key = (self.sender.role == Role::Client).then_some(key);
        self.wire.extend(raw_frame(fin, rsv, opcode, payload, key));
    }
}

pub(crate) fn acts() -> impl Strategy<Value = Vec<Act>> {
    prop::collection::vec(act(), 0..6)
}

fn act() -> impl Strategy<Value = Act> {
    let cuts = prop::collection::vec(any::<prop::sample::Index>(), 0..4);
    let message = (payload(), cuts, prop::collection::vec(control(), 0..3));
    prop_oneof![
        4 => message.prop_map(|(payload, cuts, between)| Act::Message { payload, cuts, between }),
        2 => control().prop_map(Act::Control),
    ]
}

fn control() -> impl Strategy<Value = Control> {
    let payload = || prop::collection::vec(any::<u8>(), 0..=125);
    prop_oneof![
        payload().prop_map(Control::Ping),
        payload().prop_map(Control::Pong),
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

/// A stream of this sender as bytes, with a few of them replaced.
pub(crate) fn damaged(sender: Sender) -> impl Strategy<Value = Vec<u8>> {
    // Most hits near the front, where the headers of small streams are.
    let position = prop_oneof![0usize..40, any::<usize>()];
    let damage = prop::collection::vec((position, any::<u8>()), 0..4);
    (acts(), closing(), damage).prop_map(move |(acts, closing, damage)| {
        let mut stream = sender.play(&acts);
        if let Some(payload) = closing {
            stream.close(&payload);
        }
        let mut wire = stream.wire;
        for (position, byte) in damage {
            if !wire.is_empty() {
                let position = position % wire.len();
                wire[position] = byte;
            }
        }
        wire
    })
}
