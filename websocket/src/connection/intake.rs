//! Messages in parts and single frames, as they come.

use super::*;
use crate::frame::Frame;

impl Connection {
    /// The first part of the next message, and the number by which the rest of it is asked for; none
    /// when the connection was closed by a handshake. What is left of the message before is
    /// dropped.
    pub(crate) fn receive_first(self: &Arc<Self>) -> Result<Option<(Part, u32)>> {
        let Some(Event::Part(part)) = self.await_event(Wanted::First, false)? else {
            return Ok(None);
        };
        // Of a message that is over by now, nothing more will be asked for.
        let serial = lock(&self.input).decoder.in_parts_serial();
        Ok(Some((part, serial.unwrap_or_default())))
    }

    /// The next part of the message of this number.
    pub(crate) fn receive_rest(self: &Arc<Self>, serial: u32) -> Result<Option<Part>> {
        match self.await_event(Wanted::Rest(serial), false)? {
            Some(Event::Part(part)) => Ok(Some(part)),
            _ => Ok(None),
        }
    }

    /// The next frame, whatever it is; none when the connection is over.
    pub(crate) fn receive_frame(self: &Arc<Self>) -> Result<Option<Frame>> {
        Ok(match self.await_event(Wanted::Frames, false)? {
            Some(Event::Part(Part {
                opcode,
                fin,
                payload,
            })) => Some(Frame {
                opcode,
                fin,
                payload,
            }),
            Some(Event::Ping(payload)) => Some(Frame::of(OpCode::Ping, payload)),
            Some(Event::Pong(payload)) => Some(Frame::of(OpCode::Pong, payload)),
            Some(Event::Close(frame)) => {
                // It could be received, so it can be encoded.
                let payload = frame.and_then(|frame| frame.encode().ok());
                Some(Frame::of(OpCode::Close, payload.unwrap_or_default()))
            }
            _ => None,
        })
    }

    /// Whether a control frame is for who asked for frames: not the answer to a ping of our own. The
    /// closing handshake is gone through in any case.
    pub(super) fn is_for_caller(self: &Arc<Self>, event: &Event) -> Result<bool> {
        match event {
            Event::Pong(payload) => Ok(!self.note_pong(payload)),
            Event::Close(_) => self.answer(event.clone()).map(|()| true),
            _ => Ok(true),
        }
    }
}

impl Input {
    /// Whether the message under way is still the one of this number. At the end there is none, and
    /// that is what is to be told.
    pub(super) fn check_turn(&self, serial: u32) -> std::result::Result<(), Fault> {
        if self.decoder.in_parts_serial() == Some(serial) || self.decoder.is_over() {
            return Ok(());
        }
        Err(Fault::Wait(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the rest of this message was dropped, as something else was received meanwhile",
        )))
    }
}
