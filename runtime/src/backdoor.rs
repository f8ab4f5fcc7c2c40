//! [`BackdoorServer`]: questions to a running process. gevent's `BackdoorServer`.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::fs;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::event::Event;
use crate::greenlet::{Builder, Current, Greenlet, getcurrent, kill_tasks};
use crate::net::listener::accept_waiting;
use crate::net::socket::{Direction, Socket};
use crate::net::{SocketFile, TcpListener, ToSocketAddrs, UnixListener, explain, is_exhaustion};
use crate::sys::fd;
use crate::task::lock;
use crate::{Hub, kill_greenlet, run_info, sleep, switch};

/// The longest line that is taken, in bytes: no command needs a tenth of it.
const MAX_LINE: usize = 1_024;

/// How many may be connected at a time: a person and some tools.
const MAX_CONNECTIONS: usize = 8;

/// How long a connection may be silent.
const IDLE: Duration = Duration::from_secs(600);

/// How long a peer may leave an answer unread.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long, and up to how many bytes, what follows a line that is too long is read: to be able to
/// say so.
const LEAVE: Duration = Duration::from_secs(1);
const MAX_REST: usize = 64 * 1_024;

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

/// What comes after an answer.
enum Next {
    Line,
    End,
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

/// Somebody who asks.
struct Connection {
    inner: Arc<Inner>,
    id: u64,
    socket: Socket,
}

impl Connection {
    fn new(inner: Arc<Inner>, socket: Socket) -> Connection {
        let current = getcurrent().expect("this is a greenlet");
        let id = current.id();
        lock(&inner.connections).insert(id, current);
        Connection { inner, id, socket }
    }

    fn serve(&self) {
        if self.inner.stopped.is_set() {
            return;
        }
        let idle = lock(&self.inner.settings).idle;
        let mut buffer = Vec::new();
        loop {
            while let Some(end) = buffer.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = buffer.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line);
                let (answer, next) = self.inner.answer(line.trim());
                if self.send(answer.as_bytes()).is_err() || matches!(next, Next::End) {
                    return;
                }
            }
            if buffer.len() >= MAX_LINE {
                let text = format!("error: a line has at most {MAX_LINE} bytes\n");
                self.send(text.as_bytes()).ok();
                self.take_leave();
                return;
            }
            if self.socket.wait(Direction::Read, Some(idle)).is_err() {
                return;
            }
            let room = MAX_LINE - buffer.len();
            let read = self
                .socket
                .try_read(room, |fd| fd::receive_into(fd, &mut buffer, room));
            match read {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }

    /// Takes what the peer has on its way: closed with something unread, a connection is reset, and
    /// the peer does not learn why.
    fn take_leave(&self) {
        SockRef::from(&self.socket.as_fd())
            .shutdown(Shutdown::Write)
            .ok();
        let until = switch::deadline(Some(LEAVE));
        let mut rest = [0; 1_024];
        for _ in 0..MAX_REST / rest.len() {
            if self.socket.wait_until(Direction::Read, until).is_err() {
                return;
            }
            match self
                .socket
                .try_read(rest.len(), |fd| fd::receive(fd, &mut rest))
            {
                Ok(0) => return,
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return,
                _ => {}
            }
        }
    }

    fn send(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.socket.try_write(|fd| fd::send(fd, bytes)) {
                Ok(n) => bytes = &bytes[n..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.socket.wait(Direction::Write, Some(PATIENCE))?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        lock(&self.inner.connections).remove(&self.id);
    }
}

impl Inner {
    fn answer(&self, line: &str) -> (String, Next) {
        let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        let answer = match name {
            "" => Ok(String::new()),
            "help" => Ok(self.help()),
            "info" => Ok(self.info()),
            "greenlets" => Ok(run_info().to_string()),
            "stats" => Ok(stats()),
            "kill" => kill(rest),
            "monitor" => monitor(rest),
            "quit" => return ("ok\n".to_owned(), Next::End),
            // A web page can have a browser send lines to a port of this machine: none of what
            // follows such a line is a command.
            _ if rest.contains("HTTP/") => {
                return ("error: this is no web server\n".to_owned(), Next::End);
            }
            _ => self.other(name, rest),
        };
        let answer = match answer {
            Ok(mut text) => {
                if !text.is_empty() && !text.ends_with('\n') {
                    text.push('\n');
                }
                text + "ok\n"
            }
            Err(why) => format!("error: {why}\n"),
        };
        (answer, Next::Line)
    }

    fn other(&self, name: &str, rest: &str) -> Result<String, String> {
        let command = {
            let settings = lock(&self.settings);
            let commands = settings.commands.iter();
            commands
                .rev()
                .find(|it| it.0 == name)
                .map(|it| Arc::clone(&it.2))
        };
        match command {
            Some(command) => Ok(command(rest)),
            None => Err(format!("no command {:?}: try help", name)),
        }
    }

    fn help(&self) -> String {
        let mut text = "\
info       the process, its hubs and its limits
greenlets  who runs and who waits, as a tree
stats      what each hub has counted
kill ID    kill a greenlet by its number
monitor MS report who holds a hub for longer, in ms; 0: nobody
help       this
quit       end the connection
"
        .to_owned();
        for (name, help, _) in &lock(&self.settings).commands {
            writeln!(text, "{name:10} {help}").ok();
        }
        text
    }

    fn info(&self) -> String {
        let limits = Hub::limits();
        let program = std::env::current_exe().unwrap_or_default();
        format!(
            "process {}: {}\nbackdoor open for {:.0?}\nhubs: {}\ngreenlets: {} of at most {}, with \
             stacks of {} bytes\ndescriptors: {} of at most {}\n",
            std::process::id(),
            program.display().to_string().escape_debug(),
            self.begun.elapsed(),
            Hub::count(),
            Hub::greenlets(),
            limits.greenlets,
            limits.stack_size,
            // The directory's own is one of them.
            fs::read_dir("/proc/self/fd").map_or(0, |fds| fds.count().saturating_sub(1)),
            limits.descriptors,
        )
    }
}

fn stats() -> String {
    Hub::stats().iter().fold(String::new(), |mut text, hub| {
        writeln!(text, "{hub}").ok();
        text
    })
}

fn kill(id: &str) -> Result<String, String> {
    let id: u64 = id
        .parse()
        .map_err(|_| format!("kill takes a greenlet's number, not {id:?}"))?;
    match kill_greenlet(id) {
        true => Ok(String::new()),
        false => Err(format!("there is no greenlet {id}, or its hub is blocked")),
    }
}

fn monitor(milliseconds: &str) -> Result<String, String> {
    let milliseconds: u64 = milliseconds
        .parse()
        .map_err(|_| format!("monitor takes a time in milliseconds, not {milliseconds:?}"))?;
    let limit = (milliseconds > 0).then(|| Duration::from_millis(milliseconds));
    Hub::monitor(limit)
        .map(|()| String::new())
        .map_err(|error| error.to_string())
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
