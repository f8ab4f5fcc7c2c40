//! A WSGI-style HTTP/1.1 server on greenlets: gevent's `pywsgi` in Rust, in plain blocking code.
//!
//! The protocol is in [`proto`], which does no I/O. The server is built with the feature `io`, on
//! by default.
#![cfg_attr(feature = "io", doc = include_str!("server.md"))]
#![deny(unsafe_code)]

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
#[cfg(feature = "minihttp")]
pub mod minihttp;
#[cfg(feature = "io")]
mod options;
#[cfg(feature = "io")]
mod pace;
#[cfg(feature = "io")]
mod received;
#[cfg(feature = "io")]
mod registry;
#[cfg(feature = "io")]
mod scratch;
#[cfg(feature = "io")]
mod server;
#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "io")]
mod writer;

#[cfg(feature = "io")]
pub use {
    application::{Application, StartResponse},
    body::{Body, BodyWriter},
    environ::Environ,
    error::{Error, Result},
    exchange::{Exchange, Tenure, Upgraded},
    handler::{Handler, HttpHandler},
    input::Input,
    registry::OnStop,
    server::{ServerHandle, WsgiServer},
};
