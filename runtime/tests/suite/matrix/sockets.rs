//! Sockets, pipes and waits for descriptors.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use greenwood_runtime::FileObject;
use greenwood_runtime::net::{
    Poll, PollEvents, TcpListener, TcpStream, UdpSocket, UnixDatagram, UnixListener, UnixStream,
    create_connection, getaddrinfo, select,
};

use socket2::{Domain, SockAddr, Type};

use super::{Call, LONG, Row, play, row};
use crate::support::fill;

const LOCALHOST: &str = "127.0.0.1:0";

/// Two ends of a connection.
type Pair = (TcpStream, TcpStream);

fn pair() -> Pair {
    let listener = TcpListener::bind(LOCALHOST).unwrap();
    let here = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (here, listener.accept().unwrap().0)
}

/// Sends one byte to the first end.
fn send((_, there): &Pair) {
    assert_eq!(there.try_write(b"x").unwrap(), 1);
}

/// The byte is still there, if it was not read.
fn settle_read((here, _): &Pair, read: bool) {
    let mut buffer = [0; 9];
    if !read {
        here.set_read_timeout(Some(LONG)).unwrap();
        assert_eq!({ here }.read(&mut buffer).unwrap(), 1);
    }
    assert!(here.try_read(&mut buffer).is_err());
}

/// A connection into which nothing more fits.
struct Full<S> {
    here: S,
    there: S,
    /// Bytes that have not been read yet.
    written: AtomicUsize,
}

/// What those sockets have in common.
trait Socket: Sized + Send + Sync + 'static {
    fn full() -> Full<Self>;
    fn try_read(&self, buffer: &mut [u8]) -> std::io::Result<usize>;
}

impl Socket for TcpStream {
    fn full() -> Full<TcpStream> {
        let (here, there) = pair();
        fill(&here);
        Full {
            here,
            there,
            written: AtomicUsize::new(usize::MAX),
        }
    }

    fn try_read(&self, buffer: &mut [u8]) -> std::io::Result<usize> {
        TcpStream::try_read(self, buffer)
    }
}

impl Socket for UnixStream {
    fn full() -> Full<UnixStream> {
        let (here, there) = UnixStream::pair().unwrap();
        let mut written = 0;
        while let Ok(n) = here.try_write(&[0; 65_536]) {
            written += n;
        }
        Full {
            here,
            there,
            written: AtomicUsize::new(written),
        }
    }

    fn try_read(&self, buffer: &mut [u8]) -> std::io::Result<usize> {
        UnixStream::try_read(self, buffer)
    }
}

impl<S: Socket> Full<S> {
    /// Reads all that there is.
    fn drain(&self) {
        let mut buffer = vec![0; 262_144];
        while let Ok(n) = self.there.try_read(&mut buffer) {
            assert_ne!(n, 0);
            self.written.fetch_sub(n, Ordering::SeqCst);
        }
    }
}

#[test]
fn tcp_streams() {
    play("matrix::sockets::tcp_streams", || {
        let reading = |name, call: Call<Pair>| row(name, pair, call, send, settle_read).slower(2);
        let writing = |name, call: Call<Full<TcpStream>>| {
            // To fill a connection takes the kernel some time.
            row(name, TcpStream::full, call, Full::drain, |_, _| {}).slower(100)
        };
        vec![
            reading("TcpStream read", |(here, _), limit| {
                here.set_read_timeout(limit.map(at_least_a_microsecond))
                    .unwrap();
                { here }.read(&mut [0; 9]).is_ok()
            }),
            reading("TcpStream wait_readable", |(here, _), limit| {
                // Reading what is there does not wait.
                here.wait_readable_timeout(limit.or(Some(LONG))).is_ok()
                    && here.try_read(&mut [0; 9]).unwrap() == 1
            }),
            writing("TcpStream write", |it, limit| {
                it.here
                    .set_write_timeout(limit.map(at_least_a_microsecond))
                    .unwrap();
                // The kernel may find room for some more by itself.
                { &it.here }.write_all(&[0; 8 << 20]).is_ok()
            }),
            writing("TcpStream wait_writable", |it, limit| {
                let limit = limit.or(Some(LONG));
                loop {
                    if it.here.wait_writable_timeout(limit).is_err() {
                        return false;
                    }
                    if it
                        .there
                        .wait_readable_timeout(Some(Duration::ZERO))
                        .is_err()
                    {
                        return true;
                    }
                    it.here.try_write(&[0; 65_536]).ok();
                }
            }),
        ]
    });
}

/// A listener, and those who have connected.
struct Listening<L, S> {
    listener: L,
    clients: Mutex<Vec<S>>,
}

impl<L, S> Listening<L, S> {
    fn new(listener: L) -> Listening<L, S> {
        Listening {
            listener,
            clients: Mutex::default(),
        }
    }
}

fn unnamed() -> net::SocketAddr {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("greenwood-matrix-{}-{number}", std::process::id());
    net::SocketAddr::from_abstract_name(name).unwrap()
}

/// A limit that is none where zero is refused.
pub(super) fn at_least_a_microsecond(limit: Duration) -> Duration {
    limit.max(Duration::from_micros(1))
}

/// One who listens and has as many that wait for it as there may be.
struct Deaf {
    listener: socket2::Socket,
    address: net::SocketAddr,
    _waiting: Vec<socket2::Socket>,
}

fn deaf() -> Deaf {
    let address = unnamed();
    let name = [b"\0", address.as_abstract_name().unwrap()].concat();
    let name = str::from_utf8(&name).unwrap();
    let socket = || socket2::Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    let (listener, to) = (socket(), SockAddr::unix(name).unwrap());
    listener.bind(&to).unwrap();
    listener.listen(0).unwrap();
    let mut waiting = Vec::new();
    loop {
        let socket = socket();
        socket.set_nonblocking(true).unwrap();
        if socket.connect(&to).is_err() {
            break;
        }
        waiting.push(socket);
    }
    Deaf {
        listener,
        address,
        _waiting: waiting,
    }
}

#[test]
fn connections() {
    play("matrix::sockets::connections", || {
        let lookup = |name, call: Call<SocketAddr>| {
            // Nobody has to come for these: they end by themselves.
            row(
                name,
                || "127.0.0.1:9".parse().unwrap(),
                call,
                |_| {},
                |_, _| {},
            )
        };
        let ends_by_itself = |name, call: Call<(TcpListener, SocketAddr)>| {
            row(
                name,
                || {
                    let listener = TcpListener::bind(LOCALHOST).unwrap();
                    let address = listener.local_addr().unwrap();
                    (listener, address)
                },
                call,
                |_| {},
                |_, _| {},
            )
            .slower(4)
        };
        vec![
            row(
                "TcpListener accept",
                || Listening::new(TcpListener::bind(LOCALHOST).unwrap()),
                |it: &Listening<TcpListener, TcpStream>, limit| match limit {
                    Some(limit) => it.listener.accept_timeout(limit).is_ok(),
                    None => it.listener.accept().is_ok(),
                },
                |it| {
                    let client = TcpStream::connect(it.listener.local_addr().unwrap()).unwrap();
                    it.clients.lock().unwrap().push(client);
                },
                // Who was not accepted is still to be.
                |it, got| assert!(got || it.listener.accept_timeout(LONG).is_ok()),
            )
            .slower(2),
            row(
                "UnixListener accept",
                || Listening::new(UnixListener::bind_addr(&unnamed()).unwrap()),
                |it: &Listening<UnixListener, UnixStream>, limit| match limit {
                    Some(limit) => it.listener.accept_timeout(limit).is_ok(),
                    None => it.listener.accept().is_ok(),
                },
                |it| {
                    let address = it.listener.local_addr().unwrap();
                    let client = UnixStream::connect_addr(&address, Some(LONG)).unwrap();
                    it.clients.lock().unwrap().push(client);
                },
                |it, got| assert!(got || it.listener.accept_timeout(LONG).is_ok()),
            )
            .slower(2),
            // These may also come to their end before anybody comes for them, which then counts
            // as nothing.
            ends_by_itself("TcpStream connect", |(_, address), limit| {
                match limit {
                    Some(limit) => {
                        TcpStream::connect_timeout(address, at_least_a_microsecond(limit)).ok()
                    }
                    None => TcpStream::connect(address).ok(),
                };
                false
            }),
            ends_by_itself("create_connection", |(_, address), limit| {
                create_connection(&[*address; 2][..], limit, None).ok();
                false
            }),
            row(
                "UnixStream connect",
                deaf,
                |it: &Deaf, limit| UnixStream::connect_addr(&it.address, limit).is_ok(),
                // There is room for another.
                |it| drop(it.listener.accept().unwrap()),
                |_, _| {},
            )
            .slower(4),
            lookup("getaddrinfo", |_, limit| {
                getaddrinfo("localhost", 9, limit).ok();
                false
            })
            .slower(2),
        ]
    });
}

#[test]
fn datagrams() {
    play("matrix::sockets::datagrams", || {
        let udp = |name, call: Call<(UdpSocket, UdpSocket)>| {
            row(
                name,
                || {
                    let (here, there) = (UdpSocket::bind(LOCALHOST), UdpSocket::bind(LOCALHOST));
                    (here.unwrap(), there.unwrap())
                },
                call,
                |(here, there)| {
                    let address = here.local_addr().unwrap();
                    assert_eq!(there.try_send_to(b"x", address).unwrap(), 1);
                },
                |(here, _), got| {
                    here.set_timeout(Some(LONG)).unwrap();
                    assert!(got || here.recv_from(&mut [0; 9]).is_ok());
                    assert!(here.try_recv_from(&mut [0; 9]).is_err());
                },
            )
        };
        vec![
            udp("UdpSocket recv_from", |(here, _), limit| {
                here.set_timeout(limit.map(at_least_a_microsecond)).unwrap();
                here.recv_from(&mut [0; 9]).is_ok()
            }),
            udp("UdpSocket recv", |(here, there), limit| {
                here.connect(there.local_addr().unwrap()).unwrap();
                here.set_timeout(limit.map(at_least_a_microsecond)).unwrap();
                here.recv(&mut [0; 9]).is_ok()
            }),
            udp("UdpSocket peek_from", |(here, _), limit| {
                here.set_timeout(limit.map(at_least_a_microsecond)).unwrap();
                here.peek_from(&mut [0; 9]).is_ok() && here.try_recv_from(&mut [0; 9]).is_ok()
            }),
            row(
                "UnixDatagram recv",
                || UnixDatagram::pair().unwrap(),
                |(here, _), limit| {
                    here.set_timeout(limit.map(at_least_a_microsecond)).unwrap();
                    here.recv(&mut [0; 9]).is_ok()
                },
                |(_, there)| assert_eq!(there.send(b"x").unwrap(), 1),
                |(here, _), got| {
                    here.set_timeout(Some(LONG)).unwrap();
                    assert!(got || here.recv(&mut [0; 9]).is_ok());
                },
            ),
            // Those that were sent are there, in their order, and that of who waited if it says
            // so.
            row(
                "UnixDatagram send",
                || {
                    let (here, there) = UnixDatagram::pair().unwrap();
                    here.set_timeout(Some(Duration::from_micros(1))).unwrap();
                    while here.send(b"x").is_ok() {}
                    (here, there)
                },
                |(here, _), limit| {
                    here.set_timeout(limit.map(at_least_a_microsecond)).unwrap();
                    here.send(b"last").is_ok()
                },
                |(_, there)| assert_eq!(there.recv(&mut [0; 9]).unwrap(), 1),
                |(_, there), sent| {
                    let (mut buffer, mut last) = ([0; 9], 1);
                    while let Ok((n, _)) = there.try_recv_from(&mut buffer) {
                        assert_eq!(last, 1);
                        last = n;
                    }
                    assert_eq!(last == 4, sent);
                },
            )
            .slower(4),
        ]
    });
}

/// A pipe.
type Pipe = (FileObject, FileObject);

fn pipe() -> Pipe {
    let (reader, writer) = std::io::pipe().unwrap();
    (
        FileObject::new(reader).unwrap(),
        FileObject::new(writer).unwrap(),
    )
}

/// One with no room left but for a page.
fn full_pipe() -> Pipe {
    let pipe = pipe();
    pipe.1
        .set_write_timeout(Some(Duration::from_micros(1)))
        .unwrap();
    while { &pipe.1 }.write(&[0; 4_096]).is_ok() {}
    pipe
}

fn write_to((_, writer): &Pipe) {
    assert_eq!({ writer }.write(b"x").unwrap(), 1);
}

fn settle_pipe((reader, _): &Pipe, read: bool) {
    reader.set_read_timeout(Some(LONG)).unwrap();
    if !read {
        assert_eq!({ reader }.read(&mut [0; 9]).unwrap(), 1);
    }
    reader
        .set_read_timeout(Some(Duration::from_micros(1)))
        .unwrap();
    assert!({ reader }.read(&mut [0; 9]).is_err());
}

fn on_pipe(name: &'static str, call: Call<Pipe>) -> Row {
    row(name, pipe, call, write_to, settle_pipe)
}

#[test]
fn unix_streams_and_pipes() {
    play("matrix::sockets::unix_streams_and_pipes", || {
        vec![
            row(
                "UnixStream read",
                || UnixStream::pair().unwrap(),
                |(here, _), limit| {
                    here.set_read_timeout(limit.map(at_least_a_microsecond))
                        .unwrap();
                    { here }.read(&mut [0; 9]).is_ok()
                },
                |(_, there)| assert_eq!(there.try_write(b"x").unwrap(), 1),
                |(here, _), got| {
                    here.set_read_timeout(Some(LONG)).unwrap();
                    assert!(got || { here }.read(&mut [0; 9]).unwrap() == 1);
                },
            ),
            // Each byte is one that was written.
            row(
                "UnixStream write",
                UnixStream::full,
                |it, limit| {
                    it.here
                        .set_write_timeout(limit.map(at_least_a_microsecond))
                        .unwrap();
                    let written = { &it.here }.write(&[0; 100]);
                    it.written
                        .fetch_add(*written.as_ref().unwrap_or(&0), Ordering::SeqCst);
                    written.is_ok()
                },
                Full::drain,
                |it, _| {
                    it.drain();
                    assert_eq!(it.written.load(Ordering::SeqCst), 0);
                },
            )
            .slower(4),
            on_pipe("FileObject read", |(reader, _), limit| {
                reader
                    .set_read_timeout(limit.map(at_least_a_microsecond))
                    .unwrap();
                { reader }.read(&mut [0; 9]).is_ok()
            }),
            row(
                "FileObject write",
                full_pipe,
                |(_, writer), limit| {
                    writer
                        .set_write_timeout(limit.map(at_least_a_microsecond))
                        .unwrap();
                    { writer }.write(&[1; 4_096]).is_ok()
                },
                |(reader, _)| {
                    { reader }.read_exact(&mut [0; 4_096]).unwrap();
                },
                |(reader, _), got| {
                    reader
                        .set_read_timeout(Some(Duration::from_micros(1)))
                        .unwrap();
                    let (mut buffer, mut last) = ([0; 4_096], 0);
                    while { reader }.read(&mut buffer).is_ok() {
                        last = buffer[4_095];
                    }
                    assert_eq!(last == 1, got);
                },
            )
            .slower(4),
            on_pipe("select", |(reader, _), limit| {
                let found = select(&[reader.as_raw_fd()], &[], &[], limit).unwrap();
                !found.read.is_empty() && { reader }.read(&mut [0; 9]).is_ok()
            }),
            on_pipe("Poll", |(reader, _), limit| {
                let poll = Poll::new();
                poll.register(reader, PollEvents::IN);
                !poll.poll(limit).unwrap().is_empty() && { reader }.read(&mut [0; 9]).is_ok()
            }),
        ]
    });
}
