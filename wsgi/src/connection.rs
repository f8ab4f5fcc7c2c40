//! One connection, from its first byte to its end.

use std::{
    io,
    net::Shutdown,
    panic::{self, AssertUnwindSafe},
    sync::Arc,
    time::{Duration, Instant},
};

use greenwood_runtime::{
    Seat,
    net::{Address, Stream},
};

#[cfg(feature = "tls")]
use crate::tls;
use crate::{
    Environ, Error, Input,
    environ::Peers,
    exchange::{Continuation, Ended, Exchange, answer},
    log::{self, Access},
    options::Shared,
    pace::Pace,
    proto::{HeadParser, HttpError, LimitKind, PeerFault, RequestHead},
    received::Received,
    registry::Entry,
    writer::ResponseWriter,
};

/// A connection that speaks HTTP.
pub(crate) struct Connection {
    pub(crate) stream: Stream,
    entry: Entry,
    peers: Peers,
    pub(crate) received: Received,
    /// The peer has not been listened to to the end of its request.
    pub(crate) unread: bool,
}

/// What comes next on a connection.
enum Next {
    Request(RequestHead),
    /// It cannot be read; the peer is told.
    Refuse(HttpError),
    /// The peer has gone, is of no use, or the server stops.
    Close,
}

/// A connection that has been idle for longer gives back the memory of its stack.
const BUSY: Duration = Duration::from_secs(1);

/// How long a stopping server looks for a request that may have arrived already.
const LAST_LOOK: Duration = Duration::from_millis(1);

/// How long the peer may go on sending after a last response before the connection is closed, and
/// how much. Closed earlier, the reset that answers its bytes could reach it before the response.
const LINGER_TIME: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 32 * 1024 * 1024;

/// Serves a connection to its end.
pub(crate) fn serve(shared: &Arc<Shared>, stream: Stream, remote: Address, seat: Seat) {
    if let Some(continuation) = serve_http(shared, stream, remote) {
        // Here it takes no memory of its own: the page that the greenlet keeps has room for it.
        let mut continuation = take_out(continuation);
        continuation.run(&*shared.app, seat);
    }
}

/// The value, without its box.
#[expect(clippy::boxed_local, reason = "to be rid of the box is what it is for")]
pub(crate) fn take_out<T>(boxed: Box<T>) -> T {
    *boxed
}

/// Serves a connection until it ends or is given away, and then returns who goes on with it.
// Not inlined: its frame is large, and must be gone by then.
#[inline(never)]
fn serve_http(shared: &Arc<Shared>, stream: Stream, remote: Address) -> Option<Box<Continuation>> {
    let remote = remote.internet();
    let local = match (remote, shared.local) {
        // A Unix socket.
        (None, _) => None,
        (Some(_), Some(local)) => Some(local),
        (Some(_), None) => Some(stream.local_addr().ok()?), // Gone already.
    };
    // No write waits for ever.
    stream.set_write_timeout(Some(shared.write_timeout)).ok()?;
    #[cfg(feature = "tls")]
    let stream = tls::begin(shared.tls.as_ref(), &shared.registry, stream, remote)?;
    let peers = Peers {
        local,
        remote,
        server_name: shared.server_name.clone(),
        #[cfg(feature = "tls")]
        tls: stream.as_tls().map(|tls| Arc::clone(tls.info())),
    };
    let entry = shared.registry.enter(stream.clone());
    let mut connection = Connection {
        stream,
        entry,
        peers,
        received: Received::default(),
        unread: false,
    };
    let mut patience = shared.head_timeout;
    loop {
        let ended = match connection.next(shared, patience) {
            Next::Request(head) => connection.exchange(shared, head),
            Next::Refuse(error) => connection.refuse(shared, error),
            Next::Close => return None,
        };
        match ended {
            Ended::Persistent(same) => connection = same,
            Ended::Close(same) => {
                same.close();
                return None;
            }
            Ended::Cut => return None,
            Ended::Upgraded(continuation) => return continuation,
        }
        patience = shared.keep_alive_timeout;
    }
}

impl Connection {
    /// Waits for the next request: `patience` for its first byte, and then the head's time.
    fn next(&mut self, shared: &Shared, patience: Duration) -> Next {
        let mut parser = HeadParser::new();
        let mut deadline = None;
        if !self.received.is_empty()
            && let Some(next) = self.parse(&mut parser, shared)
        {
            return next;
        }
        loop {
            let waited = if is_blank(self.received.unread()) {
                self.wait_idle(patience)
            } else {
                let deadline =
                    *deadline.get_or_insert_with(|| Instant::now() + shared.head_timeout);
                self.wait_until(deadline)
            };
            match waited {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    return self.too_slow(shared);
                }
                Err(_) => return Next::Close,
            }
            self.entry.work();
            match self.received.read_from(&self.stream) {
                // Nothing before the end is no request; a part of one is a bad one.
                Ok(0) if is_blank(self.received.unread()) => return Next::Close,
                Ok(0) => return Next::Refuse(PeerFault::HeadTruncated.into()),
                Ok(_) => {
                    if let Some(next) = self.parse(&mut parser, shared) {
                        return next;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Next::Close,
            }
        }
    }

    /// Waits for the first byte of a request.
    fn wait_idle(&self, patience: Duration) -> io::Result<()> {
        if self.entry.wait() {
            // The server stops. What has come before that is still answered.
            return self.stream.wait_readable_timeout(Some(LAST_LOOK));
        }
        let first = patience.min(BUSY);
        match self.stream.wait_readable_timeout(Some(first)) {
            Err(error) if error.kind() == io::ErrorKind::TimedOut && patience > first => {
                // It will take longer: what the last request needed of the stack is given back.
                greenwood_runtime::trim_stack();
                self.stream.wait_readable_timeout(Some(patience - first))
            }
            result => result,
        }
    }

    fn wait_until(&self, deadline: Instant) -> io::Result<()> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.wait_readable_timeout(Some(left))
    }

    /// Looks for a head in what was received.
    fn parse(&mut self, parser: &mut HeadParser, shared: &Shared) -> Option<Next> {
        match parser.parse(self.received.unread(), &shared.limits) {
            Ok(Some((head, used))) => {
                self.received.consume(used);
                Some(Next::Request(head))
            }
            Ok(None) => None,
            Err(error) => Some(Next::Refuse(error)),
        }
    }

    /// What to do with a peer that let its time pass: it is told only if it has begun a request.
    fn too_slow(&self, shared: &Shared) -> Next {
        if is_blank(self.received.unread()) {
            return Next::Close;
        }
        let max = shared.head_timeout.as_millis() as u64;
        Next::Refuse(HttpError::Limit {
            limit: LimitKind::HeadTime,
            max,
        })
    }

    /// Serves one request.
    fn exchange(mut self, shared: &Arc<Shared>, head: RequestHead) -> Ended {
        let access = Access::begin(shared.access_log);
        let received = std::mem::take(&mut self.received);
        let pace = Pace::new(shared.body_timeout, shared.min_data_rate);
        let input = Input::new(
            Some(self.stream.clone()),
            &head,
            received,
            &shared.limits,
            Some(pace),
        );
        let environ = Environ::new(head, self.peers.clone(), input);
        let mut exchange = Exchange::new(shared, environ, self, access);
        let handler = &shared.handler;
        let call = || handler.handle(&mut exchange, &*shared.app);
        // Whatever the application broke is its own; ours is in the exchange, which says whether it
        // can still be used.
        match panic::catch_unwind(AssertUnwindSafe(call)) {
            Ok(result) => exchange.end(result),
            // As pywsgi, which answers 500 also when the greenlet is killed. A kill stays in force:
            // it ends the greenlet at the next call that waits.
            Err(payload) => exchange.end_unwound(payload),
        }
    }

    /// Answers what could not be read.
    fn refuse(mut self, shared: &Shared, error: HttpError) -> Ended {
        let access = Access::begin(shared.access_log);
        let received = std::mem::take(&mut self.received);
        let line = received
            .unread()
            .trim_ascii_start()
            .split(|&b| matches!(b, b'\r' | b'\n'))
            .next();
        let line = line.unwrap_or_default();
        let (peer, error) = (self.peers.logged(), Error::Http(error));
        log::failure(&error, false, line, peer);
        self.unread = true;
        let to_head = line.starts_with(b"HEAD ");
        let pace = Pace::new(shared.write_timeout, shared.min_data_rate);
        let mut response = ResponseWriter::refusal(self.stream.clone(), to_head, pace);
        let ended = answer(&mut response, &error, to_head, shared, self);
        if let Some(access) = access {
            access.finish(peer, line, error.status_hint(), response.sent());
        }
        ended
    }

    /// Closes the connection so that the last response arrives: as long as the peer sends, what it
    /// sends is read and dropped, within bounds (RFC 9112 section 9.6).
    fn close(self) {
        let mut received = self.received;
        // Mostly there is nothing, and closing at once does no harm.
        let unread = self.unread
            || !received.is_empty()
            || matches!(received.read_from(&self.stream), Ok(1..));
        if !unread || self.stream.shutdown(Shutdown::Write).is_err() {
            return;
        }
        let deadline = Instant::now() + LINGER_TIME;
        let mut left = LINGER_BYTES;
        while left > 0 {
            received.clear();
            let time = deadline.saturating_duration_since(Instant::now());
            if time.is_zero() || self.stream.wait_readable_timeout(Some(time)).is_err() {
                return;
            }
            match received.read_from(&self.stream) {
                Ok(0) => return,
                Ok(read) => left = left.saturating_sub(read),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }
}

/// Whether these bytes are no part of a request: none, or an empty line (RFC 9112 section 2.2).
fn is_blank(bytes: &[u8]) -> bool {
    bytes.iter().all(|b| matches!(b, b'\r' | b'\n'))
}
