//! WebSockets (RFC 6455) for Greenwood: gevent-websocket's handler and `WebSocket`, in plain
//! blocking code.
//!
//! [`proto`] is the protocol alone: bytes in, events and bytes out. It is all that is built without
//! the `io` feature, and may be driven by any other I/O.
#![cfg_attr(feature = "io", doc = include_str!("handler.md"))]
#![deny(unsafe_code)]

pub mod proto;

#[cfg(feature = "io")]
mod application;
#[cfg(feature = "io")]
mod client;
#[cfg(feature = "io")]
mod clients;
#[cfg(feature = "io")]
mod config;
#[cfg(feature = "io")]
mod connection;
#[cfg(feature = "io")]
mod error;
#[cfg(feature = "io")]
mod fanout;
#[cfg(feature = "io")]
mod frame;
#[cfg(feature = "io")]
mod handler;
#[cfg(feature = "io")]
mod members;
#[cfg(feature = "io")]
mod outbox;
#[cfg(feature = "io")]
mod parked;
#[cfg(feature = "io")]
mod random;
#[cfg(feature = "io")]
mod resource;
#[cfg(feature = "io")]
mod scratch;
#[cfg(feature = "io")]
mod session;
#[cfg(feature = "io")]
mod shared;
#[cfg(feature = "io")]
mod socket;
#[cfg(feature = "io")]
mod stream;
#[cfg(feature = "io")]
mod topic;
#[cfg(feature = "io")]
mod websocket_server;
#[cfg(feature = "io")]
mod wheel;

#[cfg(feature = "io")]
pub use application::{BaseProtocol, Coupled, Protocol, WebSocketApplication};
#[cfg(feature = "io")]
pub use client::{Connect, ConnectError, Refusal, connect};
#[cfg(feature = "io")]
pub use clients::{Client, Clients};
#[cfg(feature = "io")]
pub use config::{SlowConsumer, WebSocketConfig};
#[cfg(feature = "io")]
pub use error::WebSocketError;
#[cfg(feature = "io")]
pub use fanout::{Delivery, broadcast};
#[cfg(feature = "io")]
pub use frame::Frame;
#[cfg(feature = "io")]
pub use handler::{WebSocketEnviron, WebSocketHandler};
pub use proto::{CloseCode, CloseFrame, Deflate, Disconnect, Limits, Message, OpCode, Outgoing};
#[cfg(feature = "io")]
pub use resource::{Captures, Opening, PatternError, Resource, Route};
#[cfg(feature = "io")]
pub use socket::WebSocket;
#[cfg(feature = "io")]
pub use stream::{MessageReader, MessageWriter};
#[cfg(feature = "io")]
pub use topic::{Subscription, Topic, TopicPolicy};
#[cfg(feature = "io")]
pub use websocket_server::WebSocketServer;
