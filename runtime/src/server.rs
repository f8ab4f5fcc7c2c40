//! [`StreamServer`]: gevent's `StreamServer`.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::error::SpawnError;
use crate::event::Event;
use crate::greenlet::{Builder, Current, Greenlet, await_end, getcurrent};
use crate::net::{self, TcpListener, TcpStream, ToSocketAddrs};
use crate::semaphore::Semaphore;
use crate::task::lock;
use crate::{hub, limits, sleep, switch};

/// How long accepting pauses when descriptors or memory have run out; doubled up to [`MAX_DELAY`].
const MIN_DELAY: Duration = Duration::from_millis(10);
const MAX_DELAY: Duration = Duration::from_secs(1);

/// How many connections are taken before the hub's other greenlets get their turn: gevent's
/// `max_accept`.
const MAX_ACCEPT: usize = 100;

/// Descriptors left for everything that is no connection, when the number of connections is not
/// set.
const SPARE_DESCRIPTORS: u64 = 64;

/// Accepts connections and runs a handler for each in a greenlet of its own: gevent's
/// `StreamServer`.
///
/// Connections go to the hubs by their descriptors' numbers, which are given out in turn. A handler
/// that panics ends its connection only. When descriptors or memory run out, accepting pauses (10
/// ms, doubled up to 1 s) and goes on; nobody who is connected notices.
///
/// A clone is a second handle to the same server, to stop it from elsewhere.
///
/// ```no_run
/// use greenwood_runtime::StreamServer;
/// use std::io::{Read, Write};
///
/// let server = StreamServer::new("127.0.0.1:7000", |mut stream, _peer| {
///     let mut buffer = [0; 1024];
///     while let Ok(n) = stream.read(&mut buffer) {
///         if n == 0 || stream.write_all(&buffer[..n]).is_err() {
///             break;
///         }
///     }
/// })?;
/// server.serve_forever()?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct StreamServer {
    inner: Arc<Inner>,
}

type Handle = dyn Fn(TcpStream, SocketAddr, Seat) + Send + Sync;

struct Inner {
    address: SocketAddr,
    handle: Box<Handle>,
    state: Mutex<State>,
    connections: Mutex<Connections>,
    /// The time to finish is over: whoever is left is killed.
    killing: AtomicBool,
    /// The greenlet that accepts is to end, if it has started at all.
    closing: AtomicBool,
    /// The greenlet that accepts had no room.
    refused: AtomicBool,
    stopped: Event,
}

struct State {
    /// None once stopped: then the port is free.
    listener: Option<Arc<TcpListener>>,
    max_connections: Option<usize>,
    acceptor: Option<Greenlet<()>>,
    /// The error that has ended accepting.
    failure: Option<i32>,
}

/// Those who are being served.
#[derive(Default)]
struct Connections {
    /// By the number of the greenlet with which they began.
    seated: HashMap<u64, Seated>,
    /// Who waits until no more than so many are left.
    waiters: Vec<(usize, Arc<Event>)>,
}

#[derive(Clone)]
enum Seated {
    /// Its handler runs in this greenlet.
    Greenlet(Current),
    Detached(Arc<dyn Detached>),
}

/// A connection that is served without a greenlet of its own: see [`Seat::detach`].
pub trait Detached: Send + Sync + 'static {
    /// The server stops and the connection's time is over: it is to end at once, as a greenlet that
    /// is killed. Must not block.
    fn kill(&self);

    /// Whether the caller is at work on this very connection: then a stop that it calls does not
    /// wait for it.
    fn is_current(&self) -> bool;
}

/// A connection's place among those that a [`StreamServer`] serves: it counts as served as long as
/// there is a seat, and the stop waits for it. Dropping it gives it up.
///
/// From [`StreamServer::with_seats`].
pub struct Seat {
    inner: Arc<Inner>,
    id: u64,
    admission: Admission,
}

impl Seat {
    /// Says that the connection goes on without the greenlet that it began with: that may end, and
    /// the server turns to `detached` from now on.
    pub fn detach(&self, detached: Arc<dyn Detached>) {
        {
            let mut connections = lock(&self.inner.connections);
            let seated = Seated::Detached(Arc::clone(&detached));
            connections.seated.insert(self.id, seated);
        }
        // A stack for another connection.
        drop(lock(&self.admission.stack).take());
        // Set before those who are left are looked at: one of the two sees the other.
        if self.inner.killing.load(Ordering::SeqCst) {
            detached.kill();
        }
    }

    fn take(inner: &Arc<Inner>, admission: Admission) -> Seat {
        let current = getcurrent().expect("handlers run in greenlets");
        let id = current.id();
        let seated = Seated::Greenlet(current);
        lock(&inner.connections).seated.insert(id, seated);
        Seat {
            inner: Arc::clone(inner),
            id,
            admission,
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let (seated, waiters) = {
            let mut connections = lock(&self.inner.connections);
            let Connections { seated, waiters } = &mut *connections;
            let left = seated.remove(&self.id);
            // A burst must not keep its room for ever.
            if seated.capacity() > 64 && seated.len() * 8 < seated.capacity() {
                seated.shrink_to_fit();
            }
            let count = seated.len();
            let waiters: Vec<_> = waiters.extract_if(.., |(few, _)| count <= *few).collect();
            (left, waiters)
        };
        // What was detached is the user's, and dropped without the lock.
        drop(seated);
        for (_, waiter) in waiters {
            waiter.set();
        }
    }
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seat")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Seated {
    fn is_current(&self, greenlet: Option<u64>) -> bool {
        match self {
            Seated::Greenlet(current) => Some(current.id()) == greenlet,
            Seated::Detached(detached) => detached.is_current(),
        }
    }

    fn kill(&self) {
        match self {
            Seated::Greenlet(current) => current.kill_nowait(),
            Seated::Detached(detached) => detached.kill(),
        }
    }
}

impl StreamServer {
    /// Listens on `address`; connections wait in the backlog until [`start`](StreamServer::start).
    ///
    /// # Errors
    ///
    /// When the address can't be had, with the address.
    pub fn new<F>(address: impl ToSocketAddrs, handle: F) -> io::Result<StreamServer>
    where
        F: Fn(TcpStream, SocketAddr) + Send + Sync + 'static,
    {
        StreamServer::from_listener(TcpListener::bind(address)?, handle)
    }

    /// As [`new`](StreamServer::new), on a listener made by the caller.
    ///
    /// # Errors
    ///
    /// When the listener has no internet address.
    pub fn from_listener<F>(listener: TcpListener, handle: F) -> io::Result<StreamServer>
    where
        F: Fn(TcpStream, SocketAddr) + Send + Sync + 'static,
    {
        StreamServer::with_seats(listener, move |stream, peer, _seat| handle(stream, peer))
    }

    /// As [`from_listener`](StreamServer::from_listener), for handlers whose connections may go on
    /// after they have returned, without a greenlet: as long as they keep the [`Seat`].
    ///
    /// # Errors
    ///
    /// When the listener has no internet address.
    pub fn with_seats<F>(listener: TcpListener, handle: F) -> io::Result<StreamServer>
    where
        F: Fn(TcpStream, SocketAddr, Seat) + Send + Sync + 'static,
    {
        let inner = Inner {
            address: listener.local_addr()?,
            handle: Box::new(handle),
            state: Mutex::new(State {
                listener: Some(Arc::new(listener)),
                max_connections: None,
                acceptor: None,
                failure: None,
            }),
            connections: Mutex::default(),
            killing: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            refused: AtomicBool::new(false),
            stopped: Event::new(),
        };
        Ok(StreamServer {
            inner: Arc::new(inner),
        })
    }

    /// The most connections at a time: further ones wait in the backlog. Default: what descriptors
    /// and greenlets allow ([`Hub::limits`](crate::Hub::limits)), less 64 descriptors; those that
    /// are [detached](Seat::detach) need no greenlet.
    ///
    /// # Panics
    ///
    /// If it is 0: the server could never serve.
    pub fn max_connections(self, connections: usize) -> StreamServer {
        assert!(
            connections > 0,
            "max_connections is 0: the server could never accept"
        );
        lock(&self.inner.state).max_connections = Some(connections);
        self
    }

    /// How many connections the system holds before they are accepted. Default: 128; capped by
    /// `net.core.somaxconn`.
    pub fn backlog(self, backlog: u16) -> StreamServer {
        if let Some(listener) = &lock(&self.inner.state).listener {
            // Fails only for a socket that does not listen.
            listener.set_backlog(backlog.into()).ok();
        }
        self
    }

    /// The address that it listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.inner.address
    }

    /// How many connections are being served.
    pub fn connections(&self) -> usize {
        lock(&self.inner.connections).seated.len()
    }

    /// Starts accepting, and returns. Does nothing if it has started.
    ///
    /// # Errors
    ///
    /// When it has been stopped, or its greenlet or the hubs can't be started.
    pub fn start(&self) -> io::Result<()> {
        let mut state = lock(&self.inner.state);
        if self.inner.refused.load(Ordering::SeqCst) {
            return Err(no_acceptor());
        }
        let Some(listener) = &state.listener else {
            return Err(io::Error::other(
                "the server has been stopped: make a new one",
            ));
        };
        if state.acceptor.is_some() {
            return Ok(());
        }
        let runtime = hub::try_runtime().map_err(io::Error::other)?;
        let hub = listener.as_raw_fd() as usize % runtime.hubs();
        let most = state.max_connections.unwrap_or_else(allowed_descriptors);
        let slots = Arc::new(Semaphore::new(most));
        let stacks = match state.max_connections {
            Some(_) => None,
            None => Some(Arc::new(Semaphore::new(limits::allowed()))),
        };
        let acceptor = Acceptor {
            inner: Arc::clone(&self.inner),
            listener: Arc::clone(listener),
            slots,
            stacks,
            delay: MIN_DELAY,
            last: Arc::default(),
        };
        let inner = Arc::clone(&self.inner);
        let unstarted = OnDrop::new(move || {
            // Or killed by the stop before its turn came.
            if !inner.closing.load(Ordering::SeqCst) {
                inner.refused.store(true, Ordering::SeqCst);
                inner.stopped.set();
            }
        });
        let name = format!("accept {}", self.inner.address);
        let greenlet = Builder::new()
            .name(name)
            .hub(hub)
            .spawn(move || {
                unstarted.disarm();
                acceptor.run();
            })
            .map_err(io::Error::other)?;
        state.acceptor = Some(greenlet);
        if self.inner.refused.load(Ordering::SeqCst) {
            state.listener.take();
            return Err(no_acceptor());
        }
        Ok(())
    }

    /// Starts accepting and waits until the server is stopped, by another handle to it. A kill or a
    /// time-out that ends the wait [closes](StreamServer::close) the server.
    ///
    /// # Errors
    ///
    /// As [`start`](StreamServer::start); what the system said of a listener that can't accept.
    pub fn serve_forever(&self) -> io::Result<()> {
        self.start()?;
        let _closed = CloseOnUnwind(self);
        self.join()
    }

    /// Waits until the server has been stopped, and all its connections have ended. A kill or a
    /// time-out that ends the wait does nothing to the server.
    ///
    /// # Errors
    ///
    /// What the system said of a listener that can't accept: then connections may be left, until
    /// the [`stop`](StreamServer::stop).
    pub fn join(&self) -> io::Result<()> {
        self.inner.stopped.wait();
        let mut state = lock(&self.inner.state);
        if self.inner.refused.load(Ordering::SeqCst) {
            state.listener.take();
            return Err(no_acceptor());
        }
        match state.failure {
            Some(code) => Err(io::Error::from_raw_os_error(code)),
            None => Ok(()),
        }
    }

    /// Stops: closes the listener, gives those who are being served `timeout` to finish, then kills
    /// them. gevent's default is 1 s. Returns when all have ended. The caller's own greenlet is
    /// left alone. A kill or a time-out that ends the wait ends the time to finish as well.
    pub fn stop(&self, timeout: Duration) {
        let _finished = FinishOnUnwind(self);
        self.close();
        self.finish(timeout);
    }

    /// The first half of [`stop`](StreamServer::stop): no more connections are accepted, and the
    /// port is free.
    pub fn close(&self) {
        let acceptor = {
            let mut state = lock(&self.inner.state);
            state.listener.take();
            state.acceptor.take()
        };
        self.inner.closing.store(true, Ordering::SeqCst);
        if let Some(acceptor) = acceptor {
            acceptor.kill();
        }
    }

    /// The second half of [`stop`](StreamServer::stop).
    pub fn finish(&self, timeout: Duration) {
        let _finished = FinishOnUnwind(self);
        self.finish_until(switch::deadline(Some(timeout)));
    }

    fn finish_until(&self, deadline: Option<u64>) {
        let (others, _) = self.others();
        self.await_others(deadline);
        self.inner.killing.store(true, Ordering::SeqCst);
        for connection in self.others().0 {
            connection.kill();
        }
        self.await_others(None);
        // A greenlet ends a little after it has given up its seat.
        for connection in others {
            if let Seated::Greenlet(greenlet) = connection {
                await_end(greenlet.task(), None);
            }
        }
        self.inner.stopped.set();
    }

    /// Those who are served, and how many of them are left out: the caller's own connection.
    fn others(&self) -> (Vec<Seated>, usize) {
        let mut seated: Vec<Seated> = {
            let connections = lock(&self.inner.connections);
            connections.seated.values().cloned().collect()
        };
        let all = seated.len();
        let myself = getcurrent().map(|current| current.id());
        seated.retain(|it| !it.is_current(myself));
        let mine = all - seated.len();
        (seated, mine)
    }

    /// Waits until only the caller's own connection is left, no longer than `deadline`.
    fn await_others(&self, deadline: Option<u64>) {
        let (_, mine) = self.others();
        let few = {
            let mut connections = lock(&self.inner.connections);
            if connections.seated.len() <= mine {
                return;
            }
            let few = Arc::new(Event::new());
            connections.waiters.push((mine, Arc::clone(&few)));
            few
        };
        few.wait_until(deadline);
    }
}

impl fmt::Debug for StreamServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamServer")
            .field("address", &self.inner.address)
            .field("connections", &self.connections())
            .finish_non_exhaustive()
    }
}

fn allowed_descriptors() -> usize {
    let descriptors = crate::sys::limits::descriptors()
        .saturating_sub(SPARE_DESCRIPTORS)
        .max(1);
    usize::try_from(descriptors).unwrap_or(usize::MAX)
}

fn no_acceptor() -> io::Error {
    io::Error::new(
        io::ErrorKind::OutOfMemory,
        "there was no memory for the stack of the greenlet that accepts",
    )
}

struct Acceptor {
    inner: Arc<Inner>,
    listener: Arc<TcpListener>,
    slots: Arc<Semaphore>,
    /// As many as there may be greenlets, if the number of connections is not set: those that go on
    /// without one do not count.
    stacks: Option<Arc<Semaphore>>,
    delay: Duration,
    /// What became of the last connection: [`SERVED`] or [`REFUSED`], or nothing yet.
    last: Arc<AtomicU8>,
}

/// Its greenlet has started.
const SERVED: u8 = 1;
/// There was no memory for the stack of its greenlet.
const REFUSED: u8 = 2;

impl Acceptor {
    fn run(mut self) {
        let mut in_a_row = 0;
        loop {
            match self.last.swap(0, Ordering::SeqCst) {
                SERVED => self.delay = MIN_DELAY,
                REFUSED => self.pause(&"no memory for the stack of a connection's greenlet"),
                _ => {}
            }
            // The slot first: a connection that can't be served yet stays in the backlog.
            let Some(slot) = self.admit() else { return };
            match self.listener.try_accept() {
                Ok((fd, peer)) => {
                    if let Err(error) = self.serve(fd, peer, slot) {
                        self.pause(&error);
                    }
                    in_a_row += 1;
                    if in_a_row >= MAX_ACCEPT {
                        in_a_row = 0;
                        crate::idle();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    drop(slot);
                    in_a_row = 0;
                    match self.listener.wait() {
                        Ok(()) => {}
                        Err(error) if net::is_exhaustion(&error) => self.pause(&error),
                        Err(error) => return self.fail(&error),
                    }
                }
                Err(error) if net::is_exhaustion(&error) => {
                    drop(slot);
                    self.pause(&error);
                }
                Err(error) if is_fatal(&error) => return self.fail(&error),
                Err(error) if is_of_the_connection(&error) => {}
                Err(error) => {
                    drop(slot);
                    self.pause(&error);
                }
            }
        }
    }

    /// Waits until there is room for a connection; none if the caller unwinds.
    fn admit(&self) -> Option<Admission> {
        let slot = Slot::wait(&self.slots)?;
        let stack = match &self.stacks {
            Some(stacks) => Some(Slot::wait(stacks)?),
            None => None,
        };
        Some(Admission {
            _slot: slot,
            stack: Mutex::new(stack),
        })
    }

    fn serve(&self, fd: OwnedFd, peer: SocketAddr, slot: Admission) -> Result<(), SpawnError> {
        // The hub to which the descriptor's number belongs: it is waited for without a duplicate.
        let hub = fd.as_raw_fd() as usize % hub::runtime().hubs();
        let stream = TcpStream::from_nonblocking(fd);
        let inner = Arc::clone(&self.inner);
        let (last, refused) = (Arc::clone(&self.last), Arc::clone(&self.last));
        let unserved = OnDrop::new(move || refused.store(REFUSED, Ordering::SeqCst));
        let run = move || {
            unserved.disarm();
            last.store(SERVED, Ordering::SeqCst);
            let seat = Seat::take(&inner, slot);
            // Accepted just before the server stopped: it is not among those that stop waits for.
            if lock(&inner.state).listener.is_some() {
                (inner.handle)(stream, peer, seat);
            }
        };
        Builder::new().hub(hub).spawn_detached(run)
    }

    fn pause(&mut self, error: &dyn fmt::Display) {
        tracing::warn!(
            address = %self.inner.address,
            delay_ms = self.delay.as_millis() as u64,
            "accepting pauses: {error}"
        );
        sleep(self.delay);
        self.delay = (self.delay * 2).min(MAX_DELAY);
    }

    fn fail(&self, error: &io::Error) {
        tracing::error!(address = %self.inner.address, "accepting ends: {error}");
        let listener = {
            let mut state = lock(&self.inner.state);
            state.failure = Some(error.raw_os_error().unwrap_or(libc::EIO));
            state.listener.take()
        };
        drop(listener);
        self.inner.stopped.set();
    }
}

/// Closes the server when the wait of `serve_forever` is ended by a kill or a time-out.
struct CloseOnUnwind<'a>(&'a StreamServer);

impl Drop for CloseOnUnwind<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.close();
        }
    }
}

/// Ends the time to finish when a kill or a time-out ends the wait of `stop`.
struct FinishOnUnwind<'a>(&'a StreamServer);

impl Drop for FinishOnUnwind<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Who unwinds does not wait: the connections are killed, and everybody is told.
            self.0.finish_until(switch::deadline(Some(Duration::ZERO)));
        }
    }
}

/// Calls a function if it is dropped before it was disarmed: a greenlet's closure that has never
/// run.
struct OnDrop<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> OnDrop<F> {
    fn new(f: F) -> OnDrop<F> {
        OnDrop(Some(f))
    }

    fn disarm(mut self) {
        self.0 = None;
    }
}

impl<F: FnOnce()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        if let Some(f) = self.0.take() {
            f();
        }
    }
}

/// Whether the listener itself is broken.
fn is_fatal(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EBADF | libc::EINVAL | libc::ENOTSOCK | libc::EOPNOTSUPP)
    )
}

/// Whether a connection has died in the backlog: accept(2) reports its error, and the next one may
/// be well.
fn is_of_the_connection(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ECONNABORTED
                | libc::EINTR
                | libc::EPROTO
                | libc::ENETDOWN
                | libc::ENETUNREACH
                | libc::EHOSTDOWN
                | libc::EHOSTUNREACH
                | libc::ENOPROTOOPT
                | libc::ENONET
        )
    )
}

/// What a connection was let in with.
struct Admission {
    _slot: Slot,
    /// Given back when the connection goes on without a greenlet.
    stack: Mutex<Option<Slot>>,
}

/// A place among the connections that are served at a time, or among those with a greenlet.
struct Slot(Arc<Semaphore>);

impl Slot {
    fn wait(semaphore: &Arc<Semaphore>) -> Option<Slot> {
        semaphore.acquire().then(|| Slot(Arc::clone(semaphore)))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.release();
    }
}
