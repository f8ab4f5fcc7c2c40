//! [`Resource`]: which application serves which path.

use std::any::Any;
use std::fmt;

use greenwood_wsgi::{Application, Body, Environ, Result, StartResponse};
use regex_lite::Regex;

use crate::application::WebSocketApplication;
use crate::handler::{WebSocketEnviron, tokens};
use crate::proto::CloseCode;
use crate::session;

/// Applications by their paths: gevent-websocket's `Resource`.
///
/// The patterns are tried in order against the decoded path (`PATH_INFO`), each from its beginning
/// but not necessarily to its end, as by Python's `re.match`: `/` matches every path, `/$` the
/// root alone. The first that matches *and* is of the right kind serves the request: a
/// [`Route::websocket`] those for a WebSocket, a [`Route::application`] the others. Where there is
/// none, the answer is 404.
///
/// With [`WebSocketHandler`](crate::WebSocketHandler) (or in a
/// [`WebSocketServer`](crate::WebSocketServer)) the subprotocol is the application's own, and a
/// connection holds no greenlet between messages. Inside another application that wraps it a
/// resource works too, but its connections keep the greenlet of the handshake, and the subprotocols
/// are the handler's.
///
/// ```no_run
/// use greenwood_websocket::{
///     Client, Message, Resource, Route, WebSocketApplication, WebSocketServer,
/// };
/// use greenwood_wsgi::{Environ, Result, StartResponse};
///
/// struct Chat {
///     room: String,
/// }
///
/// impl WebSocketApplication for Chat {
///     fn on_message(&mut self, client: &Client, message: Message) -> Result<()> {
///         client.clients().broadcast(format!("[{}] {message}", self.room));
///         Ok(())
///     }
/// }
///
/// let page = |_: &mut Environ, start_response: StartResponse<'_>| {
///     start_response("200 OK", &[("Content-Type", "text/plain")])?;
///     Ok("connect to /chat/ROOM with a WebSocket\n".into())
/// };
/// let resource = Resource::new([
///     (
///         "/chat/(?<room>[a-z]+)$",
///         Route::websocket(|opening| Chat {
///             room: opening.name("room").unwrap_or_default().to_owned(),
///         }),
///     ),
///     ("/$", Route::application(page)),
/// ])?;
/// WebSocketServer::new("127.0.0.1:8000", resource).serve_forever()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Resource {
    routes: Vec<(Regex, Route)>,
}

/// What serves a path of a [`Resource`].
pub struct Route {
    kind: Kind,
    subprotocols: Vec<Box<str>>,
}

enum Kind {
    Application(Box<dyn Application>),
    Blocking(Box<dyn Application>),
    WebSocket(Box<Factory>),
}

type Factory = dyn Fn(&Opening<'_>) -> Box<dyn WebSocketApplication> + Send + Sync;

/// A request for a WebSocket, for which an application is to be made.
#[derive(Debug)]
pub struct Opening<'a> {
    environ: &'a Environ,
    captures: Captures,
}

/// What the groups of a [`Resource`]'s pattern have matched. A plain application finds it among the
/// environ's extensions.
#[derive(Debug, Clone, Default)]
pub struct Captures {
    /// The whole match first.
    groups: Vec<Option<Box<str>>>,
    names: Vec<(Box<str>, usize)>,
}

/// A pattern that is no regular expression.
#[derive(Debug)]
pub struct PatternError {
    pattern: Box<str>,
    source: regex_lite::Error,
}

impl Resource {
    /// A resource of these patterns, in this order, each with what serves it.
    ///
    /// The patterns are regular expressions of the crate `regex-lite`, which is Python's notation
    /// without look-around and back-references.
    ///
    /// # Errors
    ///
    /// The first pattern that is no regular expression.
    pub fn new<P: AsRef<str>>(
        routes: impl IntoIterator<Item = (P, Route)>,
    ) -> std::result::Result<Resource, PatternError> {
        let compile = |(pattern, route): (P, Route)| {
            let pattern = pattern.as_ref();
            match Regex::new(pattern) {
                Ok(regex) => Ok((regex, route)),
                Err(source) => Err(PatternError {
                    pattern: pattern.into(),
                    source,
                }),
            }
        };
        let routes = routes.into_iter().map(compile).collect::<Result<_, _>>()?;
        Ok(Resource { routes })
    }

    /// The first route for a path that serves WebSockets, or does not; with what its pattern has
    /// captured.
    pub(crate) fn route(&self, path: &str, websocket: bool) -> Option<(&Route, Captures)> {
        self.routes
            .iter()
            .filter(|(_, route)| route.serves_websockets() == websocket)
            .find_map(|(regex, route)| {
                let found = regex.captures(path)?;
                // The leftmost match begins behind the start only if none begins there.
                (found.get(0)?.start() == 0).then(|| (route, Captures::new(regex, &found)))
            })
    }
}

impl Application for Resource {
    fn call(&self, environ: &mut Environ, start_response: StartResponse<'_>) -> Result<Body> {
        let ws = environ.websocket();
        let found = self.route(&environ.path(), ws.is_some());
        let Some((route, captures)) = found else {
            if let Some(ws) = ws {
                ws.close(CloseCode::POLICY_VIOLATION, "nothing is served here")?;
                return Ok(Body::empty());
            }
            start_response(
                "404 Not Found",
                &[("Content-Type", "text/plain; charset=utf-8")],
            )?;
            return Ok(NOT_FOUND.into());
        };
        match &route.kind {
            Kind::Application(app) | Kind::Blocking(app) => {
                environ.insert(captures);
                app.call(environ, start_response)
            }
            Kind::WebSocket(factory) => {
                if let Some(client) = environ.active_client() {
                    let app = factory(&Opening { environ, captures });
                    session::serve(app, &client)?;
                }
                Ok(Body::empty())
            }
        }
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

/// The body of a 404.
pub(crate) const NOT_FOUND: &str = "nothing is served here\n";

impl Route {
    /// WebSockets, each served by an application of its own, which `factory` makes when the
    /// connection has been accepted. It is called in a greenlet and may block. If it panics, the
    /// connection is closed with 1011.
    pub fn websocket<A: WebSocketApplication>(
        factory: impl Fn(&Opening<'_>) -> A + Send + Sync + 'static,
    ) -> Route {
        let name = A::protocol_name();
        let subprotocols = if name.is_empty() {
            Vec::new()
        } else {
            vec![name]
        };
        let factory = move |opening: &Opening<'_>| {
            Box::new(factory(opening)) as Box<dyn WebSocketApplication>
        };
        Route::new(Kind::WebSocket(Box::new(factory))).subprotocols(subprotocols)
    }

    /// Requests for no WebSocket.
    pub fn application(app: impl Application) -> Route {
        Route::new(Kind::Application(Box::new(app)))
    }

    /// WebSockets in the blocking style: the application finds the connection in its environ
    /// ([`WebSocketEnviron::websocket`]) and keeps its greenlet until it returns.
    pub fn blocking(app: impl Application) -> Route {
        Route::new(Kind::Blocking(Box::new(app)))
    }

    fn new(kind: Kind) -> Route {
        Route {
            kind,
            subprotocols: Vec::new(),
        }
    }

    /// The subprotocols that are spoken here, of which the client's favourite is agreed on.
    /// Default: [`WebSocketApplication::protocol_name`]; if there is none, those of the
    /// [handler](crate::WebSocketHandler::subprotocols).
    ///
    /// # Panics
    ///
    /// If one is not a token (RFC 9110, 5.6.2): it could never be agreed on.
    #[must_use]
    pub fn subprotocols<S: Into<String>>(
        mut self,
        subprotocols: impl IntoIterator<Item = S>,
    ) -> Route {
        self.subprotocols = tokens(subprotocols);
        self
    }

    fn serves_websockets(&self) -> bool {
        !matches!(self.kind, Kind::Application(_))
    }

    pub(crate) fn own_subprotocols(&self) -> &[Box<str>] {
        &self.subprotocols
    }

    /// Makes the application for a WebSocket; none in the blocking style.
    pub(crate) fn make(
        &self,
        environ: &Environ,
        captures: Captures,
    ) -> Option<Box<dyn WebSocketApplication>> {
        match &self.kind {
            Kind::WebSocket(factory) => Some(factory(&Opening { environ, captures })),
            _ => None,
        }
    }

    /// Whether connections are served by a [`WebSocketApplication`].
    pub(crate) fn has_callbacks(&self) -> bool {
        matches!(self.kind, Kind::WebSocket(_))
    }
}

impl<'a> Opening<'a> {
    /// The request.
    pub fn environ(&self) -> &'a Environ {
        self.environ
    }

    /// What a group of the path's pattern has matched, by its number from 1; 0 is the whole match.
    /// None if there is no such group or it took no part.
    pub fn group(&self, number: usize) -> Option<&str> {
        self.captures.group(number)
    }

    /// What a named group of the path's pattern has matched.
    pub fn name(&self, name: &str) -> Option<&str> {
        self.captures.name(name)
    }
}

impl Captures {
    fn new(regex: &Regex, found: &regex_lite::Captures<'_>) -> Captures {
        let groups = found
            .iter()
            .map(|group| group.map(|group| group.as_str().into()))
            .collect();
        let named = |(number, name): (usize, Option<&str>)| Some((name?.into(), number));
        let names = regex.capture_names().enumerate().filter_map(named);
        Captures {
            groups,
            names: names.collect(),
        }
    }

    /// What a group has matched, by its number from 1; 0 is the whole match. None if there is no
    /// such group or it took no part.
    pub fn group(&self, number: usize) -> Option<&str> {
        self.groups.get(number)?.as_deref()
    }

    /// What a named group has matched.
    pub fn name(&self, name: &str) -> Option<&str> {
        let (_, number) = self.names.iter().find(|(known, _)| **known == *name)?;
        self.group(*number)
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Application(_) => "application",
            Kind::Blocking(_) => "blocking",
            Kind::WebSocket(_) => "websocket",
        };
        f.debug_struct("Route")
            .field("kind", &kind)
            .field("subprotocols", &self.subprotocols)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the path {:?} is no regular expression: {}",
            self.pattern, self.source
        )
    }
}

impl std::error::Error for PatternError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}
