//! What goes wrong with TLS, as `io::Error`s that say whose fault it is.

use std::fmt;
use std::io;
use std::path::Path;

use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};

/// A failure of TLS, with rustls' own words as its source.
#[derive(Debug)]
struct TlsFailure {
    what: String,
    source: Error,
}

impl fmt::Display for TlsFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.source)
    }
}

impl std::error::Error for TlsFailure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// A connection that TLS has ended. `InvalidData`, or `ConnectionAborted` if it was the peer that
/// ended it.
pub(super) fn failed(error: &Error) -> io::Error {
    let (kind, what) = match error {
        Error::AlertReceived(AlertDescription::NoApplicationProtocol) => (
            io::ErrorKind::ConnectionAborted,
            "the peer speaks none of the protocols offered by ALPN",
        ),
        Error::AlertReceived(_) => (
            io::ErrorKind::ConnectionAborted,
            "the peer has refused the TLS connection",
        ),
        Error::NoCertificatesPresented => (
            io::ErrorKind::InvalidData,
            "the peer has sent no certificate, and one is required",
        ),
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => (
            io::ErrorKind::InvalidData,
            "the peer's certificate is for another name",
        ),
        Error::InvalidCertificate(_) => (
            io::ErrorKind::InvalidData,
            "the peer's certificate is not accepted",
        ),
        Error::NoApplicationProtocol => (
            io::ErrorKind::InvalidData,
            "the peer's ALPN has none of our protocols",
        ),
        Error::PeerIncompatible(PeerIncompatible::Tls12NotOffered) => {
            (io::ErrorKind::InvalidData, "the peer's TLS is too old")
        }
        Error::InvalidMessage(_) => (
            io::ErrorKind::InvalidData,
            "the peer has sent something that is not TLS",
        ),
        _ => (io::ErrorKind::InvalidData, "TLS has failed"),
    };
    io::Error::new(
        kind,
        TlsFailure {
            what: what.to_owned(),
            source: error.clone(),
        },
    )
}

/// The end of the TCP connection without one of the TLS connection: by accident, or because somebody
/// in between has cut it.
pub(super) fn truncated() -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "the connection has ended without a TLS close_notify: what was received may be cut off",
    )
}

/// A peer that has begun with text, where TLS begins with a small number.
pub(super) fn no_tls() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the peer speaks no TLS: what it has sent looks like text, as of plain HTTP",
    )
}

/// Settings that can't be used, about a file or what was given in its place.
pub(super) fn unusable(what: &str, place: &Place<'_>, why: impl fmt::Display) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("{what} {place}: {why}"),
    )
}

/// Where PEM text comes from.
pub(super) enum Place<'a> {
    File(&'a Path),
    Memory,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::File(path) => path.display().fmt(f),
            Place::Memory => f.write_str("given as PEM"),
        }
    }
}
