//! Messages in parts and single frames, as they come.

use super::*;
use crate::frame::Frame;

impl Connection {
    /// The next part of a message; none when the connection was closed by a handshake. The first
    /// call for a message has `first`: what is left of the one before is dropped.
    pub(crate) fn receive_part(self: &Arc<Self>, first: bool) -> Result<Option<Part>> {
        if first {
            lock(&self.input).decoder.skip_rest();
        }
        match self.await_event(Wanted::Unit(Unit::Chunks))? {
            Some(Event::Part(part)) => Ok(Some(part)),
            _ => Ok(None),
        }
    }

    /// The next frame, whatever it is; none when the connection is over.
    pub(crate) fn receive_frame(self: &Arc<Self>) -> Result<Option<Frame>> {
        Ok(match self.await_event(Wanted::Frames)? {
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
