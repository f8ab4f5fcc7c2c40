//! Messages in parts: as they arrive, or frame by frame.

use super::*;

/// How a [`Decoder`] gives messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unit {
    /// Whole, as [`Event::Message`].
    #[default]
    Messages,
    /// As they arrive, as [`Event::Part`], whatever the frames: text is cut between characters.
    /// Neither messages nor frames are too long for that; no more than some 80 KiB are held at a
    /// time.
    Chunks,
    /// Frame by frame, as [`Event::Part`], each as it was sent (but for its mask and its
    /// compression). The limit on frames holds for each, that on messages does not count.
    Frames,
}

/// A part of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Text or binary for the first part of a message, else continuation.
    pub opcode: OpCode,
    /// It is the last of its message.
    pub fin: bool,
    /// The payload, unmasked and decompressed; it may be empty.
    pub payload: Vec<u8>,
}

/// So much of a message is gathered before a part of it is given, if that much is at hand.
const CHUNK: usize = 16 << 10;

/// How many compressed bytes are decompressed at a time: they may become a thousand times as many.
const COMPRESSED_STEP: usize = 64;

impl Decoder {
    /// How messages are given from now on, in the middle of one too: what has been kept of it comes
    /// with the next part. Of a message of which a part was given as such, the rest is not a
    /// message: it is dropped where whole ones are asked for.
    ///
    /// # Errors
    ///
    /// When a message whose parts might have been of any length is asked for as a whole, and is too
    /// long.
    pub fn deliver(&mut self, unit: Unit) -> Result<(), ProtocolError> {
        if self.unit == unit {
            return Ok(());
        }
        self.unit = unit;
        let assembly = std::mem::take(&mut self.assembly);
        self.assembly = match unit {
            Unit::Frames => assembly.into_raw(),
            Unit::Messages | Unit::Chunks => assembly.into_message(),
        };
        if unit == Unit::Messages {
            self.skip_rest();
            if !self.skipping && !self.assembly.is_none() {
                self.check_length().map_err(|error| self.fail(error))?;
            }
        }
        Ok(())
    }

    /// How messages are given.
    pub fn unit(&self) -> Unit {
        self.unit
    }

    /// Has the rest of a message dropped of which a part was given.
    pub fn skip_rest(&mut self) {
        self.skipping |= self.begun;
    }

    /// The number of the message under way, if parts of it have been given and more of it will be:
    /// whoever reads it sees by that whether it still is the same one, and nobody has had a part of
    /// it as a frame.
    pub fn in_parts_serial(&self) -> Option<u32> {
        (self.begun && !self.skipping).then_some(self.serial)
    }

    /// Whether what has come of the message under way is within the limits that a whole one has.
    fn check_length(&self) -> Result<(), ProtocolError> {
        let coming = match self.stage {
            Stage::Payload if !self.frame.opcode.is_control() && !self.inflating => {
                self.frame.remaining
            }
            _ => 0,
        };
        let len = (self.assembly.len() + coming) as u64;
        let max = self.limits.max_message_size;
        match len > max as u64 {
            true => Err(ProtocolError::MessageTooLarge { len, max }),
            false => Ok(()),
        }
    }

    /// Whether the message under way is given in parts, or dropped.
    #[inline]
    pub(super) fn in_parts(&self) -> bool {
        self.unit != Unit::Messages || self.skipping
    }

    /// Which limit the parts of a message have; none if they are given as they come.
    pub(super) fn part_limit(&self) -> Option<usize> {
        match self.unit {
            Unit::Frames if !self.skipping => Some(self.limits.max_frame_size),
            _ => None,
        }
    }

    /// Takes what there is of a data frame's payload, up to the end of a part; returns how much
    /// that is, and the part.
    pub(super) fn take_part(
        &mut self,
        input: &mut [u8],
    ) -> Result<(usize, Option<Event>), ProtocolError> {
        let mut used = 0;
        loop {
            let step = if self.inflating {
                COMPRESSED_STEP
            } else {
                CHUNK
            };
            let step = step.min(self.frame.remaining).min(input.len() - used);
            if step > 0 {
                self.append(&mut input[used..used + step])?;
                used += step;
            }
            if self.frame.remaining == 0 {
                return Ok((used, self.finish_part()?));
            }
            let is_full = self.assembly.len() >= CHUNK;
            if self.skipping {
                self.assembly.take_part();
            } else if self.unit == Unit::Chunks && (is_full || used == input.len()) {
                return Ok((used, self.part(false)));
            }
            if used == input.len() {
                return Ok((used, None));
            }
        }
    }

    /// The end of a data frame: a part, if it ends one.
    fn finish_part(&mut self) -> Result<Option<Event>, ProtocolError> {
        self.stage = Stage::Header;
        if !self.frame.fin {
            return Ok(match (self.skipping, self.unit) {
                (true, _) => {
                    self.assembly.take_part();
                    None
                }
                (false, Unit::Frames) => Some(self.give(false)),
                (false, _) => self.part(false),
            });
        }
        self.finish_inflating()?;
        self.assembly.check_end()?;
        let part = self.give(true);
        self.assembly = Assembly::None;
        self.begun = false;
        Ok(match std::mem::take(&mut self.skipping) {
            true => None,
            false => Some(part),
        })
    }

    /// What has been gathered, if there is anything.
    fn part(&mut self, fin: bool) -> Option<Event> {
        match self.assembly.has_part() {
            true => Some(self.give(fin)),
            false => None,
        }
    }

    fn give(&mut self, fin: bool) -> Event {
        let opcode = match self.begun {
            true => OpCode::Continuation,
            false => self.assembly.opcode(),
        };
        if !self.begun || self.unit == Unit::Frames {
            self.serial = self.serial.wrapping_add(1);
        }
        self.begun = true;
        Event::Part(Part {
            opcode,
            fin,
            payload: self.assembly.take_part(),
        })
    }
}
