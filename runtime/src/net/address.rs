//! [`ToSocketAddrs`].

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::time::Duration;

use super::getaddrinfo;

/// What names an internet address, or several: as std's trait of that name, and a host *name* is
/// looked up by [`getaddrinfo`], which does not block the hub.
///
/// Implemented for addresses, pairs of a host and a port, and texts like `"localhost:8000"`. Several
/// at once are given as a slice.
pub trait ToSocketAddrs {
    /// The addresses. A lookup waits no longer than `timeout`; none: as long as it takes.
    ///
    /// # Errors
    ///
    /// As [`getaddrinfo`]; `InvalidInput` for a text without a port.
    fn addresses(&self, timeout: Option<Duration>) -> io::Result<Vec<SocketAddr>>;
}

impl ToSocketAddrs for SocketAddr {
    fn addresses(&self, _: Option<Duration>) -> io::Result<Vec<SocketAddr>> {
        Ok(vec![*self])
    }
}

/// Addresses that are converted to a `SocketAddr`.
macro_rules! converted {
    ($($address:ty),+) => {$(
        impl ToSocketAddrs for $address {
            fn addresses(&self, _: Option<Duration>) -> io::Result<Vec<SocketAddr>> {
                Ok(vec![SocketAddr::from(*self)])
            }
        }
    )+};
}

converted!(
    SocketAddrV4,
    SocketAddrV6,
    (IpAddr, u16),
    (Ipv4Addr, u16),
    (Ipv6Addr, u16)
);

impl ToSocketAddrs for [SocketAddr] {
    fn addresses(&self, _: Option<Duration>) -> io::Result<Vec<SocketAddr>> {
        Ok(self.to_vec())
    }
}

impl ToSocketAddrs for (&str, u16) {
    fn addresses(&self, timeout: Option<Duration>) -> io::Result<Vec<SocketAddr>> {
        getaddrinfo(self.0, self.1, timeout)
    }
}

impl ToSocketAddrs for (String, u16) {
    fn addresses(&self, timeout: Option<Duration>) -> io::Result<Vec<SocketAddr>> {
        getaddrinfo(&self.0, self.1, timeout)
    }
}

impl ToSocketAddrs for str {
    fn addresses(&self, timeout: Option<Duration>) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = self.parse() {
            return Ok(vec![address]);
        }
        let Some((host, Ok(port))) = self
            .rsplit_once(':')
            .map(|(host, port)| (host, port.parse()))
        else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{self:?} is no host and port, as \"localhost:8000\""),
            ));
        };
        getaddrinfo(host, port, timeout)
    }
}

impl ToSocketAddrs for String {
    fn addresses(&self, timeout: Option<Duration>) -> io::Result<Vec<SocketAddr>> {
        self.as_str().addresses(timeout)
    }
}

impl<T: ToSocketAddrs + ?Sized> ToSocketAddrs for &T {
    fn addresses(&self, timeout: Option<Duration>) -> io::Result<Vec<SocketAddr>> {
        (**self).addresses(timeout)
    }
}

/// Calls `each` with one address after the other, up to the first that is good.
///
/// # Errors
///
/// That of the last one.
pub(super) fn first_of<T>(
    addresses: impl ToSocketAddrs,
    mut each: impl FnMut(SocketAddr) -> io::Result<T>,
) -> io::Result<T> {
    let mut last = None;
    for address in addresses.addresses(None)? {
        match each(address) {
            Ok(value) => return Ok(value),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(no_address))
}

pub(super) fn no_address() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "the name has no address")
}
