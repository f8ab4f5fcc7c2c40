//! [`TlsStream`]: TLS by rustls, for both sides.

mod buffers;
mod client;
mod error;
mod pem;
mod server;
mod session;

pub use client::{ClientTls, ClientTlsBuilder};
pub use pem::Identity;
pub use server::{ServerTls, ServerTlsBuilder};

use std::fmt;
use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::{CipherSuite, CommonState};

use self::error::failed;
use self::session::{Session, Side, Sink};
use super::TcpStream;
use super::socket::Direction;
use crate::greenlet::Builder;
use crate::switch;
use crate::task::lock;

/// How long a handshake may take, if nothing else was said.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a peer gets to read the reason for which its handshake has failed, and how much of what
/// it has sent meanwhile is dropped: closing with something unread would cut the reason off.
const FAREWELL_TIME: Duration = Duration::from_secs(1);
const FAREWELL_BYTES: usize = 64 * 1024;

/// How long the last record, which says that the connection ends, waits for a peer that does not
/// read.
const CLOSE_TIME: Duration = Duration::from_secs(10);

/// After so long a wait the greenlet gives back what the last message needed of the stack: a page
/// more than without TLS.
const BUSY: Duration = Duration::from_secs(1);

/// A TLS connection over TCP: gevent's `SSLSocket`. A clone is a second handle to the same
/// connection, and costs no descriptor.
///
/// It is used as a [`TcpStream`]: calls block the greenlet (or the plain thread), never the hub, and
/// one may read while another writes, also on another hub.
///
/// Reading is told apart from cutting: the end of the TCP connection without TLS' own `close_notify`
/// is `UnexpectedEof`, as with Python's `suppress_ragged_eofs=False`. Protocols that know by
/// themselves where a message ends may take it for the end. When the last handle is dropped, the
/// `close_notify` is sent if it can be without waiting, unless it is dropped by a panic or a kill.
#[derive(Clone)]
pub struct TlsStream {
    inner: Arc<Inner>,
}

struct Inner {
    tcp: TcpStream,
    /// Never held over a switch.
    session: Mutex<Session>,
    info: Arc<TlsInfo>,
}

/// What two sides have agreed on in a TLS handshake, and who the other one is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsInfo {
    /// The host name that the client has asked for (SNI), in lower case. None if it has not, or for
    /// an address.
    pub server_name: Option<String>,
    /// The protocol that was agreed on (ALPN), for example `http/1.1`.
    pub alpn: Option<Vec<u8>>,
    /// `TLSv1.2` or `TLSv1.3`: Python's `SSLSocket.version()`.
    pub version: &'static str,
    /// The cipher suite by its name in the RFCs, for example `TLS_AES_256_GCM_SHA384`.
    pub cipher: &'static str,
    /// The other side's certificate (DER), and those that it has sent for the way to the root. For
    /// a client, empty if it has shown none. They were checked.
    pub peer_certificates: Vec<Vec<u8>>,
}

impl TlsStream {
    /// Makes a server's side of the handshake on an accepted connection.
    ///
    /// A handshake with a new client costs some 0.1 to 1 ms of the hub's time, by the kind of key
    /// (ECDSA is much quicker than RSA).
    ///
    /// # Errors
    ///
    /// `TimedOut` after the [time limit](ServerTlsBuilder::handshake_timeout); `InvalidData` for a
    /// peer that does not speak TLS, or not as it must; `ConnectionAborted` when the peer has
    /// refused; `UnexpectedEof`; what the system says.
    pub fn accept(tcp: TcpStream, tls: &ServerTls) -> io::Result<TlsStream> {
        let side = UnbufferedServerConnection::new(tls.config()).map_err(|e| failed(&e))?;
        handshake(tcp, Side::Server(side), None, tls.handshake_timeout())
    }

    /// Makes a client's side of the handshake, with the server `name` (or address), for which the
    /// server's certificate has to be.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a name that is none; else as [`accept`](TlsStream::accept), and
    /// `InvalidData` for a certificate that is not to be trusted.
    pub fn connect(tcp: TcpStream, name: &str, tls: &ClientTls) -> io::Result<TlsStream> {
        TlsStream::connect_timeout(tcp, name, tls, tls.handshake_timeout())
    }

    /// As [`connect`](TlsStream::connect), with a time limit of its own.
    ///
    /// # Errors
    ///
    /// As [`connect`](TlsStream::connect).
    pub fn connect_timeout(
        tcp: TcpStream,
        name: &str,
        tls: &ClientTls,
        timeout: Duration,
    ) -> io::Result<TlsStream> {
        // As in a URL, an IPv6 address may be in brackets.
        let bare = name
            .strip_prefix('[')
            .and_then(|name| name.strip_suffix(']'))
            .unwrap_or(name);
        let server = ServerName::try_from(bare.to_owned()).map_err(|_| {
            let why = format!("{name:?} is no host name or address: TLS can't check it");
            io::Error::new(io::ErrorKind::InvalidInput, why)
        })?;
        let asked = match &server {
            ServerName::DnsName(name) => Some(name.as_ref().to_ascii_lowercase()),
            _ => None,
        };
        let side = UnbufferedClientConnection::new(tls.config(), server).map_err(|e| failed(&e))?;
        handshake(tcp, Side::Client(side), asked, timeout)
    }

    /// What was agreed on, and who the other side is.
    pub fn info(&self) -> &Arc<TlsInfo> {
        &self.inner.info
    }

    /// The TCP connection below, for its addresses and options. Reading from it or writing to it
    /// breaks the TLS connection.
    pub fn tcp(&self) -> &TcpStream {
        &self.inner.tcp
    }

    /// As [`TcpStream::try_clone`].
    ///
    /// # Errors
    ///
    /// None; the type is std's.
    pub fn try_clone(&self) -> io::Result<TlsStream> {
        Ok(self.clone())
    }

    /// The peer's address.
    ///
    /// # Errors
    ///
    /// As [`TcpStream::peer_addr`].
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.inner.tcp.peer_addr()
    }

    /// Our own address.
    ///
    /// # Errors
    ///
    /// As [`TcpStream::local_addr`].
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.tcp.local_addr()
    }

    /// The longest wait of one read; none by default.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a time-out of zero.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.inner.tcp.set_read_timeout(timeout)
    }

    /// The longest wait of one write; none by default.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a time-out of zero.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.inner.tcp.set_write_timeout(timeout)
    }

    /// As [`TcpStream::set_reset_on_close`]. No `close_notify` is sent then.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn set_reset_on_close(&self, on: bool) -> io::Result<()> {
        self.session().reset = on;
        self.inner.tcp.set_reset_on_close(on)
    }

    /// Ends one or both directions. Greenlets that wait for them are woken.
    ///
    /// The end of writing is the `close_notify`, and then that of the TCP connection. If the socket
    /// has no room for it, a greenlet sends it as soon as there is, within 10 s. It is left out where
    /// it would be in the middle of what was being written.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        let mut session = self.session();
        if how != Shutdown::Write {
            session.deaf = true;
        }
        if how != Shutdown::Read {
            let announced = session.close();
            let is_left = matches!(session.send(&self.inner.tcp), Ok(false)) && announced;
            session.fin_due |= is_left;
            if session.fin_due {
                drop(session);
                // Else it is being seen to already.
                if is_left {
                    self.send_later();
                }
                return match how {
                    Shutdown::Both => self.inner.tcp.shutdown(Shutdown::Read),
                    _ => Ok(()),
                };
            }
        }
        drop(session);
        self.inner.tcp.shutdown(how)
    }

    /// Has a greenlet send what is left, which is ours and not a writer's.
    fn send_later(&self) {
        let stream = self.clone();
        let hub = self.as_raw_fd() as usize % crate::Hub::count();
        let sender = Builder::new().name("TLS close").hub(hub).spawn(move || {
            let until = switch::deadline(Some(CLOSE_TIME));
            loop {
                let waited = stream.inner.tcp.wait_until(Direction::Write, until);
                let sent = stream.session().send(&stream.inner.tcp);
                match sent {
                    Ok(false) if waited.is_ok() => {}
                    // By now the connection has ended.
                    Ok(true) => return,
                    _ => break,
                }
            }
            stream.inner.tcp.shutdown(Shutdown::Write).ok();
        });
        if sender.is_err() {
            self.inner.tcp.shutdown(Shutdown::Write).ok();
        }
    }

    /// Waits until there is something to read, or the end: then no buffer is needed while one
    /// waits. May return although there is nothing.
    ///
    /// # Errors
    ///
    /// As [`TcpStream::wait_readable`].
    pub fn wait_readable(&self) -> io::Result<()> {
        self.wait_readable_timeout(self.inner.tcp.read_timeout())
    }

    /// As [`wait_readable`](TlsStream::wait_readable), with a time-out of its own.
    ///
    /// # Errors
    ///
    /// As [`TcpStream::wait_readable`].
    pub fn wait_readable_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.wait_readable_until(switch::deadline(timeout))
    }

    fn wait_readable_until(&self, until: Option<u64>) -> io::Result<()> {
        let (answer, busy) = {
            let session = self.session();
            (session.has_answer(), session.busy)
        };
        // What was decrypted already is not announced by the socket.
        if answer && switch::may_wait() {
            switch::check();
            // Always ready is no reason to keep the hub for oneself.
            switch::share();
            return Ok(());
        }
        let soon = switch::deadline(Some(BUSY));
        if busy && until.is_none_or(|until| Some(until) > soon) {
            match self.inner.tcp.wait_until(Direction::Read, soon) {
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    self.session().busy = false;
                    crate::trim_stack();
                }
                result => return result,
            }
        }
        self.inner.tcp.wait_until(Direction::Read, until)
    }

    /// Waits until something can be written. May return although nothing can.
    ///
    /// # Errors
    ///
    /// As [`TcpStream::wait_writable`].
    pub fn wait_writable(&self) -> io::Result<()> {
        self.inner.tcp.wait_writable()
    }

    /// As [`wait_writable`](TlsStream::wait_writable), with a time-out of its own.
    ///
    /// # Errors
    ///
    /// As [`TcpStream::wait_writable`].
    pub fn wait_writable_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.inner.tcp.wait_writable_timeout(timeout)
    }

    /// Reads what there is; never waits. 0 is the end that the peer has announced.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when there is nothing yet; `UnexpectedEof` for an end without announcement;
    /// `InvalidData` or `ConnectionAborted` when TLS has failed; what the system says.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        self.session().read(&self.inner.tcp, Sink::Slice(buffer))
    }

    /// Reads at most `max` bytes of what there is behind the contents of `buffer`, which grows if
    /// need be; never waits. 0 is the end that the peer has announced.
    ///
    /// # Errors
    ///
    /// As [`try_read`](TlsStream::try_read); `OutOfMemory`.
    pub fn try_read_vec(&self, buffer: &mut Vec<u8>, max: usize) -> io::Result<usize> {
        if max == 0 {
            return Ok(0);
        }
        self.session().read(&self.inner.tcp, Sink::Vec(buffer, max))
    }

    /// Writes what is taken of it; never waits.
    ///
    /// Up to 64 KiB are encrypted at once, and can't be taken back. So **the next call has to go on
    /// with the bytes that follow those that were reported as written**, with all of `bytes` after
    /// a `WouldBlock`, as OpenSSL wants it (`SSL_MODE_ENABLE_PARTIAL_WRITE` and
    /// `SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER`); they need not be where they were. Bytes are
    /// reported when the socket has taken their records, and the last one only when it has taken
    /// all: what was reported whole needs no flush.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when nothing is taken; `BrokenPipe` after a shutdown; what the system says.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.try_write_vectored(&[IoSlice::new(bytes)])
    }

    /// As [`try_write`](TlsStream::try_write), of several pieces, which share their records.
    ///
    /// # Errors
    ///
    /// As [`try_write`](TlsStream::try_write).
    pub fn try_write_vectored(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.session().write(&self.inner.tcp, pieces)
    }

    /// How many of the bytes that the next write has to begin with are encrypted already, and can't
    /// be exchanged for others.
    pub fn owed(&self) -> usize {
        self.session().owed()
    }

    fn session(&self) -> std::sync::MutexGuard<'_, Session> {
        lock(&self.inner.session)
    }
}

/// Makes the handshake, all of it within `limit`.
fn handshake(
    tcp: TcpStream,
    side: Side,
    asked: Option<String>,
    limit: Duration,
) -> io::Result<TlsStream> {
    let until = switch::deadline(Some(limit));
    let mut session = Session::new(side);
    let mut asked = asked;
    let result = shake_hands(&tcp, &mut session, &mut asked, until);
    if let Err(error) = result {
        return Err(match error.kind() {
            io::ErrorKind::TimedOut => io::Error::new(
                io::ErrorKind::TimedOut,
                format!("the peer has not finished its TLS handshake within {limit:?}"),
            ),
            _ => error,
        });
    }
    let info = Arc::new(info(session.common(), asked));
    // What the handshake took of the stack: ten times what the connection will need.
    crate::trim_stack();
    Ok(TlsStream {
        inner: Arc::new(Inner {
            tcp,
            session: Mutex::new(session),
            info,
        }),
    })
}

// Not inlined: its frame, and those below, are to be gone when the stack is trimmed.
#[inline(never)]
fn shake_hands(
    tcp: &TcpStream,
    session: &mut Session,
    asked: &mut Option<String>,
    until: Option<u64>,
) -> io::Result<()> {
    session.begin();
    loop {
        while !session.send(tcp)? {
            tcp.wait_until(Direction::Write, until)?;
        }
        if let Some(failure) = session.failure() {
            let error = failed(failure);
            bid_farewell(tcp, until);
            return Err(error);
        }
        if !session.is_handshaking() {
            return Ok(());
        }
        tcp.wait_until(Direction::Read, until)?;
        match session.receive(tcp, &mut Sink::None) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => result?,
        }
        // By the certificates' choice, on this very thread.
        if let Some(name) = server::take_asked() {
            *asked = Some(name);
        }
    }
}

/// Leaves the peer time to read why its handshake has failed.
fn bid_farewell(tcp: &TcpStream, until: Option<u64>) {
    if tcp.shutdown(Shutdown::Write).is_err() {
        return;
    }
    let farewell = switch::deadline(Some(FAREWELL_TIME));
    let until = until.into_iter().chain(farewell).min();
    let mut left = FAREWELL_BYTES;
    let mut dropped = buffers::take();
    while left > 0 && tcp.wait_until(Direction::Read, until).is_ok() {
        dropped.clear();
        match tcp.try_read_vec(&mut dropped, 4096) {
            Ok(0) => break,
            Ok(read) => left = left.saturating_sub(read),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
    }
    buffers::give(dropped);
}

fn info(side: &CommonState, server_name: Option<String>) -> TlsInfo {
    let version = match side.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
        Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
        _ => "unknown",
    };
    let cipher = match side.negotiated_cipher_suite().map(|it| it.suite()) {
        // rustls calls them TLS13_….
        Some(CipherSuite::TLS13_AES_256_GCM_SHA384) => "TLS_AES_256_GCM_SHA384",
        Some(CipherSuite::TLS13_AES_128_GCM_SHA256) => "TLS_AES_128_GCM_SHA256",
        Some(CipherSuite::TLS13_CHACHA20_POLY1305_SHA256) => "TLS_CHACHA20_POLY1305_SHA256",
        suite => suite.and_then(|it| it.as_str()).unwrap_or("unknown"),
    };
    TlsInfo {
        server_name,
        alpn: side.alpn_protocol().map(<[u8]>::to_vec),
        version,
        cipher,
        peer_certificates: side
            .peer_certificates()
            .unwrap_or_default()
            .iter()
            .map(|certificate| certificate.to_vec())
            .collect(),
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let session = self
            .session
            .get_mut()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        // A peer must not take what was broken off for the whole.
        if session.reset || std::thread::panicking() {
            return;
        }
        session.close();
        session.send(&self.tcp).ok();
        // Closed with something unread, a connection is reset, and what we have sent may be lost.
        // A client has mostly not read the server's tickets for the next time.
        if !session.has_answer() {
            let mut dropped = buffers::take();
            self.tcp.try_read_vec(&mut dropped, 16 * 1024).ok();
            buffers::give(dropped);
        }
    }
}

impl Read for &TlsStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        // One limit for the whole call, also when what made it ready was no plaintext.
        let until = switch::deadline(self.inner.tcp.read_timeout());
        if !switch::may_wait() {
            return self.try_read(buffer);
        }
        loop {
            self.wait_readable_until(until)?;
            match self.try_read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
        }
    }
}

/// A write that fails, is killed or runs out of time may have sent a part of its bytes; what is
/// written next has to go on with them (see [`TlsStream::try_write`]), else the connection is of no
/// use any more.
impl Write for &TlsStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner.tcp.write_waiting(|| self.try_write(bytes))
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.inner
            .tcp
            .write_waiting(|| self.try_write_vectored(pieces))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for TlsStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }
}

impl Write for TlsStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self).write(bytes)
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(pieces)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for TlsStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.tcp.as_fd()
    }
}

impl AsRawFd for TlsStream {
    fn as_raw_fd(&self) -> RawFd {
        self.inner.tcp.as_raw_fd()
    }
}

impl fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream")
            .field("tcp", &self.inner.tcp)
            .field("info", &self.inner.info)
            .finish_non_exhaustive()
    }
}
