//! The error of applications, handlers and the server's calls to them.

use std::{fmt, io};

use crate::proto::{HttpError, reason_phrase};

/// Short for the results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a request was not answered as it should have been.
///
/// An application may return any error with `?` or [`Error::application`]. As long as no byte of
/// the response is out it becomes a response with [`status_hint`](Self::status_hint); after that
/// the connection is cut.
#[non_exhaustive]
#[derive(Debug)]
pub enum Error {
    /// HTTP was broken, by the peer or by the application; it says by whom.
    Http(HttpError),
    /// An operation failed: the transport, or I/O of the application's own.
    Io(io::Error),
    /// The application failed for a reason of its own.
    Application(Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// Makes an error of whatever the application failed with.
    ///
    /// ```
    /// # use greenwood_wsgi::{Error, Result};
    /// fn number(text: &str) -> Result<f64> {
    ///     text.parse().map_err(Error::application)
    /// }
    /// assert_eq!(number("x").unwrap_err().status_hint(), 500);
    /// ```
    pub fn application(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Application(error.into())
    }

    /// The status to answer with as long as nothing was sent: that of
    /// [`HttpError::status_hint`], else 500.
    pub fn status_hint(&self) -> u16 {
        match self {
            Self::Http(error) => error.status_hint(),
            Self::Io(_) | Self::Application(_) => 500,
        }
    }

    /// Whether the peer is to blame.
    pub fn is_peer_fault(&self) -> bool {
        matches!(self, Self::Http(error) if error.is_peer_fault())
    }

    /// The body of the answer: a phrase, and the cause if it was the peer's fault. Nothing of the
    /// application's errors gets out.
    pub(crate) fn answer(&self) -> String {
        let phrase = reason_phrase(self.status_hint());
        match self {
            Self::Http(error) if error.is_peer_fault() => format!("{phrase}: {}\n", error.reason()),
            _ => format!("{phrase}\n"),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(error) => error.fmt(f),
            Self::Io(error) => error.fmt(f),
            Self::Application(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // Display is the inner error's own, so the source is the next one down.
        match self {
            Self::Http(_) => None,
            Self::Io(error) => error.source(),
            Self::Application(error) => error.source(),
        }
    }
}

impl From<HttpError> for Error {
    fn from(error: HttpError) -> Self {
        Self::Http(error)
    }
}

impl From<io::Error> for Error {
    /// Takes an [`HttpError`] or an [`Error`] out again that went through [`io::Read`] or
    /// [`io::Write`].
    fn from(error: io::Error) -> Self {
        if let Some(&http) = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<HttpError>())
        {
            return Self::Http(http);
        }
        match error.downcast::<Self>() {
            Ok(inner) => inner,
            Err(error) => Self::Io(error),
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Io(error) => error,
            error => Self::other(error),
        }
    }
}

impl From<Box<dyn std::error::Error + Send + Sync>> for Error {
    fn from(error: Box<dyn std::error::Error + Send + Sync>) -> Self {
        Self::Application(error)
    }
}

macro_rules! from_application {
    ($($error:ty),*) => {$(
        impl From<$error> for Error {
            fn from(error: $error) -> Self {
                Self::application(error)
            }
        }
    )*};
}

from_application!(
    String,
    &str,
    std::str::Utf8Error,
    std::string::FromUtf8Error,
    std::num::ParseIntError,
    fmt::Error
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::PeerFault;

    #[test]
    fn errors_are_small() {
        assert!(size_of::<Error>() <= 24);
    }

    #[test]
    fn http_errors_survive_io() {
        let http = HttpError::from(PeerFault::ChunkSize);
        let through = Error::from(io::Error::new(io::ErrorKind::InvalidData, http));
        assert!(matches!(through, Error::Http(e) if e == http));
        let through = Error::from(io::Error::from(Error::Http(http)));
        assert_eq!(through.status_hint(), 400);
        let plain = Error::from(io::Error::other("disk on fire"));
        assert!(matches!(&plain, Error::Io(_)));
        assert_eq!(
            (plain.status_hint(), plain.to_string().as_str()),
            (500, "disk on fire")
        );
    }

    #[test]
    fn answer_tells_nothing_of_the_application() {
        assert_eq!(Error::from("secret").answer(), "Internal Server Error\n");
        let peer = Error::from(HttpError::from(PeerFault::HostMissing));
        assert_eq!(peer.answer(), "Bad Request: host header missing\n");
    }
}
