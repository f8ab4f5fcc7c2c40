//! [`WebSocketServer`].

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use greenwood_runtime::net::{Address, StreamListener, ToSocketAddrs};
use greenwood_wsgi::{Application, ServerHandle, WsgiServer};

use crate::clients::Clients;
use crate::config::WebSocketConfig;
use crate::handler::WebSocketHandler;
use crate::proto::Deflate;

/// A [`WsgiServer`] with a [`WebSocketHandler`]: gevent-websocket's `WebSocketServer`.
///
/// ```no_run
/// use greenwood_websocket::{Resource, Route, WebSocketApplication, WebSocketServer};
///
/// struct Echo;
///
/// // As it is by default: every message is sent back.
/// impl WebSocketApplication for Echo {}
///
/// let resource = Resource::new([("/", Route::websocket(|_| Echo))])?;
/// WebSocketServer::new("127.0.0.1:8000", resource).serve_forever()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct WebSocketServer {
    server: WsgiServer,
    handler: WebSocketHandler,
}

impl WebSocketServer {
    /// A server for `app`, mostly a [`Resource`](crate::Resource), at `address`, where it listens
    /// from now on; see [`WsgiServer::new`].
    pub fn new(address: impl ToSocketAddrs, app: impl Application) -> WebSocketServer {
        WebSocketServer::over(WsgiServer::new(address, app))
    }

    /// As [`new`](WebSocketServer::new), on a Unix socket at `path`; see [`WsgiServer::unix`].
    pub fn unix(path: impl AsRef<Path>, app: impl Application) -> WebSocketServer {
        WebSocketServer::over(WsgiServer::unix(path, app))
    }

    /// As [`new`](WebSocketServer::new), on a listener of one's own; see
    /// [`WsgiServer::from_listener`].
    pub fn from_listener(
        listener: impl Into<StreamListener>,
        app: impl Application,
    ) -> WebSocketServer {
        WebSocketServer::over(WsgiServer::from_listener(listener, app))
    }

    fn over(server: WsgiServer) -> WebSocketServer {
        let handler = WebSocketHandler::new();
        WebSocketServer {
            server: server.handler(handler.clone()),
            handler,
        }
    }

    /// Sets whatever a [`WsgiServer`] lets set; its handler is this server's own.
    ///
    /// ```
    /// # use greenwood_websocket::{Resource, WebSocketServer};
    /// # let resource = Resource::new::<&str>([])?;
    /// let server = WebSocketServer::new("127.0.0.1:0", resource)
    ///     .http(|server| server.max_connections(10_000).access_log(false));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn http(self, set: impl FnOnce(WsgiServer) -> WsgiServer) -> WebSocketServer {
        let WebSocketServer { server, handler } = self;
        WebSocketServer {
            server: set(server).handler(handler.clone()),
            handler,
        }
    }

    /// Sets whatever a [`WebSocketHandler`] lets set.
    ///
    /// ```
    /// # use greenwood_websocket::{Resource, WebSocketServer};
    /// # let resource = Resource::new::<&str>([])?;
    /// let server = WebSocketServer::new("127.0.0.1:0", resource).websockets(|handler| {
    ///     handler.origin(|origin, _environ| origin == Some("https://example.org"))
    /// });
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn websockets(
        self,
        set: impl FnOnce(WebSocketHandler) -> WebSocketHandler,
    ) -> WebSocketServer {
        let handler = set(self.handler);
        WebSocketServer {
            server: self.server.handler(handler.clone()),
            handler,
        }
    }

    /// As [`WebSocketHandler::config`].
    #[must_use]
    pub fn config(self, config: WebSocketConfig) -> WebSocketServer {
        self.websockets(|handler| handler.config(config))
    }

    /// As [`WebSocketHandler::deflate`].
    #[must_use]
    pub fn deflate(self, deflate: Deflate) -> WebSocketServer {
        self.websockets(|handler| handler.deflate(deflate))
    }

    /// As [`WsgiServer::max_connections`].
    ///
    /// # Panics
    ///
    /// If it is 0.
    #[must_use]
    pub fn max_connections(self, connections: usize) -> WebSocketServer {
        self.http(|server| server.max_connections(connections))
    }

    /// As [`WsgiServer::backlog`].
    #[must_use]
    pub fn backlog(self, connections: u16) -> WebSocketServer {
        self.http(|server| server.backlog(connections))
    }

    /// As [`WsgiServer::access_log`].
    #[must_use]
    pub fn access_log(self, on: bool) -> WebSocketServer {
        self.http(|server| server.access_log(on))
    }

    /// Who is connected by a WebSocket: gevent-websocket's `server.clients`.
    pub fn clients(&self) -> Clients {
        self.handler.clients()
    }

    /// As [`WsgiServer::local_addr`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.server.local_addr()
    }

    /// As [`WsgiServer::address`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn address(&self) -> io::Result<Address> {
        self.server.address()
    }

    /// A handle to stop the server from elsewhere; see [`WsgiServer::handle`].
    pub fn handle(&self) -> ServerHandle {
        self.server.handle()
    }

    /// As [`WsgiServer::start`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn start(&self) -> io::Result<()> {
        self.server.start()
    }

    /// As [`WsgiServer::serve_forever`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn serve_forever(&self) -> io::Result<()> {
        self.server.serve_forever()
    }

    /// As [`ServerHandle::stop`]: WebSockets are closed with 1001, and have `timeout` to end.
    pub fn stop(&self, timeout: Duration) {
        self.server.stop(timeout);
    }
}

impl fmt::Debug for WebSocketServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocketServer")
            .field("server", &self.server)
            .field("handler", &self.handler)
            .finish()
    }
}
