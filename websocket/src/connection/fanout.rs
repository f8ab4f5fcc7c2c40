//! Messages that go to many connections: they are put like others, except that nobody waits here.

use super::*;
use crate::outbox::SharedFrame;
use crate::proto::simd::prefetch;
use crate::proto::{FrameHeader, apply_mask};
use crate::shared::SharedMessage;

/// What became of a shared message at one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shared {
    Sent,
    /// And more waits than the high-water mark allows.
    Behind,
    /// In place of so many older ones.
    InPlaceOf(usize),
    /// The connection was closed, or broke in the write.
    Closed,
}

/// How many lines of memory a send looks at: see [`Connection`].
const LINES: usize = 3;

impl Connection {
    /// Has the processor fetch what a send needs. The connection may be gone.
    #[inline]
    pub(crate) fn prefetch(connection: *const Connection) {
        prefetch(connection, LINES);
    }

    /// Sends a shared message, or queues it; never waits. Of a volatile kind no more than `keep`
    /// messages wait for a slow peer.
    pub(crate) fn share(self: &Arc<Self>, message: &mut SharedMessage<'_>, keep: usize) -> Shared {
        let mut output = lock(&self.output);
        let output = &mut *output;
        if !output.closing.may_send_data() {
            return Shared::Closed;
        }
        let is_amid = output.unfinished.is_some();
        let frame = match &mut output.deflater {
            None => Some(message.plain()),
            Some(deflater) => match deflater.setting() {
                Some(setting) => Some(message.compressed(setting, deflater)),
                // What is compressed in view of earlier messages can't be read without them: it
                // can't be dropped, and so must not wait where only a few may.
                None if keep != usize::MAX && !output.outbox.is_empty() => Some(message.plain()),
                // It will come behind the message that is under way.
                None if is_amid => Some(message.plain()),
                None => None,
            },
        };
        let dropped = match frame {
            Some(frame) if self.role == Role::Server => self.put_shared(output, frame, keep),
            Some(frame) => match self.masked(frame) {
                Some(frame) => self.put_shared(output, &frame, keep),
                None => {
                    self.cut_locked(output, Disconnect::TransportError);
                    0
                }
            },
            None => {
                let payload = Cow::Borrowed(message.payload());
                self.put_compressed(output, message.opcode(), payload);
                0
            }
        };
        if output.cut {
            Shared::Closed
        } else if dropped > 0 {
            Shared::InPlaceOf(dropped)
        } else if (output.drain.is_some() || is_amid)
            // Looked at last: the mark is in memory that is not at hand.
            && output.waiting() > self.config.high_water
            && output.room().is_some()
        {
            Shared::Behind
        } else {
            Shared::Sent
        }
    }

    /// A client's own edition of the frame: it has a key of its own (RFC 6455, 5.3).
    fn masked(&self, frame: &SharedFrame) -> Option<SharedFrame> {
        let (mut header, used) = FrameHeader::parse(&frame.bytes).ok()??;
        let mut kind = Kind::from(header.opcode);
        header.mask = self.mask(&mut kind).then_some(kind.mask)?;
        let payload = &frame.bytes[used..];
        let (head, used) = header.encode();
        let mut bytes = Vec::with_capacity(used + payload.len());
        bytes.extend_from_slice(&head[..used]);
        bytes.extend_from_slice(payload);
        if let Some(key) = header.mask {
            apply_mask(&mut bytes[used..], key, 0);
        }
        Some(SharedFrame {
            bytes: bytes.into(),
            volatile: frame.volatile,
        })
    }

    /// As [`put`](Self::put); how many older frames were dropped for it.
    pub(super) fn put_shared(
        self: &Arc<Self>,
        output: &mut Output,
        frame: &SharedFrame,
        keep: usize,
    ) -> usize {
        if output.finishing {
            return 0;
        }
        let mut dropped = 0;
        if output.unfinished.is_some() {
            if frame.volatile != 0 {
                dropped = output.drop_deferred(frame.volatile, keep, self.stream.owed());
            }
            output.defer(frame);
            return dropped;
        }
        if output.drain.is_some() {
            // The peer is slow.
            if frame.volatile != 0 {
                dropped = output
                    .outbox
                    .drop_oldest(frame.volatile, keep, 1, self.stream.owed());
            }
            output.outbox.push_shared(frame);
            return dropped;
        }
        // What is volatile is not held back: else more of it might pile up in a batch than may wait.
        let batching = match self.batching.load(Ordering::Relaxed) {
            0 => false,
            _ if frame.volatile != 0 => false,
            greenlet => runtime::current_id() == Some(greenlet) && self.hook(output, greenlet),
        };
        let result = if batching {
            output.outbox.push_shared(frame);
            if output.outbox.len() < BATCH_MAX {
                return 0;
            }
            output.outbox.flush(&self.stream)
        } else {
            let sent = output.outbox.send_shared(&self.stream, frame);
            // What was held back went first, and this goes now.
            sent.and_then(|()| output.outbox.flush(&self.stream))
        };
        self.after_write(output, result);
        0
    }

    /// Ends the connection of a peer that reads too slowly. The close frame goes behind what waits:
    /// it can't land in the middle of another.
    pub(crate) fn end_behind(self: &Arc<Self>, cause: Disconnect) {
        self.end_behind_locked(lock(&self.output), cause);
    }

    pub(super) fn end_behind_locked(
        self: &Arc<Self>,
        mut output: MutexGuard<'_, Output>,
        cause: Disconnect,
    ) {
        let payload = self.change(&mut output, |closing| closing.fail(cause));
        if let Some(payload) = payload {
            self.put(&mut output, OpCode::Close, payload.into());
        }
        // Of a peer that is slow because of a message under way, nobody may be writing yet; and what
        // is held back is not looked after any more.
        if output.drain.is_none() {
            let written = output.outbox.flush(&self.stream);
            self.after_write(&mut output, written);
        }
        output.finishing = true;
        if output.outbox.is_empty() && !output.cut {
            self.shutdown_if_finishing(&output);
        }
        drop(output);
        self.wake_receiver();
    }

    /// Waits until no more waits than the high-water mark allows. False if that is not so at the
    /// deadline, or the connection is cut.
    pub(crate) fn await_room(&self, deadline: Instant) -> bool {
        loop {
            let room = {
                let output = lock(&self.output);
                // Who waits for the end of another's message is let go at the connection's.
                let is_over = output.unfinished.is_some() && !output.closing.may_send_data();
                match output.room() {
                    Some(room) if output.waiting() > self.config.high_water && !is_over => room,
                    _ => return !output.cut,
                }
            };
            let rest = deadline.saturating_duration_since(Instant::now());
            if !room.wait_timeout(rest) {
                // Before the deadline: the caller unwinds, and may not wait.
                return Instant::now() < deadline;
            }
        }
    }

    pub(crate) fn config(&self) -> &WebSocketConfig {
        &self.config
    }
}
