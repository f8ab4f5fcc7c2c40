//! The HTTP/1.x protocol without any I/O: bytes in, heads, bodies and bytes out.
//!
//! Nothing here knows a socket, a clock, a thread or a log; the date of a response, for one, is an
//! argument. So it can be tested byte by byte, fuzzed, and driven by any kind of I/O. The parts, in
//! the order in which a request meets them:
//!
//! 1. [`HeadParser`] turns bytes into a [`RequestHead`], or refuses them with an [`HttpError`] that
//!    knows the status to answer with;
//! 2. [`BodyDecoder`] takes the request's body out of the bytes that follow, as the head's
//!    [`Framing`] says;
//! 3. [`ResponseEncoder`] writes the status line, the headers and the framed body of the response.
//!
//! What is ambiguous is refused, never guessed: two lengths, a length and a transfer coding,
//! obsolete line folding, bare line feeds, signs in numbers. Everything the peer controls has a
//! limit in [`Limits`].
//!
//! ```
//! use greenwood_wsgi::proto::{HeadParser, Limits, ResponseEncoder, ResponseContext};
//!
//! let bytes = b"GET /hello?who=world HTTP/1.1\r\nHost: example.org\r\n\r\n";
//! let (head, used) = HeadParser::new().parse(bytes, &Limits::default())?.expect("a whole head");
//! assert_eq!((head.method(), head.path(), head.query()), ("GET", "/hello", Some("who=world")));
//! assert_eq!(used, bytes.len());
//!
//! let mut out = Vec::new();
//! let mut response = ResponseEncoder::new(&head);
//! response.start(&mut out, "200 OK", &[("Content-Type", "text/plain")])?;
//! let context = ResponseContext { date: "Sun, 22 Nov 2026 14:35:38 GMT", server: "", keep_alive: true };
//! response.head(&mut out, Some(5), &context)?;
//! response.data(&mut out, b"hello")?;
//! response.finish(&mut out)?;
//! assert!(out.ends_with(b"\r\n\r\nhello"));
//! # Ok::<(), greenwood_wsgi::proto::HttpError>(())
//! ```

mod chars;
mod chunked;
mod connection;
mod error;
mod framing;
mod head;
mod limits;
mod parser;
mod response;
mod target;
mod wire;

pub use chunked::ChunkedDecoder;
pub use connection::ConnectionOptions;
pub use error::{ApplicationFault, HttpError, LimitKind, PeerFault};
pub use framing::{BodyDecoder, Decoded, Framing};
pub use head::{Headers, RequestHead, Version};
pub use limits::Limits;
pub use parser::HeadParser;
pub use response::{Payload, ResponseContext, ResponseEncoder};
pub use wire::{encode_upgrade, reason_phrase};
