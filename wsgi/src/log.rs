//! The access log, and what goes wrong.

use std::{fmt, net::IpAddr, time::Instant};

use crate::{Error, clock};

/// Who has asked: the address, or `-` for a Unix socket, as pywsgi has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) Option<IpAddr>);

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(address) => address.fmt(f),
            None => f.write_str("-"),
        }
    }
}

/// Target of the access log's lines.
const ACCESS: &str = "greenwood::access";

/// One line of the access log, in pywsgi's format:
/// `127.0.0.1 - - [2026-11-22 14:35:38] "GET /x HTTP/1.1" 200 701 0.000411`.
pub(crate) struct Access {
    began: Instant,
}

/// A request line with quotes and everything unprintable escaped, so that a line of the log stays
/// one line.
pub(crate) struct Escaped<'a>(pub(crate) &'a [u8]);

/// The longest request line that is logged whole, in bytes.
const MAX_LINE: usize = 1024;

impl Access {
    /// Takes the time, if anybody listens.
    pub(crate) fn begin(wanted: bool) -> Option<Self> {
        (wanted && tracing::enabled!(target: "greenwood::access", tracing::Level::INFO)).then(
            || Self {
                began: Instant::now(),
            },
        )
    }

    /// Writes the line. `bytes` counts head and body of the response.
    pub(crate) fn finish(self, peer: Peer, line: &[u8], status: u16, bytes: u64) {
        let seconds = self.began.elapsed().as_secs_f64();
        let length = if bytes == 0 {
            "-".to_owned()
        } else {
            bytes.to_string()
        };
        let date = clock::with_log_date(str::to_owned);
        tracing::info!(
            target: ACCESS,
            "{peer} - - [{date}] \"{}\" {status:03} {length} {seconds:.6}",
            Escaped(line),
        );
    }
}

/// Notes why a request was not answered as the application meant it. `broken`: because the
/// connection failed, as it does whenever somebody closes a browser's window.
pub(crate) fn failure(error: &Error, broken: bool, line: &[u8], peer: Peer) {
    let line = Escaped(line);
    if broken || error.is_peer_fault() {
        tracing::debug!(target: "greenwood::wsgi", %peer, "\"{line}\" broken off: {error}");
    } else {
        tracing::error!(target: "greenwood::wsgi", %peer, "\"{line}\" failed: {error}");
    }
}

/// Notes how the application unwound. A kill is no failure, and the stop's own affair.
pub(crate) fn unwound(payload: &(dyn std::any::Any + Send), line: &[u8], peer: Peer) {
    let line = Escaped(line);
    if greenwood_runtime::is_kill(payload) {
        tracing::debug!(target: "greenwood::wsgi", %peer, "\"{line}\" killed");
        return;
    }
    if greenwood_runtime::is_interrupt(payload) {
        tracing::error!(target: "greenwood::wsgi", %peer, "\"{line}\" failed: a time-out that nobody caught");
        return;
    }
    let message = payload
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    tracing::error!(target: "greenwood::wsgi", %peer, "\"{line}\" panicked: {message}");
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = &self.0[..self.0.len().min(MAX_LINE)];
        // Pieces that need nothing are written as they are.
        for piece in line.split_inclusive(|&b| is_special(b)) {
            let (plain, special) = match piece.split_last() {
                Some((&last, rest)) if is_special(last) => (rest, Some(last)),
                _ => (piece, None),
            };
            f.write_str(std::str::from_utf8(plain).unwrap_or_default())?;
            match special {
                Some(quote @ (b'"' | b'\\')) => write!(f, "\\{}", char::from(quote))?,
                Some(byte) => write!(f, "\\x{byte:02x}")?,
                None => {}
            }
        }
        if line.len() < self.0.len() {
            f.write_str("...")
        } else {
            Ok(())
        }
    }
}

fn is_special(byte: u8) -> bool {
    !(b' '..0x7f).contains(&byte) || byte == b'"' || byte == b'\\'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_lines_are_escaped() {
        let shown = |line: &[u8]| Escaped(line).to_string();
        assert_eq!(shown(b"GET /x?y HTTP/1.1"), "GET /x?y HTTP/1.1");
        assert_eq!(
            shown(b"GET /\"\\ \r\n\x1b[31m\0\xff"),
            r#"GET /\"\\ \x0d\x0a\x1b[31m\x00\xff"#
        );
        assert_eq!(shown(b""), "");
        assert_eq!(shown(&[b'a'; 2000]).len(), MAX_LINE + 3);
    }
}
