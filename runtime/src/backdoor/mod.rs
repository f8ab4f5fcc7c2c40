//! [`BackdoorServer`]: questions to a running process. gevent's `BackdoorServer`.

mod commands;
mod connection;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use self::connection::Connection;
use crate::event::Event;
use crate::greenlet::{Builder, Current, Greenlet, kill_tasks};
use crate::net::listener::accept_waiting;
use crate::net::socket::Socket;
use crate::net::{SocketFile, TcpListener, ToSocketAddrs, UnixListener, explain, is_exhaustion};
use crate::sleep;
use crate::sys::fd;
use crate::task::lock;

/// How many may be connected at a time: a person and some tools.
const MAX_CONNECTIONS: usize = 8;

/// How long a connection may be silent.
const IDLE: Duration = Duration::from_secs(600);

/// How long accepting pauses when descriptors or memory have run out.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers questions about the running process, a line each, on a Unix socket or a loopback TCP
/// port: gevent's `BackdoorServer`, which gives a Python prompt there.
///
/// | command | answer |
/// | --- | --- |
/// | `info` | the process, its hubs and its limits |
/// | `greenlets` | the tree of greenlets, as [`run_info`] draws it |
/// | `stats` | what each hub has counted, as [`Hub::stats`] |
/// | `kill ID` | kills the greenlet of that number, without waiting for its end |
/// | `monitor MS` | reports greenlets that hold their hub for longer, as [`Hub::monitor`]; 0: none |
/// | `help` | the commands |
/// | `quit` | ends the connection |
///
/// An answer is any number of lines, and then one that says `ok`, or `error:` and why. What comes
/// last and does not end a line is no command: its rest may have been lost. Who may connect may
/// kill: the Unix socket is its owner's alone (mode 0600), and a TCP port is open to
/// every user of the machine.
///
/// Lines have at most 1,024 bytes, 8 may be connected at a time, and who is silent for ten minutes
/// is cut off. It works as long as the hub does on which it was started.
///
/// [`run_info`]: crate::run_info()
/// [`Hub::stats`]: crate::Hub::stats
/// [`Hub::monitor`]: crate::Hub::monitor
///
/// ```no_run
/// use greenwood_runtime::BackdoorServer;
///
/// let backdoor = BackdoorServer::unix("/run/user/1000/program.sock")?;
/// backdoor.start()?;
/// // socat - UNIX-CONNECT:/run/user/1000/program.sock
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct BackdoorServer {
    inner: Arc<Inner>,
}

type Command = dyn Fn(&str) -> String + Send + Sync;

struct Inner {
    /// None once stopped.
    listener: Mutex<Option<Arc<Socket>>>,
    /// The Unix socket's, and the file there, which is removed at the end.
    path: Option<PathBuf>,
    file: Mutex<Option<SocketFile>>,
    address: Option<SocketAddr>,
    settings: Mutex<Settings>,
    acceptor: Mutex<Option<Greenlet<()>>>,
    /// How many have been let in.
    admitted: AtomicUsize,
    /// By the numbers of their greenlets.
    connections: Mutex<HashMap<u64, Current>>,
    stopped: Event,
    begun: Instant,
}

struct Settings {
    idle: Duration,
    commands: Vec<(String, String, Arc<Command>)>,
}

impl BackdoorServer {
    /// Listens on a Unix socket that only its owner may use. One that is left over, with nobody
    /// listening, is replaced.
    ///
    /// # Errors
    ///
    /// `AddrInUse` when somebody listens there, or it is no socket; what the system says, with the
    /// path.
    pub fn unix(path: impl AsRef<Path>) -> io::Result<BackdoorServer> {
        let path = path.as_ref();
        let (socket, file) = UnixListener::replace_private(path)?.into_parts();
        let path = Some(path.to_owned());
        Ok(BackdoorServer::new(socket, path, file, None))
    }

    /// Listens on a TCP port of this machine; port 0 takes a free one. Every user of the machine may
    /// connect.
    ///
    /// # Errors
    ///
    /// `PermissionDenied` when the address is not a loopback address; what the system says.
    pub fn tcp(address: impl ToSocketAddrs) -> io::Result<BackdoorServer> {
        let addresses = address.addresses(None)?;
        if let Some(address) = addresses.iter().find(|it| !it.ip().is_loopback()) {
            let text = format!(
                "a backdoor at {address} would be open to other machines: use a loopback address, \
                 or BackdoorServer::tcp_open_to_all"
            );
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
        BackdoorServer::tcp_open_to_all(&addresses[..])
    }

    /// As [`tcp`](BackdoorServer::tcp), on any address: whoever reaches it may kill greenlets.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn tcp_open_to_all(address: impl ToSocketAddrs) -> io::Result<BackdoorServer> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let fd = listener.as_fd().try_clone_to_owned().map_err(explain)?;
        Ok(BackdoorServer::new(
            Socket::new(fd),
            None,
            None,
            Some(address),
        ))
    }

    fn new(
        listener: Socket,
        path: Option<PathBuf>,
        file: Option<SocketFile>,
        address: Option<SocketAddr>,
    ) -> BackdoorServer {
        BackdoorServer {
            inner: Arc::new(Inner {
                listener: Mutex::new(Some(Arc::new(listener))),
                path,
                file: Mutex::new(file),
                address,
                settings: Mutex::new(Settings {
                    idle: IDLE,
                    commands: Vec::new(),
                }),
                acceptor: Mutex::default(),
                admitted: AtomicUsize::new(0),
                connections: Mutex::default(),
                stopped: Event::new(),
                begun: Instant::now(),
            }),
        }
    }

    /// Adds a command: gevent's `locals`. It gets what is behind its name in the line; what it
    /// returns is the answer. A panic ends the connection.
    pub fn command(
        self,
        name: &str,
        help: &str,
        command: impl Fn(&str) -> String + Send + Sync + 'static,
    ) -> Self {
        let entry = (name.to_owned(), help.to_owned(), Arc::new(command) as _);
        lock(&self.inner.settings).commands.push(entry);
        self
    }

    /// How long a connection may be silent. Default: ten minutes.
    pub fn idle_timeout(self, timeout: Duration) -> Self {
        lock(&self.inner.settings).idle = timeout;
        self
    }

    /// The TCP address that it listens on.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.inner.address
    }

    /// How many are connected.
    pub fn connections(&self) -> usize {
        lock(&self.inner.connections).len()
    }

    /// Begins to answer, in a greenlet of its own. Does nothing when it has begun already.
    ///
    /// # Errors
    ///
    /// When there is no room for the greenlet, or it has been stopped.
    pub fn start(&self) -> io::Result<()> {
        let mut acceptor = lock(&self.inner.acceptor);
        let listener = lock(&self.inner.listener).clone();
        let listener = listener.ok_or_else(|| {
            let text = "the backdoor has been stopped: make a new one";
            io::Error::other(text)
        })?;
        if acceptor.is_none() {
            let inner = Arc::clone(&self.inner);
            let builder = Builder::new().name("backdoor");
            let greenlet = builder.spawn(move || inner.accept(&listener));
            *acceptor = Some(greenlet.map_err(io::Error::other)?);
        }
        Ok(())
    }

    /// Starts it and waits until it is stopped.
    ///
    /// # Errors
    ///
    /// As [`start`](BackdoorServer::start). What the system says when nobody can connect any more is
    /// logged: then it is stopped.
    pub fn serve_forever(&self) -> io::Result<()> {
        self.start()?;
        self.inner.stopped.wait();
        Ok(())
    }

    /// Ends it: all connections are cut, and the Unix socket is removed.
    pub fn stop(&self) {
        let inner = &self.inner;
        lock(&inner.listener).take();
        // From now on nobody who has been let in stays.
        inner.stopped.set();
        let connections: Vec<_> = lock(&inner.connections).values().cloned().collect();
        let acceptor = lock(&inner.acceptor).take();
        if let Some(acceptor) = acceptor {
            acceptor.kill();
        }
        drop(lock(&inner.file).take());
        // Whoever stops it by a command of its own goes last.
        kill_tasks(connections.iter().map(Current::task));
    }
}

impl Inner {
    fn accept(self: &Arc<Self>, listener: &Socket) {
        loop {
            match accept_waiting(listener, None) {
                Ok((connection, _)) => self.admit(connection),
                Err(error) if is_exhaustion(&error) => sleep(PAUSE),
                // A connection that was given up while it waited.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                // The caller unwinds.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    tracing::error!("the backdoor ends: {error}");
                    lock(&self.listener).take();
                    self.stopped.set();
                    return;
                }
            }
        }
    }

    fn admit(self: &Arc<Self>, connection: OwnedFd) {
        let socket = Socket::new(connection);
        let Some(admission) = Admission::of(self) else {
            let text = format!("error: there are {MAX_CONNECTIONS} connections already\n");
            fd::send(socket.as_fd(), text.as_bytes()).ok();
            return;
        };
        let builder = Builder::new().name("backdoor connection");
        let started = builder.spawn(move || {
            let inner = Arc::clone(&admission.0);
            Connection::new(inner, socket).serve();
        });
        if let Err(error) = started {
            tracing::error!("the backdoor can't answer: {error}");
        }
    }
}

/// The right to be one of those who are connected.
struct Admission(Arc<Inner>);

impl Admission {
    fn of(inner: &Arc<Inner>) -> Option<Admission> {
        // Only one greenlet admits.
        if inner.admitted.load(Ordering::Relaxed) >= MAX_CONNECTIONS {
            return None;
        }
        inner.admitted.fetch_add(1, Ordering::Relaxed);
        Some(Admission(Arc::clone(inner)))
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.0.admitted.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for BackdoorServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackdoorServer")
            .field("path", &self.inner.path)
            .field("address", &self.inner.address)
            .field("connections", &self.connections())
            .finish_non_exhaustive()
    }
}
