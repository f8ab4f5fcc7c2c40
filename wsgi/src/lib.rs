//! A WSGI-style HTTP/1.1 server on greenlets: gevent's `pywsgi` in Rust, in plain blocking code.
//!
//! ```no_run
//! use greenwood_wsgi::{Body, Environ, Result, StartResponse, WsgiServer};
//!
//! fn app(environ: &mut Environ, start_response: StartResponse<'_>) -> Result<Body> {
//!     match &*environ.path() {
//!         "/" => {
//!             start_response("200 OK", &[("Content-Type", "text/html")])?;
//!             Ok("<b>hello world</b>".into())
//!         }
//!         _ => {
//!             start_response("404 Not Found", &[("Content-Type", "text/html")])?;
//!             Ok("<h1>Not Found</h1>".into())
//!         }
//!     }
//! }
//!
//! WsgiServer::new("127.0.0.1:8088", app).serve_forever()?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! An [`Application`] is the WSGI call: it gets the [`Environ`] of a request and the function
//! [`StartResponse`], and returns a [`Body`]. A [`Handler`] stands between the server and the
//! application, and may take a connection over by [`Exchange::upgrade`]. The protocol itself is in
//! [`proto`], which does no I/O and builds without the feature `io`.
//!
//! The server speaks HTTP/1.0 and 1.1: persistent connections, pipelining, chunked bodies both
//! ways, `100 Continue` at the first read, HEAD. What a peer may send and how long it may take is
//! [limited](proto::Limits); what is ambiguous is refused and the connection closed.
#![cfg_attr(
    not(feature = "io"),
    doc = "\n[`Application`]: crate\n[`Environ`]: crate\n[`StartResponse`]: crate\n[`Body`]: crate\n[`Handler`]: crate\n[`Exchange::upgrade`]: crate"
)]
#![forbid(unsafe_code)]

pub mod proto;

#[cfg(feature = "io")]
mod application;
#[cfg(feature = "io")]
mod body;
#[cfg(feature = "io")]
mod clock;
#[cfg(feature = "io")]
mod connection;
#[cfg(feature = "io")]
mod environ;
#[cfg(feature = "io")]
mod error;
#[cfg(feature = "io")]
mod exchange;
#[cfg(feature = "io")]
mod extensions;
#[cfg(feature = "io")]
mod handler;
#[cfg(feature = "io")]
mod input;
#[cfg(feature = "io")]
mod log;
#[cfg(feature = "io")]
mod options;
#[cfg(feature = "io")]
mod registry;
#[cfg(feature = "io")]
mod scratch;
#[cfg(feature = "io")]
mod server;
#[cfg(feature = "io")]
mod writer;

#[cfg(feature = "io")]
pub use {
    application::{Application, StartResponse},
    body::{Body, BodyWriter},
    environ::Environ,
    error::{Error, Result},
    exchange::{Exchange, Upgraded},
    handler::{Handler, HttpHandler},
    input::Input,
    registry::OnStop,
    server::{ServerHandle, WsgiServer},
};
