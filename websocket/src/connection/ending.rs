//! How a connection ends: the closing handshake, failures, and what becomes of the transport.

use std::net;
use std::ops::Deref;

use super::*;
use crate::wheel::after;

/// How much of a peer's data is read and dropped after the connection was failed, and for how long,
/// so that it sees the close frame and not a reset: enough for a peer that sends all of a message
/// that is too big before it looks.
const LINGER_BYTES: usize = 32 << 20;
const LINGER_TIME: Duration = Duration::from_secs(2);

/// How long a peer may pause in the middle of a frame that was refused before the transport is ended
/// under it, as a part of what all of it may take (`close_timeout`): a second by default.
const OWED_PAUSES: u32 = 5;

/// How the closing handshake stands; changed by [`Connection::change`] only.
#[derive(Debug, Default)]
pub(super) struct Closing(CloseHandshake);

impl Deref for Closing {
    type Target = CloseHandshake;

    fn deref(&self) -> &CloseHandshake {
        &self.0
    }
}

impl Connection {
    /// Goes on with the closing handshake. Its end can be seen without the lock from then on: who
    /// is about to wait for the peer looks at that after taking the place of the receiver, and who
    /// ends the connection looks for a receiver after this. Who waits for the end of another's
    /// message is let go.
    pub(super) fn change<R>(
        &self,
        output: &mut Output,
        change: impl FnOnce(&mut CloseHandshake) -> R,
    ) -> R {
        let result = change(&mut output.closing.0);
        if !output.closing.may_send_data() {
            output.release_senders();
        }
        if output.closing.is_finished() {
            self.reception.finish();
        }
        result
    }

    /// Whether nothing more is to come.
    pub(crate) fn is_finished(&self) -> bool {
        self.reception.is_finished()
    }

    /// Ends the connection at once: whoever waits for it is woken.
    pub(super) fn cut(self: &Arc<Self>, cause: Disconnect) {
        self.cut_locked(&mut lock(&self.output), cause);
    }

    pub(super) fn cut_locked(self: &Arc<Self>, output: &mut Output, cause: Disconnect) {
        // A close frame only where it can't land in the middle of another frame.
        if let Some(payload) = self.change(output, |closing| closing.fail(cause))
            && output.outbox.is_empty()
        {
            let mut kind = OpCode::Close.into();
            if self.role == Role::Server || self.mask(&mut kind) {
                (output.outbox)
                    .send(&self.stream, kind, payload.into())
                    .ok();
            }
        }
        self.end_transport(output);
    }

    fn end_transport(&self, output: &mut Output) {
        output.outbox.clear();
        output.finishing = true;
        output.cut = true;
        self.end_watch(output);
        output.release_senders();
        if let Some(drain) = output.drain.take() {
            drain.set();
        }
        self.stream.shutdown(net::Shutdown::Both).ok();
    }

    /// Wakes who waits for the peer, when there is nothing more to come.
    pub(super) fn wake_receiver(&self) {
        if self.reception.is_taken() {
            self.stream.shutdown(net::Shutdown::Read).ok();
        }
    }

    /// Fails the connection: the peer gets the close frame, and nothing of it is awaited.
    pub(crate) fn fail(self: &Arc<Self>, cause: Disconnect) {
        let mut output = lock(&self.output);
        let payload = self.change(&mut output, |closing| closing.fail(cause));
        if let Some(payload) = payload {
            self.put(&mut output, OpCode::Close, payload.into());
        }
    }

    /// Sends the close frame, if none has gone out.
    fn start_close(self: &Arc<Self>, code: CloseCode, reason: &str) -> Result<()> {
        let mut output = lock(&self.output);
        let payload = self.change(&mut output, |closing| closing.start_close(code, reason))?;
        if let Some(payload) = payload {
            self.put(&mut output, OpCode::Close, payload.into());
        }
        Ok(())
    }

    /// Sends the close frame and does not wait for the answer: the connection is cut if it does not
    /// come in time.
    pub(crate) fn close_nowait(self: &Arc<Self>, code: CloseCode, reason: &str) -> Result<()> {
        self.start_close(code, reason)?;
        self.limit_close();
        Ok(())
    }

    /// The last handle of a client is gone: closes without the caller's having to wait.
    pub(crate) fn leave(self: &Arc<Self>) {
        {
            let mut output = lock(&self.output);
            let ended = (output.closing.disconnect()).is_some_and(Disconnect::is_clean);
            if output.cut || ended && output.outbox.is_empty() {
                return self.end_watch(&mut output);
            }
        }
        let connection = Arc::clone(self);
        let leaving = Builder::new()
            .name("websocket close")
            .hub(self.home())
            .spawn(move || {
                connection.close(CloseCode::GOING_AWAY, "").ok();
                connection.finish();
            });
        // On the caller's own hub a refusal may come at once.
        if !leaving.is_ok_and(|leaving| !leaving.ready()) {
            self.abandon(CloseCode::GOING_AWAY);
        }
    }

    /// Closes: sends the close frame and waits for the peer's.
    pub(crate) fn close(self: &Arc<Self>, code: CloseCode, reason: &str) -> Result<()> {
        self.start_close(code, reason)?;
        let deadline = after(Instant::now(), self.config.close_timeout);
        // A caller that can't wait, or is killed while it does, must not leave the connection half
        // closed for ever.
        let _limited = Limited(self);
        loop {
            match self.receive_until(Some(deadline), Wanted::Anything, false) {
                // The peer had sent it before it saw the close frame: it is dropped.
                Ok(Some(_)) => {}
                // Who receives sees the peer's close frame, or leaves it to us.
                Err(Ended::Busy(_)) => {
                    if !self.await_turn(Some(deadline)) {
                        break;
                    }
                }
                Ok(None) | Err(Ended::Error(_)) => break,
            }
        }
        if self.role == Role::Client {
            // A server's handler does that.
            self.finish();
        }
        Ok(())
    }

    /// Waits until nobody waits for the peer any more. False if it was in vain: the deadline is
    /// past, and the connection cut; or the caller unwinds and may not wait.
    pub(super) fn await_turn(self: &Arc<Self>, deadline: Option<Instant>) -> bool {
        let turn = {
            let mut output = lock(&self.output);
            if !self.reception.await_leave() {
                return true;
            }
            let turn = output.turn.get_or_insert_with(|| Arc::new(Flag::new()));
            Arc::clone(turn)
        };
        let Some(deadline) = deadline else {
            return turn.wait();
        };
        let rest = deadline.saturating_duration_since(Instant::now());
        if turn.wait_timeout(rest) {
            return true;
        }
        if Instant::now() >= deadline {
            self.cut_unanswered();
        }
        false
    }

    fn cut_unanswered(self: &Arc<Self>) {
        let mut output = lock(&self.output);
        if !output.closing.is_finished() {
            self.cut_locked(&mut output, Disconnect::CloseTimeout);
        }
    }

    /// The end of the application: what waits is written, and the transport ends in an orderly way.
    pub(crate) fn finish(self: &Arc<Self>) {
        self.end_sending();
        self.wake_receiver();
        if self.await_written() {
            self.take_owed();
            self.linger();
            if self.role == Role::Server && self.is_clean() {
                // Both sides have ended theirs: nothing is left to be shut down.
                lock(&self.output).cut = true;
            }
            if self.role == Role::Client {
                // The server has ended its side, or had the time: it is not kept waiting for this one
                // because a handle is kept. A server's socket goes with its application.
                self.stream.shutdown(net::Shutdown::Both).ok();
            }
        }
    }

    /// The first part of [`finish`](Connection::finish), without a wait: nothing more is sent.
    pub(crate) fn end_sending(self: &Arc<Self>) {
        let is_owed = (1..=LINGER_BYTES).contains(&lock(&self.input).decoder.owed());
        let mut output = lock(&self.output);
        self.end_watch(&mut output);
        output.release_senders();
        if !output.finishing {
            output.owed = is_owed;
            if output.drain.is_none() {
                let written = output.outbox.flush(&self.stream);
                self.after_write(&mut output, written);
            }
            output.finishing = true;
            if output.outbox.is_empty() && !output.cut {
                self.shutdown_if_finishing(&output);
            }
        }
    }

    /// Waits until what waits is written; a peer that does not take it gets no longer than for an
    /// answer. False if the connection was cut.
    fn await_written(self: &Arc<Self>) -> bool {
        let deadline = after(Instant::now(), self.config.close_timeout);
        loop {
            let drain = {
                let mut output = lock(&self.output);
                if output.cut {
                    return false;
                }
                match &output.drain {
                    None => return true,
                    Some(_) if Instant::now() >= deadline => {
                        self.cut_locked(&mut output, Disconnect::SlowConsumer);
                        return false;
                    }
                    Some(drain) => Arc::clone(drain),
                }
            };
            let rest = deadline.saturating_duration_since(Instant::now());
            if !drain.wait_timeout(rest) && Instant::now() < deadline {
                // The caller unwinds: it may not wait.
                return false;
            }
        }
    }

    fn is_clean(&self) -> bool {
        lock(&self.output)
            .closing
            .disconnect()
            .is_some_and(Disconnect::is_clean)
    }

    /// Reads and drops the rest of the frame for which the connection was failed, and ends this side
    /// of the transport only then. A peer that sends all of a frame before it looks at what came
    /// finds the close frame either way, as long as nothing stands between; but a proxy that sees
    /// the end of this side ends the peer's connection at once, with what it has not read, and the
    /// peer finds a reset.
    fn take_owed(&self) {
        if !lock(&self.output).owed {
            return;
        }
        let owed = lock(&self.input).decoder.owed();
        let time = self.config.close_timeout;
        self.drop_input(owed, time, time / OWED_PAUSES, true);
        let mut output = lock(&self.output);
        output.owed = false;
        self.shutdown_if_finishing(&output);
    }

    /// Reads and drops what the peer still sends, for a short while: closing a socket with unread
    /// data resets the connection, and the peer might never see the close frame.
    fn linger(&self) {
        // After both close frames there is mostly nothing to read, nor to come but the end, for
        // which the client waits.
        let clean = self.role == Role::Server && self.is_clean();
        if clean && lock(&self.input).short && self.stream.is_drained_by_short_reads() {
            // The close frame was the last that had come.
            return;
        }
        self.drop_input(LINGER_BYTES, LINGER_TIME, LINGER_TIME, !clean);
    }

    /// Reads and drops so many bytes at most (there is one at least), for so long at most, and, if
    /// there may be none yet, with pauses of so long at most.
    fn drop_input(&self, mut bytes: usize, time: Duration, pause: Duration, may_pause: bool) {
        let deadline = after(Instant::now(), time);
        loop {
            match scratch::with_read_buffer(|buffer| self.stream.try_read(buffer)) {
                Ok(0) => return,
                Ok(n) if n >= bytes => return,
                Ok(n) => bytes -= n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && may_pause => {}
                Err(_) => return,
            }
            let rest = deadline
                .saturating_duration_since(Instant::now())
                .min(pause);
            if rest.is_zero() || self.stream.wait_readable_timeout(Some(rest)).is_err() {
                return;
            }
        }
    }

    /// Ends the connection without any wait: its greenlet unwinds.
    pub(crate) fn abandon(self: &Arc<Self>, code: CloseCode) {
        let mut output = lock(&self.output);
        if output.cut {
            return;
        }
        let payload = self.change(&mut output, |closing| closing.start_close(code, ""));
        if let Ok(Some(payload)) = payload {
            self.put(&mut output, OpCode::Close, payload.into());
        }
        if output.drain.is_none() {
            // What was held back; what the system does not take at once is dropped.
            output.outbox.flush(&self.stream).ok();
        }
        self.change(&mut output, |closing| {
            closing.on_transport_end(Disconnect::TransportEnd);
        });
        self.end_transport(&mut output);
    }
}

/// Sees to it that a close frame that nobody waits for any more is answered in time.
struct Limited<'a>(&'a Arc<Connection>);

impl Drop for Limited<'_> {
    fn drop(&mut self) {
        self.0.limit_close();
    }
}
