//! Streams that mean something: messages in fragments, compressed or not, with control frames
//! between them. They give what was sent; damaged in one byte, at least the same at every cut.
#![no_main]

use greenwood_fuzz::{
    Cuts,
    websocket::{Setup, agreed, check_memory, outcome},
};
use greenwood_websocket::proto::{
    CloseCode, CloseFrame, Deflate, Deflater, Event, Message, OpCode, Role,
    encode_compressed_frame, encode_frame,
};
use libfuzzer_sys::{
    arbitrary::{Result, Unstructured},
    fuzz_target,
};

/// More would only be slow.
const MAX_MESSAGES: usize = 8;

struct Writer {
    wire: Vec<u8>,
    events: Vec<Event>,
    masks: bool,
    deflater: Option<Deflater>,
}

impl Writer {
    fn mask(&self) -> Option<[u8; 4]> {
        // Another key for each frame, so that none is right by accident.
        let turn = self.wire.len() as u8;
        self.masks
            .then(|| [0x37, 0xfa, 0x21, 0x3d].map(|byte: u8| byte.wrapping_mul(turn | 1)))
    }

    fn control(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let length = u.int_in_range(0..=125)?;
        let payload = filled(u, length)?;
        let mask = self.mask();
        let ping = u.arbitrary()?;
        let opcode = if ping { OpCode::Ping } else { OpCode::Pong };
        encode_frame(&mut self.wire, true, opcode, &payload, mask);
        self.events.push(match ping {
            true => Event::Ping(payload),
            false => Event::Pong(payload),
        });
        Ok(())
    }

    fn message(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        // Long ones are rare: byte by byte they take their time.
        let length = match u.int_in_range(0..=127)? {
            0 => u.int_in_range(0..=70_000)?,
            1 => *u.choose(&[125, 126, 127, 65_535, 65_536])?,
            _ => u.int_in_range(0..=200)?,
        };
        let mut payload = filled(u, length)?;
        let text = u.arbitrary()?;
        if text {
            payload = String::from_utf8_lossy(&payload).into_owned().into_bytes();
        }
        let first = if text { OpCode::Text } else { OpCode::Binary };
        let mut packed = Vec::new();
        let compressed = u.arbitrary()?
            && self
                .deflater
                .as_mut()
                .is_some_and(|deflater| deflater.compress(&payload, &mut packed));
        let sent = if compressed { &packed } else { &payload };
        let (mut opcode, mut rest) = (first, &sent[..]);
        for _ in 0..u.int_in_range(0..=3)? {
            let (piece, after) = rest.split_at(u.int_in_range(0..=rest.len())?);
            self.frame(false, opcode, piece, compressed);
            rest = after;
            opcode = OpCode::Continuation;
            if u.arbitrary()? {
                self.control(u)?;
            }
        }
        self.frame(true, opcode, rest, compressed);
        self.events.push(Event::Message(match text {
            true => Message::Text(String::from_utf8(payload).expect("text")),
            false => Message::Binary(payload),
        }));
        Ok(())
    }

    fn frame(&mut self, fin: bool, opcode: OpCode, payload: &[u8], compressed: bool) {
        let mask = self.mask();
        if compressed && opcode != OpCode::Continuation {
            encode_compressed_frame(&mut self.wire, fin, opcode, payload, mask);
        } else {
            encode_frame(&mut self.wire, fin, opcode, payload, mask);
        }
    }
}

/// So many bytes: a few of the input, over and over.
fn filled(u: &mut Unstructured<'_>, length: usize) -> Result<Vec<u8>> {
    let count = u.int_in_range(1..=40)?;
    let pattern = u.bytes(count.min(u.len()))?;
    if pattern.is_empty() {
        return Ok(vec![b'*'; length]);
    }
    Ok(pattern.iter().copied().cycle().take(length).collect())
}

fn stream(u: &mut Unstructured<'_>, cuts: &Cuts<'_>) -> Result<()> {
    let setup = Setup::of(u.arbitrary()?, 7);
    let peer = match setup.role {
        Role::Server => Role::Client,
        Role::Client => Role::Server,
    };
    let settings = Deflate::default()
        .threshold(0)
        .level(u.int_in_range(1..=9)?);
    let deflater = setup
        .deflate
        .map(|context| agreed(context).deflater(peer, &settings));
    let mut writer = Writer {
        wire: Vec::new(),
        events: Vec::new(),
        masks: setup.role == Role::Server,
        deflater,
    };
    for _ in 0..u.int_in_range(0..=MAX_MESSAGES)? {
        writer.message(u)?;
        if u.ratio(1, 4)? {
            writer.control(u)?;
        }
    }
    let mask = writer.mask();
    let end = match u.int_in_range(0..=3)? {
        0 => None,
        1 => Some(None),
        _ => Some(Some(CloseFrame::new(
            CloseCode::from(u.int_in_range(3000..=4999)?),
            "gone",
        ))),
    };
    if let Some(frame) = end {
        let payload = frame
            .as_ref()
            .map_or(Vec::new(), |f| f.encode().expect("may be sent"));
        encode_frame(&mut writer.wire, true, OpCode::Close, &payload, mask);
        writer.events.push(Event::Close(frame));
    }
    let Writer {
        mut wire, events, ..
    } = writer;
    assert_eq!(outcome(setup, &wire, cuts.clone()), (events, None));
    check_memory(setup, &wire, cuts.clone());

    // The same with a byte that is wrong.
    if !wire.is_empty() {
        let at = match u.arbitrary()? {
            true => u.int_in_range(0..=wire.len() - 1)?,
            false => u.int_in_range(0..=wire.len().min(40) - 1)?,
        };
        wire[at] ^= u.int_in_range(1..=255)?;
        outcome(setup, &wire, cuts.clone());
        check_memory(setup, &wire, cuts.clone());
    }
    Ok(())
}

fuzz_target!(|data: &[u8]| {
    let mut data = data;
    let cuts = Cuts::take(&mut data);
    // An input that is too short means less of a stream.
    let _ = stream(&mut Unstructured::new(data), &cuts);
});
