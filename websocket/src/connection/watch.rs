//! What is to happen to a connection with time: pings and their deadline, the idle time-out, the
//! deadline of the closing handshake.

use super::*;
use crate::wheel::{self, after};

/// A ping that is late gets another moment if its pong may be on the way up.
const DOUBT: Duration = Duration::from_millis(50);

/// The idle time-out is looked at so many times.
const IDLE_STEPS: u32 = 4;

#[derive(Default)]
pub(super) struct Watch {
    /// When the wheel looks after the connection.
    entry: Option<Instant>,
    close_by: Option<Instant>,
    ping_at: Option<Instant>,
    pinged: Option<Pinged>,
    idle: Option<Idle>,
    rtt: Option<Duration>,
}

/// A ping whose pong has not come.
struct Pinged {
    payload: [u8; 8],
    sent: Instant,
    deadline: Instant,
    doubted: bool,
    /// What the application's last ping behind it carries.
    later: Option<Box<[u8]>>,
}

struct Idle {
    since: Instant,
    look_at: Instant,
    /// What had arrived at the last look and nobody had received.
    unread: usize,
}

impl Watch {
    /// When the next thing is to be done.
    fn next(&self) -> Option<Instant> {
        let pinged = self.pinged.as_ref().map(|pinged| pinged.deadline);
        let idle = self.idle.as_ref().map(|idle| idle.look_at);
        [self.close_by, pinged, self.ping_at, idle]
            .into_iter()
            .flatten()
            .min()
    }
}

impl Output {
    /// Notes a ping of the application's.
    pub(super) fn note_ping(&mut self, payload: &[u8]) {
        let pinged = self.watch.as_mut().and_then(|it| it.pinged.as_mut());
        if let Some(pinged) = pinged {
            pinged.later = Some(payload.into());
        }
    }
}

impl Connection {
    /// Begins with the pings and the idle time-out, if there are to be any.
    pub(super) fn begin_watch(self: &Arc<Self>) {
        let WebSocketConfig {
            ping_interval,
            idle_timeout,
            ..
        } = *self.config;
        if ping_interval.is_none() && idle_timeout.is_none() {
            return;
        }
        let now = Instant::now();
        let mut output = lock(&self.output);
        let watch = output.watch.get_or_insert_default();
        watch.ping_at = ping_interval.map(|interval| after(now, interval));
        watch.idle = idle_timeout.map(|timeout| Idle {
            since: now,
            look_at: after(now, timeout / IDLE_STEPS),
            unread: 0,
        });
        self.schedule(&mut output);
    }

    /// Cuts the connection in `close_timeout`, unless the peer has closed by then.
    pub(super) fn limit_close(self: &Arc<Self>) {
        let mut output = lock(&self.output);
        if output.closing.state() != CloseState::CloseSent {
            return;
        }
        let watch = output.watch.get_or_insert_default();
        if watch.close_by.is_none() {
            watch.close_by = Some(after(Instant::now(), self.config.close_timeout));
            if !self.schedule(&mut output) {
                self.cut_locked(&mut output, Disconnect::CloseTimeout);
            }
        }
    }

    /// Has the connection looked after when it is time; false if nobody can.
    fn schedule(self: &Arc<Self>, output: &mut Output) -> bool {
        let Some(watch) = &mut output.watch else {
            return true;
        };
        let Some(at) = watch.next() else { return true };
        // Looked after too soon, it is only asked again.
        if watch.entry.is_some_and(|entry| entry <= at) {
            return true;
        }
        if let Some(entry) = watch.entry.replace(at) {
            wheel::remove(self.home(), entry, self);
        }
        wheel::add(self.home(), at, self)
    }

    /// Nothing is to happen with time any more.
    pub(super) fn end_watch(&self, output: &mut Output) {
        if let Some(watch) = output.watch.take()
            && let Some(entry) = watch.entry
        {
            wheel::remove(self.home(), entry, self);
        }
    }

    /// Does what is due; called by the wheel.
    pub(crate) fn look_after(self: &Arc<Self>) {
        let now = Instant::now();
        let mut output = lock(&self.output);
        let is_closing = !output.closing.may_send_data();
        let Some(watch) = &mut output.watch else {
            return;
        };
        // An entry that could not be taken out any more may be the wrong one.
        if watch.entry.is_none_or(|entry| entry > now) {
            return;
        }
        watch.entry = None;
        if watch.close_by.is_some_and(|at| at <= now) {
            return self.cut_locked(&mut output, Disconnect::CloseTimeout);
        }
        if is_closing {
            // The closing handshake has a time limit of its own.
            (watch.ping_at, watch.pinged, watch.idle) = (None, None, None);
        }
        if self.is_idle(watch, now) {
            let payload = self.change(&mut output, |closing| closing.fail(Disconnect::IdleTimeout));
            if let Some(payload) = payload {
                self.put(&mut output, OpCode::Close, payload.into());
            }
            self.end_watch(&mut output);
            drop(output);
            return self.wake_receiver();
        }
        if self.is_pong_late(&mut output, now) {
            return self.cut_locked(&mut output, Disconnect::PingTimeout);
        }
        self.ping_if_due(&mut output, now);
        self.schedule(&mut output);
    }

    /// Whether no message has come for too long.
    fn is_idle(&self, watch: &mut Watch, now: Instant) -> bool {
        let (Some(idle), Some(timeout)) = (&mut watch.idle, self.config.idle_timeout) else {
            return false;
        };
        if idle.look_at > now {
            return false;
        }
        idle.look_at = after(now, timeout / IDLE_STEPS);
        // Where nobody receives, nobody sees messages come: only that there is more than before.
        let unread = match self.reception.is_taken() {
            true => 0,
            false => self.stream.unread(),
        };
        let has_come = std::mem::replace(&mut idle.unread, unread) < unread;
        if self.active.swap(false, Ordering::Relaxed) || has_come {
            idle.since = now;
        }
        now.duration_since(idle.since) >= timeout
    }

    fn is_pong_late(&self, output: &mut Output, now: Instant) -> bool {
        let waits_for_room = !output.outbox.is_empty();
        let Some(watch) = &mut output.watch else {
            return false;
        };
        let Some(pinged) = watch.pinged.as_mut().filter(|it| it.deadline <= now) else {
            return false;
        };
        // Where nobody receives, nobody sees the pong; where the ping itself waits to be written,
        // that has a limit of its own; and while a frame arrives, the pong can only come behind it.
        let is_arriving = self.arriving.swap(false, Ordering::Relaxed);
        if waits_for_room || is_arriving || !self.reception.is_taken() {
            pinged.deadline = after(now, self.config.ping_timeout);
            pinged.doubted = false;
            return false;
        }
        // Whoever receives may have begun just now, with the pong still to be read.
        pinged.deadline = now + DOUBT;
        std::mem::replace(&mut pinged.doubted, true)
    }

    fn ping_if_due(self: &Arc<Self>, output: &mut Output, now: Instant) {
        let may_send = output.closing.may_send_data() && output.outbox.is_empty();
        let (Some(watch), Some(interval)) = (&mut output.watch, self.config.ping_interval) else {
            return;
        };
        if watch.ping_at.is_none_or(|at| at > now) {
            return;
        }
        watch.ping_at = Some(after(now, interval));
        // No other ping before the last one is answered.
        if watch.pinged.is_some() || !may_send {
            return;
        }
        self.arriving.store(false, Ordering::Relaxed);
        // Different each time, so that an old pong is not taken for the one that is awaited.
        let payload = output.pings.to_be_bytes();
        watch.pinged = Some(Pinged {
            payload,
            sent: now,
            deadline: after(now, self.config.ping_timeout),
            doubted: false,
            later: None,
        });
        output.pings += 1;
        self.put(output, OpCode::Ping, payload.to_vec().into());
    }

    /// A pong has come; whether it answers a ping of the watch.
    pub(super) fn note_pong(&self, payload: &[u8]) -> bool {
        let mut output = lock(&self.output);
        let Some(watch) = &mut output.watch else {
            return false;
        };
        let Some(pinged) = &watch.pinged else {
            return false;
        };
        let is_its = pinged.payload == payload;
        if is_its {
            watch.rtt = Some(pinged.sent.elapsed());
        }
        // A peer may answer only the latest of several pings (RFC 6455, 5.5.3).
        if is_its || pinged.later.as_deref() == Some(payload) {
            watch.pinged = None;
        }
        is_its
    }

    pub(crate) fn rtt(&self) -> Option<Duration> {
        lock(&self.output).watch.as_ref()?.rtt
    }
}
