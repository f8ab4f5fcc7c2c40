//! [`UdpSocket`].

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Type};

use super::address::{first_of, no_address};
use super::socket::{Direction, Socket};
use super::tcp::internet;
use super::timed::{Timed, timed_calls};
use super::{ToSocketAddrs, explain};
use crate::sys::fd;
use crate::sys::shared_fd::SharedFd;

/// A UDP socket: gevent's `socket` of type `SOCK_DGRAM`. Calls block the greenlet (or the plain
/// thread), never the hub. A clone is a second handle to the same socket.
///
/// A datagram that is longer than the buffer loses its rest, as everywhere.
///
/// ```
/// use greenwood_runtime::net::UdpSocket;
///
/// let here = UdpSocket::bind("127.0.0.1:0")?;
/// let there = UdpSocket::bind("127.0.0.1:0")?;
/// here.send_to(b"ping", there.local_addr()?)?;
/// let mut buffer = [0; 16];
/// assert_eq!(there.recv_from(&mut buffer)?, (4, here.local_addr()?));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct UdpSocket {
    inner: SharedFd<Timed>,
}

impl UdpSocket {
    /// A socket on the first of the addresses that can be had. Port 0 takes a free one
    /// ([`local_addr`](UdpSocket::local_addr) tells).
    ///
    /// # Errors
    ///
    /// What the system says of the last address, with the address; `InvalidInput` when there is
    /// none.
    pub fn bind(address: impl ToSocketAddrs) -> io::Result<UdpSocket> {
        first_of(address, |address| {
            UdpSocket::bind_to(address).map_err(|error| {
                io::Error::new(error.kind(), format!("can't bind to {address}: {error}"))
            })
        })
    }

    fn bind_to(address: SocketAddr) -> io::Result<UdpSocket> {
        let socket = socket2::Socket::new(
            Domain::for_address(address),
            Type::DGRAM.nonblocking(),
            Some(Protocol::UDP),
        )
        .map_err(explain)?;
        socket.bind(&address.into())?;
        Ok(UdpSocket::from_nonblocking(Socket::homed(socket.into())))
    }

    /// A socket on a descriptor, which becomes non-blocking: one that was inherited or made
    /// elsewhere.
    ///
    /// # Errors
    ///
    /// When the descriptor can't be made non-blocking.
    pub fn from_fd(fd: OwnedFd) -> io::Result<UdpSocket> {
        SockRef::from(&fd).set_nonblocking(true)?;
        Ok(UdpSocket::from_nonblocking(fd))
    }

    fn from_nonblocking(fd: OwnedFd) -> UdpSocket {
        UdpSocket {
            inner: SharedFd::new(Timed::new(Socket::endless(fd))),
        }
    }

    /// Chooses the peer of [`send`](UdpSocket::send) and [`recv`](UdpSocket::recv): the first of the
    /// addresses that the system takes. Datagrams of others are not received any more.
    ///
    /// # Errors
    ///
    /// What the system says of the last address; `InvalidInput` when there is none.
    pub fn connect(&self, address: impl ToSocketAddrs) -> io::Result<()> {
        first_of(address, |address| {
            SockRef::from(&*self.inner).connect(&address.into())
        })
    }

    /// Sends a datagram to an address: of several, the first of the socket's family.
    ///
    /// # Errors
    ///
    /// `TimedOut` after the write time-out, which the lookup of a name has as well, for itself; what
    /// the system says; for a name, what the lookup says.
    pub fn send_to(&self, bytes: &[u8], address: impl ToSocketAddrs) -> io::Result<usize> {
        let addresses = address.addresses(self.write_timeout())?;
        let mut address = *addresses.first().ok_or_else(no_address)?;
        if addresses.len() > 1 {
            let is_v4 = self.local_addr()?.is_ipv4();
            let mut ours = addresses.iter().filter(|it| it.is_ipv4() == is_v4);
            address = ours.next().copied().unwrap_or(address);
        }
        self.inner
            .write_waiting(|| self.try_send_to(bytes, address))
    }

    /// Waits for a datagram; its length, and who has sent it.
    ///
    /// # Errors
    ///
    /// `TimedOut` after the read time-out; `ResourceBusy` when another greenlet of the hub waits
    /// to read; what the system says.
    pub fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.inner.read_waiting(|| self.try_recv_from(buffer))
    }

    /// As [`recv_from`](UdpSocket::recv_from), and the datagram stays.
    ///
    /// # Errors
    ///
    /// As [`recv_from`](UdpSocket::recv_from).
    pub fn peek_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.inner.read_waiting(|| self.receive(buffer, true))
    }

    /// Sends a datagram to the peer of [`connect`](UdpSocket::connect).
    ///
    /// # Errors
    ///
    /// As [`send_to`](UdpSocket::send_to); `ConnectionRefused` when an earlier datagram has found
    /// nobody.
    pub fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        let socket = &self.inner.socket;
        self.inner
            .write_waiting(|| socket.try_write(|fd| fd::send(fd, bytes)))
    }

    /// Waits for a datagram of the peer of [`connect`](UdpSocket::connect).
    ///
    /// # Errors
    ///
    /// As [`recv_from`](UdpSocket::recv_from); `ConnectionRefused` when a datagram has found
    /// nobody.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let socket = &self.inner.socket;
        self.inner
            .read_waiting(|| socket.try_take(|fd| fd::receive(fd, buffer)))
    }

    /// As [`recv`](UdpSocket::recv), and the datagram stays.
    ///
    /// # Errors
    ///
    /// As [`recv`](UdpSocket::recv).
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let socket = &self.inner.socket;
        self.inner
            .read_waiting(|| socket.try_take(|fd| fd::peek(fd, buffer)))
    }

    /// Sends a datagram if the system takes it; never waits.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when it does not; what the system says.
    pub fn try_send_to(&self, bytes: &[u8], address: SocketAddr) -> io::Result<usize> {
        let address = address.into();
        self.inner.socket.try_write(|fd| {
            let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
            SockRef::from(&fd).send_to_with_flags(bytes, &address, flags)
        })
    }

    /// Receives a datagram if there is one; never waits.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when there is none; what the system says.
    pub fn try_recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.receive(buffer, false)
    }

    fn receive(&self, buffer: &mut [u8], peek: bool) -> io::Result<(usize, SocketAddr)> {
        let (n, sender) = self
            .inner
            .socket
            .try_take(|fd| fd::receive_from(fd, buffer, peek))?;
        Ok((n, internet(sender)?))
    }

    /// A second handle to the same socket. Costs no descriptor.
    ///
    /// # Errors
    ///
    /// None; the type is std's.
    pub fn try_clone(&self) -> io::Result<UdpSocket> {
        Ok(self.clone())
    }

    /// Our own address.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        internet(SockRef::from(&*self.inner).local_addr()?)
    }

    /// The address of the peer of [`connect`](UdpSocket::connect).
    ///
    /// # Errors
    ///
    /// What the system says: `NotConnected` when there is none.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        internet(SockRef::from(&*self.inner).peer_addr()?)
    }

    /// Whether datagrams may be sent to broadcast addresses (`SO_BROADCAST`). Off by default.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn set_broadcast(&self, on: bool) -> io::Result<()> {
        SockRef::from(&*self.inner).set_broadcast(on)
    }

    /// Whether datagrams may be sent to broadcast addresses.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn broadcast(&self) -> io::Result<bool> {
        SockRef::from(&*self.inner).broadcast()
    }

    /// How many routers an IPv4 datagram may pass (`IP_TTL`).
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        SockRef::from(&*self.inner).set_ttl_v4(ttl)
    }

    /// Receives what is sent to a multicast group, by the interface with this address, or any
    /// (`0.0.0.0`).
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn join_multicast_v4(&self, group: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> {
        SockRef::from(&*self.inner).join_multicast_v4(group, interface)
    }

    /// Leaves a group of [`join_multicast_v4`](UdpSocket::join_multicast_v4).
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn leave_multicast_v4(&self, group: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> {
        SockRef::from(&*self.inner).leave_multicast_v4(group, interface)
    }

    /// Receives what is sent to a multicast group, by the interface with this number, or any (0).
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn join_multicast_v6(&self, group: &Ipv6Addr, interface: u32) -> io::Result<()> {
        SockRef::from(&*self.inner).join_multicast_v6(group, interface)
    }

    /// Leaves a group of [`join_multicast_v6`](UdpSocket::join_multicast_v6).
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn leave_multicast_v6(&self, group: &Ipv6Addr, interface: u32) -> io::Result<()> {
        SockRef::from(&*self.inner).leave_multicast_v6(group, interface)
    }

    /// The interface by which multicast datagrams leave, by its address (`IP_MULTICAST_IF`).
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn set_multicast_if_v4(&self, interface: &Ipv4Addr) -> io::Result<()> {
        SockRef::from(&*self.inner).set_multicast_if_v4(interface)
    }

    /// Whether multicast datagrams come back to this machine's own members. On by default.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn set_multicast_loop_v4(&self, on: bool) -> io::Result<()> {
        SockRef::from(&*self.inner).set_multicast_loop_v4(on)
    }

    /// As [`set_multicast_loop_v4`](UdpSocket::set_multicast_loop_v4), for IPv6.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn set_multicast_loop_v6(&self, on: bool) -> io::Result<()> {
        SockRef::from(&*self.inner).set_multicast_loop_v6(on)
    }

    /// How many routers a multicast datagram may pass; 1 by default.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn set_multicast_ttl_v4(&self, ttl: u32) -> io::Result<()> {
        SockRef::from(&*self.inner).set_multicast_ttl_v4(ttl)
    }
}

timed_calls!(UdpSocket);
