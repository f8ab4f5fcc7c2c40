//! [`WebSocketHandler`]: WebSockets inside a [`WsgiServer`](greenwood_wsgi::WsgiServer).

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use greenwood_wsgi::{Application, Environ, Error, Exchange, Handler, Result};

use crate::config::WebSocketConfig;
use crate::connection::Connection;
use crate::error::WebSocketError;
use crate::proto::{CloseCode, Deflate, Disconnect, RequestView, Role, ServerHandshake, Upgrade};
use crate::socket::WebSocket;

/// Upgrades WebSocket connections and serves everything else as before: gevent-websocket's
/// `WebSocketHandler`.
///
/// A request for a WebSocket that is not in order is refused with the cause: 426 for a wrong
/// version, 400 for a bad key, 403 for an origin that [`origin`](WebSocketHandler::origin) turns
/// down; the connection is closed then. The application is called with the WebSocket in its environ
/// ([`WebSocketEnviron::websocket`]); when it returns, the connection is closed with 1000, or with
/// 1011 if it failed. When the server stops, open WebSockets are closed with 1001.
///
/// A peer that vanishes without a word is found out by the system (TCP keep-alive) in two minutes;
/// [`WebSocketConfig::ping`] is quicker, and sees through proxies.
///
/// Browsers send the page's origin with every handshake, and unlike other requests a WebSocket is
/// not stopped by the same-origin policy: check it if the connection is authenticated by cookies.
///
/// ```
/// use greenwood_websocket::WebSocketHandler;
///
/// let handler = WebSocketHandler::new()
///     .subprotocols(["chat.v2", "chat.v1"])
///     .origin(|origin, _environ| origin.is_none_or(|origin| origin == "https://example.org"));
/// ```
#[derive(Clone, Default)]
#[must_use = "give it to WsgiServer::handler"]
pub struct WebSocketHandler {
    config: WebSocketConfig,
    subprotocols: Vec<Box<str>>,
    origin: Option<Arc<OriginCheck>>,
}

/// After how long a silence the system asks a peer whether it is there. It is given up within twice
/// that.
pub(crate) const TCP_KEEPALIVE: Duration = Duration::from_secs(60);

type OriginCheck = dyn Fn(Option<&str>, &Environ) -> bool + Send + Sync;

impl WebSocketHandler {
    /// A handler that takes every well-formed WebSocket.
    pub fn new() -> WebSocketHandler {
        WebSocketHandler::default()
    }

    /// Compresses messages for clients that offer it: permessage-deflate (RFC 7692).
    /// `Deflate::default()` suits most.
    pub fn deflate(mut self, deflate: Deflate) -> WebSocketHandler {
        self.config.deflate = Some(deflate);
        self
    }

    /// How connections behave.
    pub fn config(mut self, config: WebSocketConfig) -> WebSocketHandler {
        self.config = config;
        self
    }

    /// The subprotocols that the application speaks. The client's favourite among them is agreed
    /// on; none if it offers none of them.
    ///
    /// # Panics
    ///
    /// If one is not a token (RFC 9110, 5.6.2): it could never be agreed on.
    pub fn subprotocols<S: Into<String>>(
        mut self,
        subprotocols: impl IntoIterator<Item = S>,
    ) -> WebSocketHandler {
        self.subprotocols = subprotocols
            .into_iter()
            .map(|name| name.into().into())
            .collect();
        for name in &self.subprotocols {
            assert!(is_token(name), "the subprotocol {name:?} is not a token");
        }
        self
    }

    /// Decides by the `Origin` header (`None`: no browser) and the request who may connect; others
    /// get 403, as does who sends two origins or one that is not text. Default: everybody.
    pub fn origin(
        mut self,
        allow: impl Fn(Option<&str>, &Environ) -> bool + Send + Sync + 'static,
    ) -> WebSocketHandler {
        self.origin = Some(Arc::new(allow));
        self
    }

    fn select<'s>(&'s self, upgrade: &Upgrade) -> Option<&'s str> {
        let supported: Vec<&str> = self.subprotocols.iter().map(|name| &**name).collect();
        upgrade.select_subprotocol(&supported)
    }

    fn serve(&self, exchange: &mut Exchange<'_>, upgrade: &Upgrade) -> Result<()> {
        let subprotocol = self.select(upgrade);
        let headers = upgrade
            .response_headers(subprotocol)
            .map_err(Error::application)?;
        let headers: Vec<(&str, &str)> = headers
            .iter()
            .map(|(name, value)| (*name, &**value))
            .collect();
        let upgraded = exchange.upgrade(&headers)?;
        // Frames are sent whole; waiting for more to send would only hold them up.
        upgraded.stream.set_nodelay(true)?;
        // Costs the process nothing, and finds out about a peer that has vanished without a word.
        upgraded.stream.set_keepalive(Some(TCP_KEEPALIVE))?;
        let connection = Connection::new(
            Role::Server,
            upgraded.stream,
            upgraded.leftover,
            self.config,
            upgrade.deflate.as_ref(),
        );
        let websocket = WebSocket::new(Arc::clone(&connection), subprotocol);
        let stopped = Arc::clone(&connection);
        let on_stop = exchange.on_stop(move || {
            stopped.close_nowait(CloseCode::GOING_AWAY, "").ok();
        });
        exchange.hand_over(move |environ, app| {
            let _on_stop = on_stop;
            environ.insert(websocket);
            let result = run(environ, app, &connection);
            environ.remove::<WebSocket>();
            result
        });
        Ok(())
    }
}

/// Calls the application, and ends the connection as its end demands.
fn run(environ: &mut Environ, app: &dyn Application, connection: &Arc<Connection>) -> Result<()> {
    // However this ends (the greenlet may be killed while it waits for the peer), nothing of the
    // connection goes on behind it.
    let _ending = Ending(connection);
    // The response has been given: what an application says about it out of habit is dropped.
    let called = catch_unwind(AssertUnwindSafe(|| app.call(environ, &mut |_, _| Ok(()))));
    match called {
        Err(payload) if greenwood_runtime::is_interrupt(&*payload) => resume_unwind(payload),
        Err(payload) => {
            connection.fail(Disconnect::ApplicationError);
            connection.finish();
            resume_unwind(payload)
        }
        Ok(Err(error)) if !is_about_connection(&error) => {
            connection.fail(Disconnect::ApplicationError);
            connection.finish();
            Err(error)
        }
        Ok(_) => {
            connection
                .close(CloseCode::NORMAL, "")
                .map_err(Error::application)?;
            connection.finish();
            Ok(())
        }
    }
}

/// Ends a connection that has not ended otherwise.
struct Ending<'a>(&'a Arc<Connection>);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.abandon(CloseCode::GOING_AWAY);
    }
}

/// Whether an application ended with what the connection itself had told it: no failure of its own.
fn is_about_connection(error: &Error) -> bool {
    let Error::Application(error) = error else {
        return false;
    };
    matches!(
        error.downcast_ref::<WebSocketError>(),
        Some(WebSocketError::Closed | WebSocketError::Disconnected(_))
    )
}

impl Handler for WebSocketHandler {
    fn handle(&self, exchange: &mut Exchange<'_>, app: &dyn Application) -> Result<()> {
        let request = Request(exchange.environ());
        if !ServerHandshake::is_upgrade_request(&request) {
            return exchange.run(app);
        }
        let mut upgrade = match ServerHandshake::check(&request) {
            Ok(upgrade) => upgrade,
            Err(error) => {
                let status = match error.status_hint() {
                    426 => "426 Upgrade Required",
                    500 => "500 Internal Server Error",
                    _ => "400 Bad Request",
                };
                let mut headers = vec![("Content-Type", "text/plain; charset=utf-8")];
                headers.extend_from_slice(error.headers());
                return exchange.respond(status, &headers, error.body());
            }
        };
        if let Some(allow) = &self.origin {
            let environ = exchange.environ();
            if !origin(environ).is_ok_and(|origin| allow(origin, environ)) {
                let headers = [
                    ("Content-Type", "text/plain; charset=utf-8"),
                    // As after every refusal, see `HandshakeError::headers`.
                    ("Connection", "close"),
                ];
                return exchange.respond("403 Forbidden", &headers, "the origin is not allowed\n");
            }
        }
        if let Some(settings) = &self.config.deflate {
            upgrade.accept_deflate(settings);
        }
        self.serve(exchange, &upgrade)
    }
}

impl fmt::Debug for WebSocketHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocketHandler")
            .field("config", &self.config)
            .field("subprotocols", &self.subprotocols)
            .field("origin", &self.origin.is_some())
            .finish()
    }
}

/// The request's origin, if it has one. An error if that can't be told: it must not pass for none.
fn origin(environ: &Environ) -> std::result::Result<Option<&str>, ()> {
    let mut values = environ
        .headers()
        .filter(|(name, _)| name.eq_ignore_ascii_case("origin"))
        .map(|(_, value)| value)
        .fuse();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => std::str::from_utf8(value).map(Some).map_err(drop),
        // RFC 6454, 7.3: not more than one.
        (Some(_), Some(_)) => Err(()),
    }
}

/// A request as the handshake looks at it.
struct Request<'a>(&'a Environ);

impl RequestView for Request<'_> {
    fn method(&self) -> &str {
        self.0.method()
    }

    fn version(&self) -> (u8, u8) {
        match self.0.version() {
            greenwood_wsgi::proto::Version::Http10 => (1, 0),
            _ => (1, 1),
        }
    }

    fn header_values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.0
            .headers()
            .filter(move |(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }
}

fn is_token(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// What [`WebSocketHandler`] adds to the environ.
pub trait WebSocketEnviron {
    /// The connection, if the request asked for a WebSocket: gevent-websocket's
    /// `environ['wsgi.websocket']`.
    fn websocket(&self) -> Option<WebSocket>;
}

impl WebSocketEnviron for Environ {
    fn websocket(&self) -> Option<WebSocket> {
        self.extension::<WebSocket>().cloned()
    }
}
