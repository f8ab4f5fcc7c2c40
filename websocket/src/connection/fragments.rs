//! Messages that are sent in fragments: no other may begin before their end.

use std::thread::{self, ThreadId};

use super::*;
use crate::frame::Frame;
use crate::outbox::SharedFrame;
use crate::proto::{Utf8Error, Utf8Validator, parse_close_payload};

/// A message of which the last fragment has not been sent.
pub(super) struct Unfinished {
    /// Whose it is: who would wait for its end would wait for itself.
    sender: Sender,
    /// Its frames are sent one by one, by anybody.
    is_raw: bool,
    /// For text, if it is.
    utf8: Option<Utf8Validator>,
    /// Set at its end, and at the connection's.
    over: Arc<Flag>,
    /// What came for many connections meanwhile.
    deferred: Vec<SharedFrame>,
    deferred_len: usize,
}

/// A greenlet, or a thread.
type Sender = (Option<u64>, ThreadId);

fn sender() -> Sender {
    (runtime::current_id(), thread::current().id())
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        self.over.set();
    }
}

impl Output {
    /// Takes in what may not go out in the middle of a message.
    pub(super) fn defer(&mut self, frame: &SharedFrame) {
        if let Some(unfinished) = &mut self.unfinished {
            unfinished.deferred_len += frame.bytes.len();
            unfinished.deferred.push(frame.clone());
        }
    }

    /// Of what waits in front of the message and of what is put off, drops the oldest of this
    /// volatile kind until fewer than `keep` are left; how many were dropped.
    pub(super) fn drop_deferred(&mut self, kind: u64, keep: usize, owed: usize) -> usize {
        let Some(unfinished) = &mut self.unfinished else {
            return 0;
        };
        let same = |frame: &SharedFrame| frame.volatile == kind;
        let count = unfinished
            .deferred
            .iter()
            .filter(|frame| same(frame))
            .count();
        let excess = (count + 1).saturating_sub(keep);
        let mut left = excess;
        unfinished.deferred.retain(|frame| {
            let drop = left > 0 && same(frame);
            if drop {
                left -= 1;
                unfinished.deferred_len -= frame.bytes.len();
            }
            !drop
        });
        let coming = count - excess + 1;
        excess + self.outbox.drop_oldest(kind, keep, coming, owed)
    }

    /// The connection is over for those who wait for the end of a message.
    pub(super) fn release_senders(&self) {
        if let Some(unfinished) = &self.unfinished {
            unfinished.over.set();
        }
    }

    /// How many bytes wait for the peer.
    pub(super) fn waiting(&self) -> usize {
        let deferred = self.unfinished.as_ref();
        self.outbox.len() + deferred.map_or(0, |unfinished| unfinished.deferred_len)
    }

    /// What is set when fewer wait.
    pub(super) fn room(&self) -> Option<Arc<Flag>> {
        let unfinished = self.unfinished.as_ref();
        match unfinished.filter(|unfinished| unfinished.deferred_len > 0) {
            Some(unfinished) => Some(Arc::clone(&unfinished.over)),
            None => self.drain.clone(),
        }
    }
}

impl Connection {
    /// Waits until no message is under way.
    pub(super) fn await_message_end<'a>(
        &'a self,
        mut output: MutexGuard<'a, Output>,
    ) -> Result<MutexGuard<'a, Output>> {
        loop {
            if !output.closing.may_send_data() {
                return Err(WebSocketError::Closed);
            }
            let Some(unfinished) = &output.unfinished else {
                return Ok(output);
            };
            if unfinished.sender == sender() {
                return Err(WebSocketError::Wait(io::Error::new(
                    io::ErrorKind::ResourceBusy,
                    "this greenlet has not finished its last message",
                )));
            }
            let over = Arc::clone(&unfinished.over);
            drop(output);
            if !over.wait() {
                return Err(WebSocketError::Wait(io::ErrorKind::WouldBlock.into()));
            }
            output = lock(&self.output);
        }
    }

    /// Begins a message that will be sent in fragments.
    pub(crate) fn begin_message(self: &Arc<Self>) -> Result<()> {
        let mut output = self.await_message_end(lock(&self.output))?;
        output.unfinished = Some(Box::new(Unfinished::new(None)));
        Ok(())
    }

    /// Sends a fragment of the message that was begun; `opcode` is that of the message for the first
    /// one. Waits as `send` does.
    pub(crate) fn send_fragment(
        self: &Arc<Self>,
        opcode: OpCode,
        fin: bool,
        payload: &[u8],
    ) -> Result<()> {
        let mut output = lock(&self.output);
        if !output.closing.may_send_data() {
            return Err(WebSocketError::Closed);
        }
        if fin && opcode != OpCode::Continuation {
            // All of it, in one frame.
            self.put_message(&mut output, opcode, Cow::Borrowed(payload));
        } else if let Some(deflater) = &mut output.deflater {
            let mut packed = scratch::take();
            deflater.compress_part(payload, fin, &mut packed);
            let kind = Kind {
                fin,
                // RFC 7692, 6: on the first frame only.
                compressed: opcode != OpCode::Continuation,
                ..opcode.into()
            };
            self.put(&mut output, kind, Cow::Borrowed(&packed));
            scratch::give(packed);
        } else {
            let kind = Kind {
                fin,
                ..opcode.into()
            };
            self.put(&mut output, kind, Cow::Borrowed(payload));
        }
        if fin {
            self.end_message(&mut output);
        }
        self.make_room(output)
    }

    /// The message that was begun has ended, or nothing of it was sent: others may begin.
    fn end_message(self: &Arc<Self>, output: &mut Output) {
        let Some(mut unfinished) = output.unfinished.take() else {
            return;
        };
        // 5.5.1: nothing but the closing handshake comes behind a close frame.
        if !output.closing.may_send_data() {
            return;
        }
        for frame in std::mem::take(&mut unfinished.deferred) {
            self.put_shared(output, &frame, usize::MAX);
        }
    }

    /// Gives up a message that was begun. If a part of it has been sent, the connection can only be
    /// failed: what was left out can't be taken back.
    pub(crate) fn abandon_message(self: &Arc<Self>, has_begun: bool) {
        if has_begun {
            self.fail(Disconnect::ApplicationError);
            self.wake_receiver();
        }
        let mut output = lock(&self.output);
        self.end_message(&mut output);
    }

    /// Sends a frame as it is, if one may be sent here.
    pub(crate) fn send_raw(self: &Arc<Self>, frame: Frame) -> Result<()> {
        let Frame {
            opcode,
            fin,
            payload,
        } = frame;
        if opcode.is_control() && !fin {
            return Err(EncodeError::FragmentedControl(opcode).into());
        }
        match opcode {
            OpCode::Close => return self.send_raw_close(&payload),
            OpCode::Ping | OpCode::Pong => return self.send_control(opcode, &payload),
            _ => {}
        }
        let mut output = lock(&self.output);
        if !output.closing.may_send_data() {
            return Err(WebSocketError::Closed);
        }
        if opcode != OpCode::Continuation {
            if let Some(unfinished) = &output.unfinished
                && unfinished.sender == sender()
            {
                return Err(EncodeError::UnfinishedMessage(opcode).into());
            }
            output = self.await_message_end(output)?;
            output.unfinished = Some(Box::new(Unfinished::new(Some(opcode))));
        }
        let checked = match &mut output.unfinished {
            Some(unfinished) if unfinished.is_raw => unfinished.check(fin, &payload),
            _ => return Err(EncodeError::UnexpectedContinuation.into()),
        };
        if let Err(error) = checked {
            if opcode != OpCode::Continuation {
                self.end_message(&mut output);
            }
            return Err(error.into());
        }
        let kind = Kind {
            fin,
            ..opcode.into()
        };
        self.put(&mut output, kind, Cow::Owned(payload));
        if fin {
            self.end_message(&mut output);
        }
        self.make_room(output)
    }

    fn send_raw_close(self: &Arc<Self>, payload: &[u8]) -> Result<()> {
        if payload.len() > MAX_CONTROL_PAYLOAD {
            return Err(EncodeError::ControlTooLong(payload.len()).into());
        }
        let frame: Option<CloseFrame> =
            parse_close_payload(payload).map_err(|_| EncodeError::InvalidClosePayload)?;
        let mut output = lock(&self.output);
        match self.change(&mut output, |closing| closing.start_close_with(frame))? {
            Some(payload) => self.put(&mut output, OpCode::Close, payload.into()),
            None => return Err(WebSocketError::Closed),
        }
        drop(output);
        self.limit_close();
        Ok(())
    }
}

impl Unfinished {
    /// A message of the calling greenlet's, or one of single frames, of which the first has this
    /// opcode.
    fn new(raw: Option<OpCode>) -> Unfinished {
        Unfinished {
            sender: sender(),
            is_raw: raw.is_some(),
            utf8: (raw == Some(OpCode::Text)).then(Utf8Validator::new),
            over: Arc::new(Flag::new()),
            deferred: Vec::new(),
            deferred_len: 0,
        }
    }

    /// Judges the next fragment's text.
    fn check(&mut self, fin: bool, payload: &[u8]) -> std::result::Result<(), EncodeError> {
        let Some(utf8) = &mut self.utf8 else {
            return Ok(());
        };
        let invalid = |Utf8Error { valid_up_to }| EncodeError::InvalidText { valid_up_to };
        if !fin {
            return utf8.push(payload).map_err(invalid);
        }
        // An error leaves the message as it was.
        let mut last = utf8.clone();
        last.push(payload)
            .and_then(|()| last.finish())
            .map_err(invalid)
    }
}
