//! The least that an echo can cost: a bare epoll loop on one thread, which sends back what it has
//! received, bytes as bytes, with one `recv` and one `send` per readiness. It knows nothing of
//! WebSocket: no frame is parsed, unmasked or built, and there is no message that could be handed
//! to anybody. So what a server costs beyond this is its own doing, and the rest the kernel's.
//!
//! ```text
//! cargo run --release --example floor -- PORT
//! ```
//!
//! What it does know, so that the generator of `benches/end_to_end` can talk to it as to the
//! others: the first bytes of a connection are a request, to which it gives the answer that fits
//! the key that the generator always sends; at `/fanout` bytes go to all who are there; and after
//! the generator's own Close frame it closes the connection. It trusts its one client in all.
#![forbid(unsafe_code)]
#![expect(
    clippy::disallowed_types,
    reason = "there is no hub here to be blocked"
)]

use std::error::Error;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::process::ExitCode;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{Backlog, MsgFlags, listen, recv, send, setsockopt, sockopt};

/// To the key of RFC 6455, 1.3.
const ANSWER: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\n\
    Upgrade: websocket\r\n\
    Connection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// The generator's Close frame, 1000, with its masking key.
const CLOSE: &[u8] = &[0x88, 0x82, 0x9d, 0x31, 0x07, 0x5e, 0x9e, 0xd9];

/// A megabyte takes few calls, and what has been received is in the second-level cache still when it
/// is sent. A quarter of this costs more; twice as much brings nothing.
const BUFFER: usize = 256 << 10;

const EVENTS: usize = 1024;

const BACKLOG: i32 = 1024;

/// Edge-triggered, so that the kernel need not look again whether a descriptor is still readable.
const INTEREST: EpollFlags = EpollFlags::EPOLLIN
    .union(EpollFlags::EPOLLOUT)
    .union(EpollFlags::EPOLLRDHUP)
    .union(EpollFlags::EPOLLET);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("floor: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let port = std::env::args().nth(1).ok_or("usage: floor PORT")?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port.parse()?))?;
    listen(&listener, Backlog::new(BACKLOG)?)?;
    // Accepted sockets inherit it.
    setsockopt(&listener, sockopt::TcpNoDelay, &true)?;
    listener.set_nonblocking(true)?;

    let mut floor = Floor {
        epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
        connections: Vec::new(),
        audience: Vec::new(),
        buffer: vec![0; BUFFER],
    };
    let data = listener.as_raw_fd() as u64;
    let event = EpollEvent::new(EpollFlags::EPOLLIN, data);
    floor.epoll.add(&listener, event)?;
    let mut events = vec![EpollEvent::empty(); EVENTS];
    loop {
        let count = match floor.epoll.wait(&mut events, EpollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            other => other?,
        };
        for event in &events[..count] {
            if event.data() == data {
                floor.accept(&listener)?;
            } else {
                let ended = EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR;
                floor.ready(event.data() as RawFd, event.events().intersects(ended));
            }
        }
    }
}

struct Floor {
    epoll: Epoll,
    /// By descriptor.
    connections: Vec<Option<Connection>>,
    /// Those at `/fanout`.
    audience: Vec<RawFd>,
    buffer: Vec<u8>,
}

struct Connection {
    /// Closes the descriptor.
    _stream: TcpStream,
    stage: Stage,
    /// What the socket has not taken yet.
    rest: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Request,
    Echo,
    FanOut,
}

impl Floor {
    fn accept(&mut self, listener: &TcpListener) -> Result<(), Box<dyn Error>> {
        // Until there is none left: `EAGAIN`.
        while let Ok((stream, _)) = listener.accept() {
            let fd = stream.as_raw_fd();
            self.epoll
                .add(&stream, EpollEvent::new(INTEREST, fd as u64))?;
            let place = fd as usize;
            if self.connections.len() <= place {
                self.connections.resize_with(place + 1, || None);
            }
            self.connections[place] = Some(Connection {
                _stream: stream,
                stage: Stage::Request,
                rest: Vec::new(),
            });
        }
        Ok(())
    }

    /// Sends what is left, then receives until the socket is drained, or to the end if there is
    /// one: it brings no further edge.
    fn ready(&mut self, fd: RawFd, ended: bool) {
        while let Some(Some(connection)) = self.connections.get_mut(fd as usize) {
            if !connection.rest.is_empty() {
                let rest = std::mem::take(&mut connection.rest);
                connection.send(fd, &rest);
                if !connection.rest.is_empty() {
                    return;
                }
            }
            let n = match recv(fd, &mut self.buffer, MsgFlags::MSG_DONTWAIT) {
                Err(Errno::EAGAIN) => return,
                Err(Errno::EINTR) => continue,
                Ok(0) | Err(_) => return self.close(fd),
                Ok(n) => n,
            };
            let received = &self.buffer[..n];
            match connection.stage {
                Stage::Echo if received == CLOSE => {
                    connection.send(fd, received);
                    return self.close(fd);
                }
                Stage::Echo => connection.send(fd, received),
                Stage::Request => {
                    // It comes whole, and nothing behind it.
                    connection.stage = Stage::Echo;
                    if received.starts_with(b"GET /fanout ") {
                        connection.stage = Stage::FanOut;
                        self.audience.push(fd);
                    }
                    connection.send(fd, ANSWER);
                }
                Stage::FanOut => {
                    for &member in &self.audience {
                        if let Some(Some(connection)) = self.connections.get_mut(member as usize) {
                            connection.send(member, received);
                        }
                    }
                }
            }
            if n < BUFFER && !ended {
                return;
            }
        }
    }

    fn close(&mut self, fd: RawFd) {
        let connection = self.connections[fd as usize].take();
        if connection.is_some_and(|connection| connection.stage == Stage::FanOut) {
            self.audience.retain(|&member| member != fd);
        }
    }
}

impl Connection {
    /// Sends, and keeps what the socket does not take. Errors are seen by the next `recv`.
    fn send(&mut self, fd: RawFd, bytes: &[u8]) {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let sent = if self.rest.is_empty() {
            send(fd, bytes, flags).unwrap_or(0)
        } else {
            0
        };
        if sent < bytes.len() {
            self.rest.extend_from_slice(&bytes[sent..]);
        }
    }
}
