//! gevent's stack in Rust: greenlets on pinned hubs, a WSGI-style HTTP server and WebSockets, in
//! plain blocking code, with no `async`.
//!
//! | the Python stack | here |
//! | --- | --- |
//! | gevent | [`runtime`] |
//! | gevent.pywsgi | [`wsgi`] |
//! | gevent-websocket | [`websocket`] |
//!
//! The most used names are also at the top:
//!
//! ```no_run
//! use greenwood::{Body, Environ, Result, StartResponse, WebSocketEnviron, WebSocketHandler, WsgiServer};
//!
//! fn echo(environ: &mut Environ, start_response: StartResponse<'_>) -> Result<Body> {
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
//! WsgiServer::new("127.0.0.1:8000", echo).handler(WebSocketHandler::new()).serve_forever()?;
//! # Ok::<(), std::io::Error>(())
//! ```
#![forbid(unsafe_code)]

// README's program compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub use greenwood_runtime as runtime;
pub use greenwood_websocket as websocket;
pub use greenwood_wsgi as wsgi;

pub use greenwood_runtime::{
    Builder, Event, Greenlet, Hub, Queue, Semaphore, Timeout, joinall, killall, sleep, spawn,
    spawn_later, spawn_local, with_timeout,
};
pub use greenwood_websocket::{
    Client, Clients, CloseCode, Connect, ConnectError, Deflate, Delivery, Disconnect, Message,
    Refusal, Resource, Route, Subscription, Topic, TopicPolicy, WebSocket, WebSocketApplication,
    WebSocketConfig, WebSocketEnviron, WebSocketError, WebSocketHandler, WebSocketServer,
    broadcast, connect,
};
pub use greenwood_wsgi::{Application, Body, Environ, Error, Result, StartResponse, WsgiServer};
