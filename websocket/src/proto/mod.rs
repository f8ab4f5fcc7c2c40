//! The WebSocket protocol (RFC 6455), sans-IO.
//!
//! Nothing here reads or writes anything, asks the time or draws random numbers: bytes and masking
//! keys are arguments, events and bytes are results. A connection is driven like this:
//!
//! 1. [`ServerHandshake::check`] judges the HTTP request; [`Upgrade::response_head`] is the answer.
//!    On the other side, [`ClientHandshake`] makes the request and judges the answer.
//! 2. [`Decoder::decode`] turns received bytes into [`Event`]s.
//! 3. [`encode_frame`] and the control-frame helpers turn messages into bytes.
//! 4. [`CloseHandshake`] says which close frame to send and when the connection is over, and
//!    records how it ended.
//!
//! ```
//! use greenwood_websocket::proto::{Decoder, Event, Limits, Message, OpCode, Role, encode_frame};
//!
//! let mut wire = Vec::new();
//! encode_frame(&mut wire, true, OpCode::Text, b"hello", Some([1, 2, 3, 4]));
//!
//! let mut decoder = Decoder::new(Role::Server, Limits::default());
//! let (consumed, event) = decoder.decode(&mut wire);
//! assert_eq!(consumed, 11);
//! assert_eq!(event, Ok(Some(Event::Message(Message::from("hello")))));
//! ```

mod assembly;
mod client;
mod close;
mod closing;
mod config;
mod decoder;
mod deflate;
mod encoder;
mod error;
mod extension;
mod frame;
mod handshake;
mod mask;
mod message;
pub(crate) mod simd;
pub(crate) mod spare;
mod url;
mod utf8;

pub use client::{
    Agreement, ClientHandshake, MAX_RESPONSE_HEAD, RequestError, ResponseError, ResponseHead,
};
pub use close::{CloseCode, CloseFrame, MAX_CLOSE_REASON, parse_close_payload};
pub use closing::{CloseHandshake, CloseState, Disconnect};
pub use config::{DEFAULT_MAX_MESSAGE_SIZE, Limits};
pub use decoder::{DIRECT_READ_MIN, Decoder, Event, Part, PayloadSink, Role, Unit};
#[cfg(feature = "io")]
pub(crate) use deflate::Setting as DeflateSetting;
pub use deflate::{Deflate, DeflateParams, Deflater, Inflater};
pub use encoder::{
    close, compressed_frame_header, encode_compressed_frame, encode_frame, frame_header, ping, pong,
};
pub use error::{EncodeError, Fault, ProtocolError};
pub use extension::{Extension, MalformedExtensions};
pub use frame::{FrameHeader, MAX_CONTROL_PAYLOAD, MAX_HEADER, OpCode};
#[cfg(feature = "io")]
pub(crate) use handshake::is_token;
pub use handshake::{
    HandshakeError, RequestView, ServerHandshake, Upgrade, accept_key, select_subprotocol,
};
pub use mask::apply_mask;
pub use message::{Message, Outgoing};
pub use url::{Url, UrlError};
pub use utf8::{Utf8Error, Utf8Validator};
