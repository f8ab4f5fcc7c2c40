//! Bytes to events: frames are parsed, unmasked, judged and joined to messages.

mod parts;

use super::assembly::{Assembly, Expected, FIRST_RESERVATION};
use super::frame::{FirstByte, RSV1};
use super::mask::{rotated, unmask_into};
use super::spare;
use super::utf8::valid_prefix;
use super::{
    CloseFrame, FrameHeader, Inflater, Limits, MAX_HEADER, Message, OpCode, ProtocolError,
    apply_mask, parse_close_payload,
};

pub use parts::{Part, Unit};

/// From how many missing bytes on [`Decoder::payload_sink`] is worth a read of its own: 16 KiB.
/// Below, the copy out of a shared read buffer is cheaper than the extra system call.
pub const DIRECT_READ_MIN: usize = 16 << 10;

/// Which side of the connection this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Every frame of the peer must be masked (RFC 6455, 5.1).
    Server,
    /// No frame of the peer may be masked (RFC 6455, 5.1).
    Client,
}

/// What the peer said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A whole message.
    Message(Message),
    /// A part of a message, if [`Decoder::deliver`] asks for that.
    Part(Part),
    /// A ping; a pong with the same payload is due.
    Ping(Vec<u8>),
    /// A pong.
    Pong(Vec<u8>),
    /// The close frame. Nothing after it counts (RFC 6455, 1.4): later input is dropped.
    Close(Option<CloseFrame>),
}

/// Where payload may be read to directly: see [`Decoder::payload_sink`].
#[derive(Debug)]
pub struct PayloadSink<'a> {
    /// The message under assembly. Bytes may be appended, as they came from the wire, and nothing
    /// else changed. It has spare capacity.
    pub buffer: &'a mut Vec<u8>,
    /// How many bytes of the frame are missing: the most that may be appended.
    pub remaining: usize,
}

/// Turns received bytes into [`Event`]s. Between messages it owns no heap memory.
///
/// What it holds of a message grows with the bytes that have arrived, never with what a header
/// announces. Text is validated as it arrives, so that a bad byte ends the connection at once (RFC
/// 6455, 8.1), and never twice.
///
/// After an error it is of no more use: it drops what it holds and repeats the error.
#[derive(Debug)]
pub struct Decoder {
    role: Role,
    limits: Limits,
    stage: Stage,
    /// The start of an unfinished header: `head_len` bytes, fewer than [`MAX_HEADER`].
    head: [u8; MAX_HEADER],
    head_len: u8,
    /// The frame whose payload is under way. Has a meaning in [`Stage::Payload`] only, save that
    /// nothing remains of it otherwise, but what is [owed](Decoder::owed) behind an error.
    frame: Frame,
    /// The data message under assembly, over frames and between them.
    assembly: Assembly,
    /// The payload of an unfinished control frame, at most 125 bytes.
    control: Vec<u8>,
    /// If permessage-deflate was agreed on.
    inflater: Option<Box<Inflater>>,
    /// The message under assembly is compressed.
    inflating: bool,
    unit: Unit,
    /// A part of the message under way has been given as such.
    begun: bool,
    /// How many messages were given in parts; each frame given as such counts for one.
    serial: u32,
    /// The rest of it is dropped.
    skipping: bool,
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    Header,
    Payload,
    Closed,
    Failed(ProtocolError),
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    remaining: usize,
    /// Rotated to the next byte; all zero, which changes nothing, for an unmasked frame.
    key: [u8; 4],
    opcode: OpCode,
    fin: bool,
}

impl Decoder {
    /// A decoder for the frames of the peer, `role` being this side.
    pub fn new(role: Role, limits: Limits) -> Decoder {
        Decoder {
            role,
            limits,
            stage: Stage::Header,
            head: [0; MAX_HEADER],
            head_len: 0,
            frame: Frame {
                remaining: 0,
                key: [0; 4],
                opcode: OpCode::Continuation,
                fin: true,
            },
            assembly: Assembly::None,
            control: Vec::new(),
            inflater: None,
            inflating: false,
            unit: Unit::Messages,
            begun: false,
            serial: 0,
            skipping: false,
        }
    }

    /// Takes messages compressed by permessage-deflate from now on. The limit on messages' sizes
    /// then counts what they are decompressed to.
    #[must_use]
    pub fn with_deflate(mut self, inflater: Inflater) -> Decoder {
        self.inflater = Some(Box::new(inflater));
        self
    }

    /// Takes bytes from the front of `input`, unmasking them in place, up to the end of the first
    /// event. Returns how many it took, and the event.
    ///
    /// Without an event, and with an error, all of `input` is taken: an unfinished header or
    /// payload is kept inside. With an event, call again with the rest.
    ///
    /// # Errors
    ///
    /// The peer broke the protocol or passed a limit. Every later call gives the same error.
    pub fn decode(&mut self, input: &mut [u8]) -> (usize, Result<Option<Event>, ProtocolError>) {
        let mut at = 0;
        match self.advance(input, &mut at) {
            Ok(Some(event)) => (at, Ok(Some(event))),
            Ok(None) => (input.len(), Ok(None)),
            Err(error) => (input.len(), Err(self.fail(error))),
        }
    }

    /// The short way for what nearly all input is: if `input` starts with a whole, unfragmented,
    /// valid data frame, and nothing is under way, takes it and returns its length on the wire
    /// and its message. `None` says nothing, and changes nothing: call
    /// [`decode`](Decoder::decode).
    #[inline(always)]
    pub fn decode_message(&mut self, input: &mut [u8]) -> Option<(usize, Message)> {
        if !matches!(self.stage, Stage::Header) || self.head_len != 0 || !self.assembly.is_none() {
            return None;
        }
        let &[first, second, ..] = &*input else {
            return None;
        };
        let text = match first {
            0x81 => true,
            0x82 => false,
            _ => return None,
        };
        let masked = second & 0x80 != 0;
        if masked != (self.role == Role::Server) {
            return None;
        }
        let (len, start) = match second & 0x7f {
            126 => {
                let len = u16::from_be_bytes([*input.get(2)?, *input.get(3)?]);
                if len < 126 {
                    return None;
                }
                (usize::from(len), 4)
            }
            // A frame so long is rarely whole, and then the long way costs nothing.
            127 => return None,
            len => (usize::from(len), 2),
        };
        if len > self.limits.max_frame_size || len > self.limits.max_message_size {
            return None;
        }
        let (key, start) = if masked {
            let &[a, b, c, d] = input.get(start..start + 4)? else {
                return None;
            };
            ([a, b, c, d], start + 4)
        } else {
            ([0; 4], start)
        };
        let end = start + len;
        let payload = input.get_mut(start..end)?;
        if text {
            apply_mask(payload, key, 0);
            match simdutf8::basic::from_utf8(payload) {
                Ok(text) => {
                    // Of nothing it is a string without a look at it.
                    let mut owned = String::from_utf8(spare::take(len)).unwrap_or_default();
                    owned.push_str(text);
                    Some((end, Message::Text(owned)))
                }
                Err(_) => {
                    // The long way finds the error, and wants the input as it was.
                    apply_mask(payload, key, 0);
                    None
                }
            }
        } else {
            let mut bytes = spare::take(len);
            unmask_into(&mut bytes, payload, key);
            Some((end, Message::Binary(bytes)))
        }
    }

    /// While a large binary frame is under way: the message's own buffer, so that the rest can be
    /// read from the transport to where it belongs. `None` at any other time, for text (which
    /// is validated as it comes), and when less than [`DIRECT_READ_MIN`] bytes are missing: use
    /// [`decode`](Decoder::decode) then.
    ///
    /// It reserves memory for at least [`DIRECT_READ_MIN`] bytes; ask for it when there is
    /// something to read, not before. After appending call
    /// [`sink_filled`](Decoder::sink_filled).
    pub fn payload_sink(&mut self) -> Option<PayloadSink<'_>> {
        let remaining = self.frame.remaining;
        // A control frame never misses that much, so this is a data frame.
        let is_plain = !self.inflating && !self.in_parts();
        if !matches!(self.stage, Stage::Payload) || remaining < DIRECT_READ_MIN || !is_plain {
            return None;
        }
        let expected = self.expected();
        // Without memory there is no sink, and `decode` reports the error.
        let buffer = self.assembly.buffer(DIRECT_READ_MIN, expected)?;
        Some(PayloadSink { buffer, remaining })
    }

    /// Tells that `n` bytes were appended to the buffer of [`payload_sink`](Decoder::payload_sink);
    /// returns the event if they complete the message.
    ///
    /// # Errors
    ///
    /// After an error, the same error.
    ///
    /// # Panics
    ///
    /// If `n` is more than was missing, or if no sink was to be had.
    pub fn sink_filled(&mut self, n: usize) -> Result<Option<Event>, ProtocolError> {
        if let Stage::Failed(error) = self.stage {
            return Err(error);
        }
        if n == 0 {
            return Ok(None);
        }
        let Assembly::Binary(buffer) = &mut self.assembly else {
            panic!("sink_filled({n}) without a payload sink");
        };
        assert!(
            matches!(self.stage, Stage::Payload)
                && !self.frame.opcode.is_control()
                && n <= self.frame.remaining.min(buffer.len()),
            "sink_filled({n}) for more bytes than the payload sink took"
        );
        let start = buffer.len() - n;
        self.frame.unmask(&mut buffer[start..]);
        if self.frame.remaining > 0 {
            return Ok(None);
        }
        self.finish_frame().map_err(|error| self.fail(error))
    }

    /// True between messages with nothing kept, not even a part of a header: the decoder then owns
    /// no heap memory and the next byte starts a frame (or is dropped, after a close frame).
    #[inline]
    pub fn is_idle(&self) -> bool {
        self.head_len == 0 && self.assembly.is_none() && !matches!(self.stage, Stage::Payload)
    }

    /// True in the middle of a frame: a part of it has been decoded, and the next byte belongs to it.
    /// The peer can send no other frame before its end, not even a pong.
    #[inline]
    pub fn is_amid_frame(&self) -> bool {
        self.head_len > 0 || matches!(self.stage, Stage::Payload)
    }

    /// True behind the peer's close frame and after an error: there is nothing more to come.
    #[inline]
    pub fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Closed | Stage::Failed(_))
    }

    /// Behind an error: how many bytes of the frame that was refused the peer has still to send, as
    /// far as its header could be read. A peer that sends all of a frame before it looks at what
    /// came may lose the close frame if the transport ends before these bytes have been taken. 0 at
    /// any other time.
    pub fn owed(&self) -> usize {
        match self.stage {
            Stage::Failed(_) => self.frame.remaining,
            _ => 0,
        }
    }

    /// Notes what is owed of the frame that starts what is left of the input, and is refused.
    #[cold]
    fn refuse(&mut self, input: &[u8]) {
        let (head, len) = self.joined_head(input);
        if let Ok(Some((header, used))) = FrameHeader::parse(&head[..len]) {
            let there = usize::from(self.head_len) + input.len() - used;
            let len = usize::try_from(header.payload_len).unwrap_or(usize::MAX);
            self.frame.remaining = len.saturating_sub(there);
        }
    }

    /// True if `input`, as the next bytes, holds the end of at least one frame (or an error), so
    /// that [`decode`](Decoder::decode) is worth a call before output is flushed. Cheap;
    /// changes nothing.
    #[inline]
    pub fn has_complete_frame(&self, input: &[u8]) -> bool {
        match self.stage {
            Stage::Payload => input.len() >= self.frame.remaining,
            Stage::Header if self.head_len == 0 => self.is_complete(input, input.len()),
            Stage::Header => {
                let (head, len) = self.joined_head(input);
                self.is_complete(&head[..len], usize::from(self.head_len) + input.len())
            }
            Stage::Closed | Stage::Failed(_) => false,
        }
    }

    /// True if the frame whose header starts `bytes` ends within `available` bytes, or is an error.
    #[inline]
    fn is_complete(&self, bytes: &[u8], available: usize) -> bool {
        match self.parse_header(bytes) {
            Ok(Some((header, used))) => header.payload_len <= (available - used) as u64,
            Ok(None) => false,
            Err(_) => true,
        }
    }

    /// Decodes from `input[*at..]` to the first event, leaving `at` behind it.
    #[inline]
    fn advance(
        &mut self,
        input: &mut [u8],
        at: &mut usize,
    ) -> Result<Option<Event>, ProtocolError> {
        loop {
            match self.stage {
                Stage::Header => {
                    let taken = self.take_header(&input[*at..]);
                    if taken.is_err() {
                        self.refuse(&input[*at..]);
                    }
                    let Some((header, used)) = taken? else {
                        return Ok(None);
                    };
                    *at += used;
                    // Admitted by the limits, so it fits a usize.
                    let len = header.payload_len as usize;
                    if header.fin
                        && header.opcode != OpCode::Continuation
                        && (self.unit == Unit::Messages || header.opcode.is_control())
                        && let Some(payload) = input[*at..].get_mut(..len)
                    {
                        *at += len;
                        return self.whole_frame(&header, payload).map(Some);
                    }
                    self.begin_frame(&header, len);
                }
                Stage::Payload => {
                    let input = &mut input[*at..];
                    let (used, event) = match self.in_parts() && !self.frame.opcode.is_control() {
                        false => self.take_payload(input)?,
                        true => self.take_part(input)?,
                    };
                    *at += used;
                    if event.is_some() || matches!(self.stage, Stage::Payload) {
                        return Ok(event);
                    }
                }
                Stage::Closed => return Ok(None),
                Stage::Failed(error) => return Err(error),
            }
        }
    }

    /// The next header and how many bytes of `input` belong to it; keeps an unfinished one.
    #[inline]
    fn take_header(&mut self, input: &[u8]) -> Result<Option<(FrameHeader, usize)>, ProtocolError> {
        if self.head_len == 0 {
            let parsed = self.parse_header(input)?;
            if parsed.is_none() {
                self.head[..input.len()].copy_from_slice(input);
                self.head_len = input.len() as u8;
            }
            return Ok(parsed);
        }
        let had = usize::from(self.head_len);
        let (head, len) = self.joined_head(input);
        let parsed = self.parse_header(&head[..len])?;
        match parsed {
            Some((header, used)) => {
                self.head_len = 0;
                Ok(Some((header, used - had)))
            }
            None => {
                self.head = head;
                self.head_len = len as u8;
                Ok(None)
            }
        }
    }

    /// The kept part of a header with `input` after it, and how long that is.
    fn joined_head(&self, input: &[u8]) -> ([u8; MAX_HEADER], usize) {
        let had = usize::from(self.head_len);
        let mut head = self.head;
        let taken = input.len().min(MAX_HEADER - had);
        head[had..had + taken].copy_from_slice(&input[..taken]);
        (head, had + taken)
    }

    /// Parses a header and judges it, byte by byte in wire order, so that the same bytes give the
    /// same error however they were cut.
    #[inline]
    fn parse_header(&self, bytes: &[u8]) -> Result<Option<(FrameHeader, usize)>, ProtocolError> {
        let Some(&first) = bytes.first() else {
            return Ok(None);
        };
        let FirstByte { rsv, opcode, .. } = FirstByte::parse(first)?;
        // 5.2: "MUST be 0 unless an extension is negotiated". RFC 7692, 6: permessage-deflate has
        // given RSV1 a meaning in the first frame of a message.
        if rsv != 0 && !(rsv == RSV1 && self.inflater.is_some() && is_first(opcode)) {
            return Err(ProtocolError::ReservedBits(rsv));
        }
        // 5.4: fragments of one message follow each other, with only control frames between them.
        match (self.assembly.is_none(), opcode) {
            (true, OpCode::Continuation) => return Err(ProtocolError::UnexpectedContinuation),
            (false, OpCode::Text | OpCode::Binary) => {
                return Err(ProtocolError::UnfinishedMessage(opcode));
            }
            _ => {}
        }
        let Some(&second) = bytes.get(1) else {
            return Ok(None);
        };
        match (self.role, second & 0x80 != 0) {
            (Role::Server, false) => return Err(ProtocolError::Unmasked),
            (Role::Client, true) => return Err(ProtocolError::Masked),
            _ => {}
        }
        let Some((header, used)) = FrameHeader::parse(bytes)? else {
            return Ok(None);
        };
        if !opcode.is_control() {
            self.check_limits(&header)?;
        }
        Ok(Some((header, used)))
    }

    #[inline]
    fn check_limits(&self, header: &FrameHeader) -> Result<(), ProtocolError> {
        let len = header.payload_len;
        let max = self.limits.max_frame_size;
        let is_whole = !self.in_parts();
        if !is_whole && self.part_limit().is_none() {
            return Ok(());
        }
        if header.rsv != 0 || (self.inflating && header.opcode == OpCode::Continuation) {
            // What can't be compressed grows: by an eighth at most, where a fast compressor sticks
            // to the code that needs no table.
            let max = max.saturating_add(max / 8 + 64);
            return match len > max as u64 {
                true => Err(ProtocolError::FrameTooLarge { len, max }),
                false => Ok(()),
            };
        }
        if len > max as u64 {
            return Err(ProtocolError::FrameTooLarge { len, max });
        }
        let len = len + self.assembly.len() as u64;
        let max = self.limits.max_message_size;
        if is_whole && len > max as u64 {
            return Err(ProtocolError::MessageTooLarge { len, max });
        }
        Ok(())
    }

    /// The fast path: a whole control frame or unfragmented message, unmasked where it lies and
    /// copied once.
    #[inline]
    fn whole_frame(
        &mut self,
        header: &FrameHeader,
        payload: &mut [u8],
    ) -> Result<Event, ProtocolError> {
        if header.rsv != 0 {
            return self.whole_compressed(header, payload);
        }
        if header.opcode == OpCode::Binary
            && let Some(key) = header.mask
        {
            return Ok(Event::Message(Message::Binary(unmasked_copy(
                payload, key,
            )?)));
        }
        if let Some(key) = header.mask {
            apply_mask(payload, key, 0);
        }
        match header.opcode {
            OpCode::Text => match simdutf8::basic::from_utf8(payload) {
                Ok(text) => Ok(Event::Message(Message::Text(copy_text(text)?))),
                Err(_) => Err(ProtocolError::InvalidText {
                    valid_up_to: valid_prefix(payload),
                }),
            },
            OpCode::Binary => Ok(Event::Message(Message::Binary(copy_bytes(payload)?))),
            opcode => self.control_event(opcode, payload),
        }
    }

    #[inline(never)]
    fn whole_compressed(
        &mut self,
        header: &FrameHeader,
        payload: &mut [u8],
    ) -> Result<Event, ProtocolError> {
        if let Some(key) = header.mask {
            apply_mask(payload, key, 0);
        }
        self.assembly = Assembly::begin(header.opcode);
        self.inflating = true;
        self.inflate(payload)?;
        self.finish_message()
    }

    fn begin_frame(&mut self, header: &FrameHeader, len: usize) {
        if is_first(header.opcode) {
            self.assembly = match self.unit {
                Unit::Frames => Assembly::begin(header.opcode).into_raw(),
                _ => Assembly::begin(header.opcode),
            };
            self.inflating = header.rsv != 0;
        }
        self.frame = Frame {
            remaining: len,
            key: header.mask.unwrap_or_default(),
            opcode: header.opcode,
            fin: header.fin,
        };
        self.stage = Stage::Payload;
    }

    /// Takes what there is of the frame's payload; returns how much that is, and the event if it
    /// ends one.
    fn take_payload(&mut self, input: &mut [u8]) -> Result<(usize, Option<Event>), ProtocolError> {
        let used = self.frame.remaining.min(input.len());
        if used > 0 {
            self.append(&mut input[..used])?;
        }
        if self.frame.remaining > 0 {
            return Ok((used, None));
        }
        Ok((used, self.finish_frame()?))
    }

    fn append(&mut self, payload: &mut [u8]) -> Result<(), ProtocolError> {
        if self.frame.opcode.is_control() {
            self.control.reserve_exact(self.frame.remaining);
            self.frame.unmask(payload);
            self.control.extend_from_slice(payload);
            return Ok(());
        }
        if self.inflating {
            self.frame.unmask(payload);
            return self.inflate(payload);
        }
        let expected = self.expected();
        self.frame.unmask(payload);
        self.assembly.append(payload, expected)
    }

    /// Adds compressed payload to the message under assembly.
    fn inflate(&mut self, payload: &[u8]) -> Result<(), ProtocolError> {
        let max = self.inflated_limit();
        let assembly = &mut self.assembly;
        let inflater = self.inflater.as_mut().expect("RSV1 is refused without");
        inflater.inflate(payload, &mut |piece| assembly.append_inflated(piece, max))
    }

    /// The end of a compressed message: what of it was not to be had before.
    fn finish_inflating(&mut self) -> Result<(), ProtocolError> {
        if !std::mem::take(&mut self.inflating) {
            return Ok(());
        }
        let max = self.inflated_limit();
        let assembly = &mut self.assembly;
        let inflater = self.inflater.as_mut().expect("RSV1 is refused without");
        inflater.finish(&mut |piece| assembly.append_inflated(piece, max))
    }

    fn inflated_limit(&self) -> usize {
        match self.in_parts() {
            false => self.limits.max_message_size,
            true => self.part_limit().unwrap_or(usize::MAX),
        }
    }

    /// The end of a message: the event.
    fn finish_message(&mut self) -> Result<Event, ProtocolError> {
        self.finish_inflating()?;
        let message = std::mem::take(&mut self.assembly).finish()?;
        Ok(Event::Message(message))
    }

    fn expected(&self) -> Expected {
        Expected {
            frame: self.frame.remaining,
            last: self.frame.fin,
            max: self.limits.max_message_size,
        }
    }

    /// The end of a frame's payload: the event, unless more fragments are to come.
    fn finish_frame(&mut self) -> Result<Option<Event>, ProtocolError> {
        self.stage = Stage::Header;
        if self.frame.opcode.is_control() {
            let payload = std::mem::take(&mut self.control);
            return self.control_event(self.frame.opcode, &payload).map(Some);
        }
        if !self.frame.fin {
            return Ok(None);
        }
        self.finish_message().map(Some)
    }

    fn control_event(&mut self, opcode: OpCode, payload: &[u8]) -> Result<Event, ProtocolError> {
        match opcode {
            OpCode::Ping => Ok(Event::Ping(payload.to_vec())),
            OpCode::Pong => Ok(Event::Pong(payload.to_vec())),
            _ => {
                let frame = parse_close_payload(payload)?;
                self.discard(Stage::Closed);
                Ok(Event::Close(frame))
            }
        }
    }

    #[cold]
    fn fail(&mut self, error: ProtocolError) -> ProtocolError {
        self.discard(Stage::Failed(error));
        error
    }

    /// Ends the decoding and gives all memory back.
    fn discard(&mut self, stage: Stage) {
        self.stage = stage;
        self.head_len = 0;
        self.assembly = Assembly::None;
        self.control = Vec::new();
        self.inflating = false;
        self.begun = false;
        self.skipping = false;
        if let Some(inflater) = &mut self.inflater {
            inflater.discard();
        }
    }
}

/// Whether it begins a message.
fn is_first(opcode: OpCode) -> bool {
    matches!(opcode, OpCode::Text | OpCode::Binary)
}

impl Frame {
    /// Unmasks the next bytes of the payload and counts them off.
    fn unmask(&mut self, payload: &mut [u8]) {
        if self.key != [0; 4] {
            apply_mask(payload, self.key, 0);
            self.key = rotated(self.key, payload.len());
        }
        self.remaining -= payload.len();
    }
}

/// A message of its exact size. What is small is allocated like everything else in the process;
/// only where a peer can ask for much is the refusal of memory the peer's affair alone.
#[inline]
fn copy_text(text: &str) -> Result<String, ProtocolError> {
    if text.len() <= FIRST_RESERVATION {
        return Ok(text.to_owned());
    }
    let mut owned = String::new();
    let len = text.len();
    owned
        .try_reserve_exact(len)
        .map_err(|_| ProtocolError::OutOfMemory { len })?;
    owned.push_str(text);
    Ok(owned)
}

/// As `copy_text`, unmasking on the way.
#[inline(always)]
fn unmasked_copy(bytes: &[u8], key: [u8; 4]) -> Result<Vec<u8>, ProtocolError> {
    let len = bytes.len();
    let mut owned;
    if len <= FIRST_RESERVATION {
        owned = Vec::with_capacity(len);
    } else {
        owned = Vec::new();
        owned
            .try_reserve_exact(len)
            .map_err(|_| ProtocolError::OutOfMemory { len })?;
    }
    unmask_into(&mut owned, bytes, key);
    Ok(owned)
}

/// As `copy_text`.
#[inline]
fn copy_bytes(bytes: &[u8]) -> Result<Vec<u8>, ProtocolError> {
    if bytes.len() <= FIRST_RESERVATION {
        return Ok(bytes.to_vec());
    }
    let mut owned = Vec::new();
    let len = bytes.len();
    owned
        .try_reserve_exact(len)
        .map_err(|_| ProtocolError::OutOfMemory { len })?;
    owned.extend_from_slice(bytes);
    Ok(owned)
}
