//! [`WebSocketHandler`]: WebSockets inside a [`WsgiServer`](greenwood_wsgi::WsgiServer).

use std::fmt;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use greenwood_wsgi::{Application, Environ, Error, Exchange, Handler, Result, Tenure, Upgraded};

use crate::clients::{Client, Clients, Entered};
use crate::config::WebSocketConfig;
use crate::connection::Connection;
use crate::parked::Parked;
use crate::proto::{
    CloseCode, Deflate, Disconnect, RequestView, Role, ServerHandshake, Upgrade, is_token,
};
use crate::resource::{NOT_FOUND, Resource, Route};
use crate::session::is_about_connection;
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
/// An application that is a [`Resource`] is asked for the application of the path before the
/// handshake: there may be none (404), and the subprotocols are that application's own.
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
    config: Arc<WebSocketConfig>,
    subprotocols: Vec<Box<str>>,
    origin: Option<Arc<OriginCheck>>,
    clients: Clients,
}

type OriginCheck = dyn Fn(Option<&str>, &Environ) -> bool + Send + Sync;

impl WebSocketHandler {
    /// A handler that takes every well-formed WebSocket.
    pub fn new() -> WebSocketHandler {
        WebSocketHandler::default()
    }

    /// Compresses messages for clients that offer it: permessage-deflate (RFC 7692).
    /// `Deflate::default()` suits most.
    pub fn deflate(mut self, deflate: Deflate) -> WebSocketHandler {
        Arc::make_mut(&mut self.config).deflate = Some(deflate);
        self
    }

    /// How connections behave.
    pub fn config(mut self, config: WebSocketConfig) -> WebSocketHandler {
        self.config = Arc::new(config);
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
        self.subprotocols = tokens(subprotocols);
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

    /// Who is connected by a WebSocket through this handler and its clones: gevent-websocket's
    /// `server.clients`.
    pub fn clients(&self) -> Clients {
        self.clients.clone()
    }

    /// The subprotocol that the client likes best among those of `route`, or of all paths.
    fn select<'s>(&'s self, upgrade: &Upgrade, route: Option<&'s Route>) -> Option<&'s str> {
        let own = route.map_or(&[][..], Route::own_subprotocols);
        let supported = if own.is_empty() {
            &self.subprotocols
        } else {
            own
        };
        let supported: Vec<&str> = supported.iter().map(|name| &**name).collect();
        upgrade.select_subprotocol(&supported)
    }

    fn serve(
        &self,
        exchange: &mut Exchange<'_>,
        upgrade: Upgrade,
        route: Option<&Route>,
    ) -> Result<()> {
        let subprotocol = self.select(&upgrade, route);
        let headers = upgrade
            .response_headers(subprotocol)
            .map_err(Error::application)?;
        let headers: Vec<(&str, &str)> = headers
            .iter()
            .map(|(name, value)| (*name, &**value))
            .collect();
        let upgraded = exchange.upgrade(&headers)?;
        let accepted = Accepted {
            upgraded,
            upgrade,
            config: Arc::clone(&self.config),
            subprotocol: subprotocol.map(Arc::from),
            clients: self.clients.clone(),
        };
        if route.is_some_and(Route::has_callbacks) {
            exchange.hand_over_tenure(move |environ, app, tenure| {
                accepted.serve_callbacks(environ, app, tenure)
            });
        } else {
            let entered = accepted.begin(exchange.environ());
            let on_stop = exchange.on_stop(going_away(&entered));
            exchange.hand_over(move |environ, app| {
                let _on_stop = on_stop;
                environ.insert(entered.client().clone());
                let result = run(environ, app, entered.client().ws().connection());
                environ.remove::<Client>();
                result
            });
        }
        Ok(())
    }
}

/// A connection whose handshake is over.
struct Accepted {
    upgraded: Upgraded,
    upgrade: Upgrade,
    config: Arc<WebSocketConfig>,
    subprotocol: Option<Arc<str>>,
    clients: Clients,
}

impl Accepted {
    /// Begins with the protocol: there is a client from now on.
    fn begin(self, environ: &Environ) -> Entered {
        let connection = Connection::new(
            Role::Server,
            self.upgraded.stream,
            self.upgraded.leftover,
            self.config,
            self.upgrade.deflate.as_ref(),
        );
        let ws = WebSocket::new(connection, self.subprotocol);
        let client = Client::new(ws, environ.remote_addr(), self.clients.clone());
        self.clients.enter(client)
    }

    /// Serves a connection by the callbacks of the resource's application.
    fn serve_callbacks(
        mut self,
        environ: &mut Environ,
        app: &dyn Application,
        tenure: Tenure,
    ) -> Result<()> {
        // The exchange's handles to it are gone by now.
        self.upgraded.stream = self.upgraded.stream.unregistered();
        let path = environ.path().into_owned();
        let entered = self.begin(environ);
        let on_stop = tenure.on_stop(going_away(&entered));
        let ending = Ending(entered.client().ws().connection());
        let resource = app.as_any().and_then(|app| app.downcast_ref::<Resource>());
        let found = resource.and_then(|resource| resource.route(&path, true));
        let made = catch_unwind(AssertUnwindSafe(|| {
            found.and_then(|(route, captures)| route.make(environ, captures))
        }));
        let app = match made {
            Ok(Some(app)) => app,
            // It was there when the handshake began.
            Ok(None) => return Err(Error::application("the path's application has gone")),
            Err(payload) if greenwood_runtime::is_kill(&*payload) => resume_unwind(payload),
            Err(payload) => {
                ending.0.fail(Disconnect::ApplicationError);
                ending.0.finish();
                resume_unwind(payload)
            }
        };
        ending.keep();
        Parked::serve(app, entered, tenure, on_stop);
        Ok(())
    }
}

/// What a stop of the server does to a connection.
fn going_away(entered: &Entered) -> impl FnOnce() + Send + 'static {
    let connection = Arc::clone(entered.client().ws().connection());
    move || {
        connection.close_nowait(CloseCode::GOING_AWAY, "").ok();
    }
}

/// Calls the application, and ends the connection as its end demands.
fn run(environ: &mut Environ, app: &dyn Application, connection: &Arc<Connection>) -> Result<()> {
    // However this ends (the greenlet may be killed while it waits for the peer), nothing of the
    // connection goes on behind it.
    let _ending = Ending(connection);
    // The response has been given: what an application says about it out of habit is dropped.
    let called = catch_unwind(AssertUnwindSafe(|| {
        app.call(environ, &mut |_, _| Ok(())).map(drop)
    }));
    conclude(called, connection)
}

/// Ends the connection as the end of the application demands.
// Not inlined: its frame would be there as long as the application runs.
#[inline(never)]
fn conclude(called: std::thread::Result<Result<()>>, connection: &Arc<Connection>) -> Result<()> {
    match called {
        Err(payload) if greenwood_runtime::is_kill(&*payload) => resume_unwind(payload),
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
        Ok(Ok(()) | Err(_)) => {
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

impl Ending<'_> {
    /// Somebody else ends it.
    fn keep(self) {
        let _kept = ManuallyDrop::new(self);
    }
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.abandon(CloseCode::GOING_AWAY);
    }
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
        let resource = app.as_any().and_then(|app| app.downcast_ref::<Resource>());
        let route = match resource {
            None => None,
            Some(resource) => match resource.route(&exchange.environ().path(), true) {
                Some((route, _)) => Some(route),
                None => {
                    let headers = [
                        ("Content-Type", "text/plain; charset=utf-8"),
                        // As after every refusal, see `HandshakeError::headers`.
                        ("Connection", "close"),
                    ];
                    return exchange.respond("404 Not Found", &headers, NOT_FOUND);
                }
            },
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
        self.serve(exchange, upgrade, route)
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

/// Subprotocols as an application gives them.
///
/// # Panics
///
/// If one is not a token.
pub(crate) fn tokens<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Vec<Box<str>> {
    let names = names.into_iter().map(|name| {
        let name = name.into();
        assert!(is_token(&name), "the subprotocol {name:?} is not a token");
        name.into()
    });
    names.collect()
}

/// What [`WebSocketHandler`] adds to the environ.
pub trait WebSocketEnviron {
    /// The connection, if the request asked for a WebSocket: gevent-websocket's
    /// `environ['wsgi.websocket']`.
    fn websocket(&self) -> Option<WebSocket>;

    /// The client at the other end of the [`websocket`](WebSocketEnviron::websocket), and by it all
    /// others of the server: gevent-websocket's `handler.active_client`.
    fn active_client(&self) -> Option<Client>;
}

impl WebSocketEnviron for Environ {
    fn websocket(&self) -> Option<WebSocket> {
        self.extension::<Client>().map(|client| client.ws().clone())
    }

    fn active_client(&self) -> Option<Client> {
        self.extension::<Client>().cloned()
    }
}
