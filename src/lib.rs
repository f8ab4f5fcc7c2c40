//! gevent's stack in Rust: greenlets on pinned hubs, a WSGI-style HTTP server and WebSockets, in
//! plain blocking code, with no `async`.
//!
//! | the Python stack | here |
//! | --- | --- |
//! | gevent | [`runtime`] |
//! | gevent.pywsgi | [`wsgi`] |
//! | gevent-websocket | [`websocket`] |
//!
//! What a program is written with is also at the top: gevent's names, those of its submodules among
//! them, the application's call, and the WebSockets. Tools, settings and most errors are in the
//! packages' modules. [`runtime::gevent`](mod@runtime::gevent) says of each of gevent's names what it
//! is here.
//!
//! | Python | here |
//! | --- | --- |
//! | `import gevent` | `spawn`, `sleep`, `joinall`, `Timeout`, … |
//! | `from gevent.queue import Queue`, and so `event`, `lock`, `pool`, `local`, `threadpool`, `server` | `Queue`, `Event`, `Semaphore`, `Pool`, `local!`, `ThreadPool`, `StreamServer`, … |
//! | `from gevent import socket, ssl, subprocess, signal_handler` | [`net`], [`subprocess`], [`signal`], `signal_handler` |
//! | `from gevent.pywsgi import WSGIServer` | `WsgiServer` |
//! | `from geventwebsocket import WebSocketServer, Resource, WebSocketApplication` | the same |
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
//!
//! A server alone and its greenlets need no more than that either:
//!
//! ```
//! use greenwood::{Pool, Queue, StreamServer, joinall, net::TcpStream, sleep, spawn, with_timeout};
//! use std::io::{Read, Write};
//! use std::{sync::Arc, time::Duration};
//!
//! let lines = Arc::new(Queue::new(100));
//! let heard = Arc::clone(&lines);
//! let server = StreamServer::new("127.0.0.1:0", move |mut stream, _peer| {
//!     let mut line = String::new();
//!     stream.read_to_string(&mut line).ok();
//!     heard.put(line).ok();
//! })?
//! .spawn(Pool::new(10));
//! server.start()?;
//! let address = server.local_addr();
//! let clients: Vec<_> = (0..3)
//!     .map(|i| {
//!         spawn(move || {
//!             sleep(Duration::from_millis(i));
//!             TcpStream::connect(address)?.write_all(b"hello")
//!         })
//!     })
//!     .collect();
//! assert!(joinall(&clients, None));
//! for _ in 0..3 {
//!     let line = with_timeout(Duration::from_secs(60), || lines.get()).expect("in time");
//!     assert_eq!(line.as_deref(), Ok("hello"));
//! }
//! server.stop(Duration::from_secs(1));
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
    AsyncResult, BackdoorServer, BoundedSemaphore, Builder, Channel, Condvar, CountDownLatch,
    DatagramServer, Elapsed, Event, FileObject, Greenlet, Group, Hub, JoinError, JoinableQueue,
    LifoQueue, Local, Mutex, Once, OnceCell, Pool, PriorityQueue, Queue, RLock, RwLock, Semaphore,
    SimpleQueue, Spawn, StreamServer, ThreadPool, Timeout, getcurrent, idle, iwait, joinall,
    killall, local, net, print_run_info, scope, signal, signal_handler, sleep, spawn, spawn_later,
    spawn_local, subprocess, threadpool, wait, with_timeout, with_timeout_or,
};
pub use greenwood_websocket::{
    BaseProtocol, Captures, Client, Clients, CloseCode, CloseFrame, Connect, ConnectError, Coupled,
    Deflate, Delivery, Disconnect, Frame, Limits, Message, MessageReader, MessageWriter, OpCode,
    Opening, PatternError, Protocol, Refusal, Resource, Route, SlowConsumer, Subscription, Topic,
    TopicPolicy, WebSocket, WebSocketApplication, WebSocketConfig, WebSocketEnviron,
    WebSocketError, WebSocketHandler, WebSocketServer, broadcast, connect,
};
pub use greenwood_wsgi::{
    Application, Body, BodyWriter, Environ, Error, Result, ServerHandle, StartResponse, WsgiServer,
};
