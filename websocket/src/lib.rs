//! WebSockets (RFC 6455) for Greenwood: gevent-websocket's handler and `WebSocket`, in plain blocking code.
//!
//! [`WebSocketHandler`] upgrades connections inside a [`WsgiServer`](greenwood_wsgi::WsgiServer); the application finds its
//! [`WebSocket`] by [`WebSocketEnviron::websocket`]:
//!
//! ```no_run
//! use greenwood_websocket::{WebSocketEnviron, WebSocketHandler};
//! use greenwood_wsgi::{Body, Environ, Result, StartResponse, WsgiServer};
//!
//! fn app(environ: &mut Environ, start_response: StartResponse<'_>) -> Result<Body> {
//!     if let Some(ws) = environ.websocket() {
//!         while let Some(message) = ws.receive()? {
//!             ws.send(message)?;
//!         }
//!         return Ok(Body::empty());
//!     }
//!     start_response("200 OK", &[("Content-Type", "text/plain")])?;
//!     Ok("connect with a WebSocket".into())
//! }
//!
//! let server = WsgiServer::new("127.0.0.1:8000", app).handler(WebSocketHandler::new());
//! server.serve_forever()?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! [`proto`] is the protocol alone: bytes in, events and bytes out. It is all that is built without the
//! `io` feature, and may be driven by any other I/O.
#![deny(unsafe_code)]

pub mod proto;

#[cfg(feature = "io")]
mod config;
#[cfg(feature = "io")]
mod connection;
#[cfg(feature = "io")]
mod error;
#[cfg(feature = "io")]
mod handler;
#[cfg(feature = "io")]
mod outbox;
#[cfg(feature = "io")]
mod scratch;
#[cfg(feature = "io")]
mod socket;

#[cfg(feature = "io")]
pub use config::{SlowConsumer, WebSocketConfig};
#[cfg(feature = "io")]
pub use error::WebSocketError;
#[cfg(feature = "io")]
pub use handler::{WebSocketEnviron, WebSocketHandler};
pub use proto::{CloseCode, CloseFrame, Disconnect, Limits, Message, Outgoing};
#[cfg(feature = "io")]
pub use socket::WebSocket;
