//! [`Connection`]: one WebSocket connection. Its greenlet reads; anybody sends.
//!
//! Two locks, never held over a switch: one for what is read, one for what is written and how the
//! connection stands. Where both are needed, the reading one is taken first.

mod ending;
mod fanout;
mod fragments;
mod intake;
mod reception;
mod sending;
mod unwaited;
mod watch;

use std::borrow::Cow;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{self, AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use std::{fmt, io, net};

use greenwood_runtime as runtime;
use parking_lot::{Mutex, MutexGuard};
use runtime::net::Stream;
use runtime::net::parking::Place;
use runtime::{BeforeSwitch, Builder, Event as Flag};

use crate::config::{SlowConsumer, WebSocketConfig};
use crate::error::WebSocketError;
use crate::outbox::{COPY_MAX, Kind, Outbox};
use crate::proto::{
    CloseCode, CloseFrame, CloseHandshake, CloseState, Decoder, DeflateParams, Deflater,
    Disconnect, EncodeError, Event, MAX_CONTROL_PAYLOAD, MAX_HEADER, Message, OpCode, Outgoing,
    Part, ProtocolError, Role, Unit,
};
use crate::random;
use crate::scratch;

use ending::Closing;
pub(crate) use fanout::Shared;
use fragments::Unfinished;
use reception::{CLOSER, RECEIVER, Reception};
pub(crate) use unwaited::{Next, Unwaited};
use watch::Watch;

type Result<T> = std::result::Result<T, WebSocketError>;

/// Held back frames go out at the latest when they have grown to this.
const BATCH_MAX: usize = 64 * 1024;

/// One reservation for a large message read straight into its own memory.
const DIRECT_READ: usize = 1 << 20;

// In this order: who sends one message to thousands of connections finds none of them in the
// processor's caches, and waits for each line of memory that is touched. What a send needs is in the
// first three; with the compiler's order it was in seven.
#[repr(C)]
pub(crate) struct Connection {
    stream: Stream,
    /// The greenlet that reads, while it has more input at hand (else 0): what it sends is held
    /// back until it switches, to leave in one piece. It is the only one that compares equal,
    /// so no order with the locks is needed.
    batching: AtomicU64,
    role: Role,
    /// Who waits for the peer, and whether nothing more is to come, which is said with the output
    /// locked, and looked at without.
    reception: Reception,
    /// A message has come, or a part of one, since the idle time-out was looked at.
    active: AtomicBool,
    /// A part of a frame has come, and its end has not, since the pings looked at it.
    arriving: AtomicBool,
    /// More of the stack has been used than a connection that waits needs: for so many waits its
    /// trimming may be put off. 0: it has been trimmed.
    untrimmed: AtomicU8,
    output: Mutex<Output>,
    input: Mutex<Input>,
    /// The handler's, shared: it is larger than much of the rest.
    config: Arc<WebSocketConfig>,
}

struct Input {
    decoder: Decoder,
    /// What was read behind the last message, and how much of it is used up.
    rest: Vec<u8>,
    at: usize,
    /// What the last read brought was less than there was room for, or nothing at all.
    short: bool,
    empty: bool,
}

// In this order for the same reason.
#[repr(C)]
struct Output {
    closing: Closing,
    /// Nothing more is sent; the transport is to be shut down as soon as nothing waits.
    finishing: bool,
    /// It is over: nothing waits any more and the transport is shut down.
    cut: bool,
    /// The rest of a refused frame is awaited before the transport is shut down.
    owed: bool,
    /// If permessage-deflate was agreed on.
    deflater: Option<Box<Deflater>>,
    /// The message that is being sent in fragments, if one is.
    unfinished: Option<Box<Unfinished>>,
    /// Set when there is room again; there while a greenlet writes what waits.
    drain: Option<Arc<Flag>>,
    /// The greenlet before whose next switch what was held back leaves; 0 for none.
    hooked: u64,
    outbox: Outbox,
    /// Set when whoever waits for the peer has come to the end of it: the next may.
    turn: Option<Arc<Flag>>,
    /// What is to happen with time, if anything is.
    watch: Option<Box<Watch>>,
    /// Where the connection is parked, if it is served without a greenlet.
    place: Option<Arc<Place>>,
    /// How many pings the watch has sent.
    pings: u64,
}

/// How long a connection has to be silent before its stack is trimmed.
const PAUSE: Duration = Duration::from_millis(500);

/// After so many waits it is trimmed in any case, if nothing has used more of it meanwhile: then
/// waits need no time limit any more.
const PATIENCE: u8 = 8;

/// A message of this size takes another page of the stack.
const LARGE: usize = 4 * 1024;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock()
}

impl Connection {
    /// A connection on an upgraded stream, of which this is the side `role`; `leftover` came behind
    /// the handshake, in which `deflate` was agreed on.
    pub(crate) fn new(
        role: Role,
        stream: Stream,
        leftover: Vec<u8>,
        config: Arc<WebSocketConfig>,
        deflate: Option<&DeflateParams>,
    ) -> Arc<Connection> {
        let mut decoder = Decoder::new(role, config.limits);
        let mut deflater = None;
        if let (Some(params), Some(settings)) = (deflate, &config.deflate) {
            decoder = decoder.with_deflate(params.inflater(role));
            deflater = Some(Box::new(params.deflater(role, settings)));
        }
        let connection = Arc::new(Connection {
            stream,
            role,
            config,
            reception: Reception::new(),
            batching: AtomicU64::new(0),
            active: AtomicBool::new(false),
            arriving: AtomicBool::new(false),
            untrimmed: AtomicU8::new(PATIENCE),
            input: Mutex::new(Input {
                decoder,
                rest: leftover,
                at: 0,
                short: false,
                empty: false,
            }),
            output: Mutex::new(Output {
                closing: Closing::default(),
                outbox: Outbox::default(),
                deflater,
                unfinished: None,
                hooked: 0,
                drain: None,
                turn: None,
                watch: None,
                place: None,
                pings: 0,
                finishing: false,
                cut: false,
                owed: false,
            }),
        });
        connection.begin_watch();
        connection
    }

    pub(crate) fn peer_addr(&self) -> io::Result<net::SocketAddr> {
        self.stream.peer_addr()
    }

    /// How the connection ended; none while it has not.
    pub(crate) fn disconnect(&self) -> Option<Disconnect> {
        lock(&self.output).closing.disconnect().cloned()
    }

    pub(crate) fn is_open(&self) -> bool {
        lock(&self.output).closing.may_send_data()
    }

    /// The next message; none when the connection was closed by a handshake.
    #[inline]
    pub(crate) fn receive(self: &Arc<Self>) -> Result<Option<Message>> {
        let is_empty = {
            let mut input = self.input.lock();
            if let Some(message) = input.next_message() {
                self.note_batch(&input);
                self.active.store(true, Ordering::Relaxed);
                return Ok(Some(message));
            }
            input.rest.is_empty() && input.decoder.unit() == Unit::Messages
        };
        self.await_message(is_empty)
    }

    #[inline(never)]
    fn await_message(self: &Arc<Self>, is_empty: bool) -> Result<Option<Message>> {
        match self.await_event(Wanted::Unit(Unit::Messages), is_empty)? {
            Some(Event::Message(message)) => Ok(Some(message)),
            _ => Ok(None),
        }
    }

    /// The next of what is wanted; none when the connection was closed by a handshake. `is_empty`:
    /// what has been read already has been looked at, in vain.
    fn await_event(self: &Arc<Self>, wanted: Wanted, mut is_empty: bool) -> Result<Option<Event>> {
        loop {
            match self.receive_until(None, wanted, std::mem::take(&mut is_empty)) {
                // Somebody closes, and reads for the peer's close frame: then there is nothing to
                // come but the end.
                Err(Ended::Busy(CLOSER)) => {
                    if !self.await_turn(None) {
                        return Err(WebSocketError::Wait(io::ErrorKind::WouldBlock.into()));
                    }
                }
                Err(Ended::Busy(_)) => {
                    return Err(WebSocketError::Wait(io::Error::new(
                        io::ErrorKind::ResourceBusy,
                        "another greenlet receives from this websocket",
                    )));
                }
                Err(Ended::Error(error)) => return Err(error),
                Ok(event) => return Ok(event),
            }
        }
    }

    /// The next of what is wanted, for those who receive or, if there is a deadline, for `close`.
    fn receive_until(
        self: &Arc<Self>,
        deadline: Option<Instant>,
        wanted: Wanted,
        mut is_empty: bool,
    ) -> std::result::Result<Option<Event>, Ended> {
        loop {
            match self.next_event(deadline, wanted, std::mem::take(&mut is_empty)) {
                Ok(Some(event @ (Event::Message(_) | Event::Part(_)))) => {
                    self.active.store(true, Ordering::Relaxed);
                    return Ok(Some(event));
                }
                Ok(Some(event)) if matches!(wanted, Wanted::Frames) => {
                    if self.is_for_caller(&event)? {
                        return Ok(Some(event));
                    }
                }
                Ok(Some(event)) => self.answer(event)?,
                Ok(None) => return Ok(self.end()?),
                Err(Fault::Busy(holder)) => return Err(Ended::Busy(holder)),
                Err(Fault::Wait(error)) => return Err(WebSocketError::Wait(error).into()),
                Err(Fault::Late) => {
                    self.cut(Disconnect::CloseTimeout);
                    return Ok(self.end()?);
                }
                Err(Fault::Transport(Disconnect::TransportEnd)) => {
                    // The peer has ended its side, and may read on ours: what waits is still
                    // written, by the finish at the latest.
                    let mut output = lock(&self.output);
                    self.change(&mut output, |closing| {
                        closing.on_transport_end(Disconnect::TransportEnd);
                    });
                    drop(output);
                    return Ok(self.end()?);
                }
                Err(Fault::Transport(cause)) => {
                    self.cut(cause);
                    return Ok(self.end()?);
                }
                Err(Fault::Protocol(error)) => {
                    self.fail(Disconnect::from(error));
                    return Ok(self.end()?);
                }
            }
        }
    }

    /// What `receive` says when there is nothing more to come.
    fn end<T>(&self) -> Result<Option<T>> {
        match self.disconnect() {
            Some(disconnect) if disconnect.is_clean() => Ok(None),
            Some(disconnect) => Err(WebSocketError::Disconnected(disconnect)),
            None => Err(WebSocketError::Closed),
        }
    }

    /// The next event, waiting for it; none when the connection is over.
    fn next_event(
        self: &Arc<Self>,
        deadline: Option<Instant>,
        wanted: Wanted,
        mut is_empty: bool,
    ) -> std::result::Result<Option<Event>, Fault> {
        loop {
            if !std::mem::take(&mut is_empty) {
                let mut input = lock(&self.input);
                // Who waits for the peer has left nothing, and is not to lose its message to a call
                // that is refused.
                if !input.rest.is_empty() || !self.reception.is_taken() {
                    input.prepare(wanted)?;
                }
                if let Some(event) = input.next_of_rest() {
                    self.note_batch(&input);
                    self.note_end(&event);
                    return match event {
                        Ok(Some(event)) => Ok(Some(event)),
                        Ok(None) => continue,
                        Err(error) => Err(Fault::Protocol(error)),
                    };
                }
            }
            {
                let who = if deadline.is_some() { CLOSER } else { RECEIVER };
                let receiving = Receiving::begin(self, who);
                // Looked at after the place was taken: who ends the connection wakes who has it.
                // And whoever has it, the end is everybody's.
                if self.is_finished() {
                    return Ok(None);
                }
                let _receiving = receiving.map_err(Fault::Busy)?;
                self.wait_readable(deadline)?;
            }
            match self.read(wanted)? {
                Some(event) => return Ok(Some(event)),
                None => continue,
            }
        }
    }

    fn wait_readable(&self, deadline: Option<Instant>) -> std::result::Result<(), Fault> {
        let timeout = match deadline {
            None => None,
            Some(deadline) => {
                let rest = deadline.saturating_duration_since(Instant::now());
                if rest.is_zero() {
                    return Err(Fault::Late);
                }
                Some(rest)
            }
        };
        let untrimmed = self.untrimmed.load(Ordering::Relaxed);
        if untrimmed > 0 && deadline.is_none() {
            self.untrimmed.store(untrimmed - 1, Ordering::Relaxed);
            // Trimming costs a call, and page faults when the stack is needed again: it waits for a
            // pause.
            if untrimmed > 1 {
                match self.stream.wait_readable_timeout(Some(PAUSE)) {
                    Err(error) if error.kind() == io::ErrorKind::TimedOut => {}
                    result => return result.map_err(Fault::Wait),
                }
            }
            self.untrimmed.store(0, Ordering::Relaxed);
            runtime::trim_stack();
        }
        match self.stream.wait_readable_timeout(timeout) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(Fault::Late),
            Err(error) => Err(Fault::Wait(error)),
        }
    }

    /// Reads once, and decodes up to the first event.
    fn read(self: &Arc<Self>, wanted: Wanted) -> std::result::Result<Option<Event>, Fault> {
        let mut input = lock(&self.input);
        if input.decoder.is_over() {
            // Another thread has come to what ends the connection, and is about to tell, if it has
            // not. The end of the transport behind it must not overtake that.
            drop(input);
            std::thread::yield_now();
            return Ok(None);
        }
        self.read_into(&mut input, wanted)
    }

    /// As [`read`](Connection::read), where the input has been looked at.
    fn read_into(
        self: &Arc<Self>,
        input: &mut Input,
        wanted: Wanted,
    ) -> std::result::Result<Option<Event>, Fault> {
        input.prepare(wanted)?;
        (input.short, input.empty) = (false, false);
        if !input.rest.is_empty() {
            // Another has read meanwhile: that comes first.
            return Ok(None);
        }
        if let Some(sink) = input.decoder.payload_sink() {
            self.untrimmed.store(PATIENCE, Ordering::Relaxed);
            let room = (sink.buffer.capacity() - sink.buffer.len()).min(sink.remaining);
            let n = read_result(self.stream.try_read_vec(sink.buffer, room.min(DIRECT_READ)))?;
            input.short = n.is_none_or(|n| n < room.min(DIRECT_READ));
            input.empty = n.is_none();
            return match n {
                Some(n) => {
                    let event = input.decoder.sink_filled(n);
                    self.note_arriving(input);
                    self.note_end(&event);
                    event.map_err(Fault::Protocol)
                }
                None => Ok(None),
            };
        }
        scratch::with_read_buffer(|buffer| {
            let Some(n) = read_result(self.stream.try_read(buffer))? else {
                input.empty = true;
                return Ok(None);
            };
            input.short = n < buffer.len();
            let whole = match wanted {
                Wanted::Unit(Unit::Messages) => input.decoder.decode_message(&mut buffer[..n]),
                _ => None,
            };
            let (used, event) = match whole {
                Some((used, message)) => (used, Ok(Some(Event::Message(message)))),
                None => {
                    let decoded = input.decoder.decode(&mut buffer[..n]);
                    self.note_arriving(input);
                    decoded
                }
            };
            if used < n {
                input.rest = scratch::take();
                input.rest.extend_from_slice(&buffer[used..n]);
                input.at = 0;
                self.note_batch(input);
            }
            self.note_end(&event);
            event.map_err(Fault::Protocol)
        })
    }

    /// Notes that a part of a message has come: the peer is not idle. In the middle of a frame there
    /// can be no pong either.
    #[inline]
    fn note_arriving(&self, input: &Input) {
        if input.decoder.is_idle() {
            return;
        }
        self.active.store(true, Ordering::Relaxed);
        if input.decoder.is_amid_frame() {
            self.arriving.store(true, Ordering::Relaxed);
        }
    }

    /// Takes in what ends the connection. While the input is locked: another who reads would come
    /// to the end of the transport, which is behind it, and take that for the cause.
    #[inline]
    fn note_end(self: &Arc<Self>, decoded: &std::result::Result<Option<Event>, ProtocolError>) {
        match decoded {
            Ok(Some(Event::Close(frame))) => self.take_close(frame.clone()),
            Err(error) => self.fail(Disconnect::from(*error)),
            _ => {}
        }
    }

    #[cold]
    fn take_close(self: &Arc<Self>, frame: Option<CloseFrame>) {
        let mut output = lock(&self.output);
        let reply = self.change(&mut output, |closing| closing.on_close_received(frame));
        if let Some(reply) = reply {
            let reply = Cow::Owned(reply);
            self.put(&mut output, OpCode::Close, reply);
        }
        self.end_watch(&mut output);
    }

    /// Says whether the reading greenlet has more input at hand, and so may hold back what it
    /// sends: it goes on with that input at once, or switches, and then what was held back
    /// leaves.
    fn note_batch(&self, input: &Input) {
        let greenlet = match input.rest.is_empty() {
            true => 0,
            false => runtime::current_id().unwrap_or(0),
        };
        self.batching.store(greenlet, Ordering::Relaxed);
    }

    /// Does what a control frame asks for.
    fn answer(self: &Arc<Self>, event: Event) -> Result<()> {
        match event {
            Event::Ping(payload) => self.answer_ping(payload),
            Event::Close(_) => {
                // What it says has been taken in by `note_end`.
                self.wake_receiver();
                Ok(())
            }
            Event::Pong(payload) => {
                self.note_pong(&payload);
                Ok(())
            }
            Event::Message(_) | Event::Part(_) => Ok(()),
        }
    }

    /// A pong is due until the peer's close frame has come (RFC 6455, 5.5.2).
    fn answer_ping(self: &Arc<Self>, payload: Vec<u8>) -> Result<()> {
        let mut output = lock(&self.output);
        match output.closing.state() {
            CloseState::Open => {}
            // Who waits for the peer's close frame does not wait for room.
            CloseState::CloseSent if output.outbox.len() <= self.config.high_water => {
                self.put(&mut output, OpCode::Pong, payload.into());
                return Ok(());
            }
            _ => return Ok(()),
        }
        self.put(&mut output, OpCode::Pong, payload.into());
        self.make_room(output)
    }

    /// The hub to which the descriptor belongs.
    fn home(&self) -> usize {
        self.stream.as_raw_fd() as usize % runtime::Hub::count()
    }
}

impl Input {
    /// Has messages come as they are wanted.
    #[inline]
    fn prepare(&mut self, wanted: Wanted) -> std::result::Result<(), Fault> {
        let unit = match wanted {
            Wanted::Unit(unit) => unit,
            Wanted::First => {
                self.decoder.skip_rest();
                Unit::Chunks
            }
            Wanted::Rest(serial) => {
                self.check_turn(serial)?;
                Unit::Chunks
            }
            Wanted::Frames => Unit::Frames,
            Wanted::Anything => return Ok(()),
        };
        self.decoder.deliver(unit).map_err(Fault::Protocol)
    }

    /// The short way for a whole message in what has been read already.
    #[inline(always)]
    fn next_message(&mut self) -> Option<Message> {
        if self.rest.is_empty() {
            return None;
        }
        let (used, message) = self.decoder.decode_message(&mut self.rest[self.at..])?;
        self.use_up(used);
        Some(message)
    }

    fn use_up(&mut self, used: usize) {
        self.at += used;
        if self.at >= self.rest.len() {
            scratch::give(std::mem::take(&mut self.rest));
            self.at = 0;
        }
    }

    /// Decodes what has been read already; none when nothing is left of it.
    fn next_of_rest(&mut self) -> Option<std::result::Result<Option<Event>, ProtocolError>> {
        if self.at >= self.rest.len() {
            return None;
        }
        let (used, event) = self.decoder.decode(&mut self.rest[self.at..]);
        self.use_up(used);
        Some(event)
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
}

/// What a caller waits for.
#[derive(Debug, Clone, Copy)]
enum Wanted {
    /// Messages, in this unit; the rest is seen to.
    Unit(Unit),
    /// The first part of a message.
    First,
    /// The next part of the message of this number.
    Rest(u32),
    /// Whatever comes.
    Frames,
    /// The end.
    Anything,
}

/// Why there is no event.
enum Fault {
    /// Somebody waits for the peer already.
    Busy(u8),
    Wait(io::Error),
    Late,
    Transport(Disconnect),
    Protocol(ProtocolError),
}

/// How many bytes were read; none when there was nothing to read.
fn read_result(result: io::Result<usize>) -> std::result::Result<Option<usize>, Fault> {
    match result {
        Ok(0) => Err(Fault::Transport(Disconnect::TransportEnd)),
        Ok(n) => Ok(Some(n)),
        Err(error) => match error.kind() {
            io::ErrorKind::WouldBlock => Ok(None),
            // Of TLS, without its close_notify. The close frame is what says that nothing is
            // missing; whoever leaves that out may as well leave out the other.
            io::ErrorKind::UnexpectedEof => Err(Fault::Transport(Disconnect::TransportEnd)),
            _ => Err(Fault::Transport(Disconnect::TransportError)),
        },
    }
}

/// Why there is no message.
enum Ended {
    /// As in [`Fault`].
    Busy(u8),
    Error(WebSocketError),
}

impl From<WebSocketError> for Ended {
    fn from(error: WebSocketError) -> Ended {
        Ended::Error(error)
    }
}

/// Marks that somebody waits for the peer: two at once would share a connection's messages at
/// random.
struct Receiving<'a>(&'a Arc<Connection>);

impl Receiving<'_> {
    /// Takes the place; else says who has it.
    fn begin(connection: &Arc<Connection>, who: u8) -> std::result::Result<Receiving<'_>, u8> {
        connection.reception.take(who)?;
        Ok(Receiving(connection))
    }
}

impl Drop for Receiving<'_> {
    fn drop(&mut self) {
        let left = self.0.reception.leave();
        if left.parked {
            self.0.call_parked();
        }
        if left.waited
            && let Some(turn) = lock(&self.0.output).turn.take()
        {
            turn.set();
        }
    }
}
