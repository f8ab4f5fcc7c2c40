//! One request and its response.

use std::{
    any::Any,
    fmt,
    mem::ManuallyDrop,
    panic::{self, AssertUnwindSafe},
    sync::Arc,
};

use greenwood_runtime::{Detached, Seat, net::Stream};

use crate::{
    Application, Body, Environ, Error, OnStop, Result,
    connection::{Connection, take_out},
    log::{self, Access, Peer},
    options::Shared,
    pace::Pace,
    proto::{ApplicationFault, reason_phrase},
    registry::Registry,
    writer::{ResponseWriter, Terms},
};

/// One request and its response, as a [`Handler`](crate::Handler) gets it.
pub struct Exchange<'s> {
    shared: &'s Arc<Shared>,
    environ: Environ,
    response: ResponseWriter,
    /// Given away by an upgrade.
    connection: Option<Connection>,
    access: Option<Access>,
    successor: Option<Successor>,
}

/// Who goes on with an upgraded connection.
enum Successor {
    /// On the connection's greenlet, to the end.
    Staying(Box<dyn Staying>),
    /// It may go on after it has returned.
    Leaving(Box<Leaving>),
}

trait Staying {
    fn go_on(self: Box<Self>, environ: &mut Environ, app: &dyn Application) -> Result<()>;
}

impl<F: FnOnce(&mut Environ, &dyn Application) -> Result<()>> Staying for F {
    fn go_on(self: Box<Self>, environ: &mut Environ, app: &dyn Application) -> Result<()> {
        // A boxed closure that is called where it is would keep its memory until it returns.
        take_out(self)(environ, app)
    }
}

type Leaving = dyn FnOnce(&mut Environ, &dyn Application, Tenure) -> Result<()>;

/// The place among a server's connections of one that was upgraded: from
/// [`Exchange::hand_over_tenure`]. As long as it is there, the connection counts as served, and the
/// server's stop waits for it.
#[derive(Debug)]
pub struct Tenure {
    seat: Seat,
    registry: Arc<Registry>,
    peer: Peer,
    line: Box<[u8]>,
}

impl Tenure {
    /// Says that the connection goes on without the greenlet that it began with. When the server
    /// stops and the time to finish is over, it is ended by [`Detached::kill`].
    pub fn detach(&self, detached: Arc<dyn Detached>) {
        self.seat.detach(detached);
    }

    /// As [`Exchange::on_stop`].
    pub fn on_stop(&self, callback: impl FnOnce() + Send + 'static) -> OnStop {
        self.registry.on_stop(Box::new(callback))
    }

    /// Logs an error as that of a handler is logged.
    pub fn failed(&self, error: &Error) {
        log::failure(error, false, &self.line, self.peer);
    }

    /// Logs what somebody was unwound with, as for a handler, and drops it.
    pub fn unwound(&self, payload: Box<dyn Any + Send>) {
        log::unwound(&*payload, &self.line, self.peer);
        drop_payload(payload);
    }
}

/// What is left of an exchange that was upgraded: who goes on, and the request.
pub(crate) struct Continuation {
    successor: Option<Successor>,
    environ: Environ,
    registry: Arc<Registry>,
}

/// A connection that HTTP has let go of.
#[non_exhaustive]
#[derive(Debug)]
pub struct Upgraded {
    /// The connection. Its read and write time-outs are none. Dropping its last clone closes it.
    pub stream: Stream,
    /// Bytes that were received behind the request: they come before what the stream will read.
    pub leftover: Vec<u8>,
}

/// How an exchange left its connection.
pub(crate) enum Ended {
    /// It can be used again; it may have received more already.
    Persistent(Connection),
    /// It has to be closed. The peer may still be sending.
    Close(Connection),
    /// A response was broken off, and the connection closed so that the peer notices.
    Cut,
    /// It belongs to somebody else, who may be still to be called.
    Upgraded(Option<Box<Continuation>>),
}

impl<'s> Exchange<'s> {
    pub(crate) fn new(
        shared: &'s Arc<Shared>,
        environ: Environ,
        connection: Connection,
        access: Option<Access>,
    ) -> Self {
        let response = ResponseWriter::new(
            connection.stream.clone(),
            environ.head(),
            Pace::new(shared.write_timeout, shared.min_data_rate),
            environ.too_late_to_continue(),
        );
        Self {
            shared,
            environ,
            response,
            connection: Some(connection),
            access,
            successor: None,
        }
    }

    /// The request.
    pub fn environ(&self) -> &Environ {
        &self.environ
    }

    /// The request, to be read from or added to.
    pub fn environ_mut(&mut self) -> &mut Environ {
        &mut self.environ
    }

    /// Calls the application and sends its response.
    ///
    /// # Errors
    ///
    /// The application's, and those of sending. A handler passes them on; an error of the call
    /// itself it may also answer in its own way, by [`respond`](Self::respond).
    pub fn run(&mut self, app: &dyn Application) -> Result<()> {
        let Self {
            environ, response, ..
        } = self;
        let body = app.call(environ, &mut |status, headers| {
            response.start(status, headers)
        })?;
        self.send(body)
    }

    /// Sends a response without the application.
    ///
    /// # Errors
    ///
    /// A status or header that cannot be sent, a response that was sent already, an upgraded
    /// connection, and errors of sending.
    pub fn respond(
        &mut self,
        status: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Result<()> {
        self.response.start(status, headers)?;
        self.send(body.into())
    }

    /// Sends `101 Switching Protocols` with the given headers, `Upgrade` and `Connection` among
    /// them, and gives the connection away. HTTP does not touch it again, but the environ stays,
    /// so that the handler can still call the application.
    ///
    /// An unread body is read to its end and dropped first; the environ's input is at its end from
    /// then on. The access log line is written now, with status 101.
    ///
    /// # Errors
    ///
    /// A header that cannot be sent, a response that was sent already, what reading the body fails
    /// with (413 for one of more than [`Limits::max_discard`](crate::proto::Limits::max_discard)),
    /// and errors of sending.
    pub fn upgrade(&mut self, headers: &[(&str, &str)]) -> Result<Upgraded> {
        if self.is_upgraded()
            || self.response.encoder().head_written()
            || !self.response.is_replaceable()
        {
            return Err(Error::Http(ApplicationFault::HeadSent.into()));
        }
        // RFC 9110 section 7.8: the whole request comes before the new protocol.
        self.environ.input().drain(self.shared.limits.max_discard)?;
        self.response.upgrade(headers)?;
        self.log(101);
        let leftover = self.environ.input().release().to_vec();
        // Its place among those that a stop finds idle goes with it.
        let Some(Connection { stream, .. }) = self.connection.take() else {
            return Err(Error::Http(ApplicationFault::HeadSent.into()));
        };
        stream.set_read_timeout(None)?;
        stream.set_write_timeout(None)?;
        Ok(Upgraded { stream, leftover })
    }

    /// Has `successor` go on with the connection that an [`upgrade`](Self::upgrade) gave away: it
    /// is called after the handler has returned, with the environ and the application. By then
    /// nothing of HTTP is left on the greenlet's stack, so a connection that lives long takes
    /// little memory. Its errors and panics are logged as the handler's are.
    ///
    /// Without an upgrade, or when the handler fails, it is dropped.
    pub fn hand_over(
        &mut self,
        successor: impl FnOnce(&mut Environ, &dyn Application) -> Result<()> + 'static,
    ) {
        self.successor = Some(Successor::Staying(Box::new(successor)));
    }

    /// As [`hand_over`](Self::hand_over), for a connection that may go on after `successor` has
    /// returned, without a greenlet: as long as the [`Tenure`] that it is given is kept.
    pub fn hand_over_tenure(
        &mut self,
        successor: impl FnOnce(&mut Environ, &dyn Application, Tenure) -> Result<()> + 'static,
    ) {
        self.successor = Some(Successor::Leaving(Box::new(successor)));
    }

    /// Has `callback` called when the server is being stopped, before the connections' time to
    /// finish begins; at once if it is being stopped already. Once only, and not any more after
    /// the returned guard was dropped.
    ///
    /// It is called on the greenlet or thread that stops the server, one callback after the other,
    /// so it should do no more than tell somebody.
    pub fn on_stop(&self, callback: impl FnOnce() + Send + 'static) -> OnStop {
        self.shared.registry.on_stop(Box::new(callback))
    }

    /// Whether the server is being stopped.
    pub fn is_stopping(&self) -> bool {
        self.shared.registry.is_stopping()
    }

    /// Whether [`upgrade`](Self::upgrade) gave the connection away.
    pub fn is_upgraded(&self) -> bool {
        self.connection.is_none()
    }

    /// Ends the exchange after the handler has returned.
    pub(crate) fn end(mut self, result: Result<()>) -> Ended {
        let result = match result {
            Ok(()) if self.is_upgraded() || self.response.encoder().is_finished() => Ok(()),
            Ok(()) => Err(Error::Http(ApplicationFault::NotStarted.into())),
            Err(error) => Err(error),
        };
        if let Err(error) = &result {
            let broken = self.response.is_broken() || self.environ.input().is_broken();
            log::failure(error, broken, self.line(), self.peer());
        }
        let successor = self.successor.take().filter(|_| result.is_ok());
        if self.is_upgraded()
            && let Some(successor) = successor
        {
            return Ended::Upgraded(Some(Box::new(Continuation {
                successor: Some(successor),
                environ: self.environ,
                registry: Arc::clone(&self.shared.registry),
            })));
        }
        self.settle(result)
    }

    /// Ends the exchange after the handler has panicked, was killed or let a time-out pass.
    pub(crate) fn end_unwound(self, payload: Box<dyn Any + Send>) -> Ended {
        log::unwound(&*payload, self.line(), self.peer());
        // Before there is anything that its destructor, if that panics too, could leak.
        drop_payload(payload);
        self.settle(Err(Error::application("panic")))
    }

    fn settle(mut self, result: Result<()>) -> Ended {
        let Some(mut connection) = self.connection.take() else {
            return Ended::Upgraded(None);
        };
        match result {
            Ok(()) => {
                // The response is out; what follows is not the request's time.
                self.log(self.response.encoder().status());
                self.persist(connection)
            }
            Err(error) if self.response.is_replaceable() => {
                let to_head = self.environ.head().method() == "HEAD";
                connection.unread = true;
                let ended = answer(&mut self.response, &error, to_head, self.shared, connection);
                self.log(self.response.encoder().status());
                ended
            }
            Err(_) => {
                self.log(self.response.encoder().status());
                Ended::Cut
            }
        }
    }

    /// Whether the connection can serve another request.
    fn persist(&mut self, mut connection: Connection) -> Ended {
        let max_discard = self.shared.limits.max_discard;
        let input = self.environ.input();
        // An input that somebody has exchanged says nothing about what is left of the body.
        let persists = self.response.encoder().keep_alive()
            && input.is_attached()
            && input.discard(max_discard);
        connection.unread = !input.is_done();
        connection.received = input.release();
        if persists {
            Ended::Persistent(connection)
        } else {
            Ended::Close(connection)
        }
    }

    fn peer(&self) -> Peer {
        self.environ.logged_peer()
    }

    fn line(&self) -> &[u8] {
        self.environ.head().request_line().as_bytes()
    }

    fn send(&mut self, body: Body) -> Result<()> {
        if self.is_upgraded() {
            return Err(Error::Http(ApplicationFault::HeadSent.into()));
        }
        let input = self.environ.input();
        let terms = Terms {
            server: &self.shared.server_header,
            // If the body cannot be got rid of, or nothing is known about it as somebody has
            // exchanged the input, better to say so.
            keep_alive: input.is_attached()
                && input.is_disposable(self.shared.limits.max_discard)
                && !self.shared.registry.is_stopping(),
        };
        self.response.respond(body, terms)
    }

    fn log(&mut self, status: u16) {
        if let Some(access) = self.access.take() {
            access.finish(self.peer(), self.line(), status, self.response.sent());
        }
    }
}

impl Continuation {
    /// Calls the successor.
    // What is on the stack here stays there as long as the connection lives, so all but the call is
    // done by other functions.
    pub(crate) fn run(&mut self, app: &dyn Application, seat: Seat) {
        match self.successor.take() {
            Some(Successor::Staying(successor)) => {
                // It gives up its seat at the end of all.
                let _seat = seat;
                let environ = &mut self.environ;
                let call = || successor.go_on(environ, app);
                let called = panic::catch_unwind(AssertUnwindSafe(call));
                self.conclude(called);
            }
            Some(Successor::Leaving(successor)) => self.leave(successor, app, seat),
            None => {}
        }
    }

    #[inline(never)]
    fn leave(&mut self, successor: Box<Leaving>, app: &dyn Application, seat: Seat) {
        let environ = &mut self.environ;
        let tenure = Tenure {
            seat,
            registry: Arc::clone(&self.registry),
            peer: environ.logged_peer(),
            line: environ.head().request_line().as_bytes().into(),
        };
        let call = || successor(environ, app, tenure);
        let called = panic::catch_unwind(AssertUnwindSafe(call));
        self.conclude(called);
    }

    #[inline(never)]
    fn conclude(&self, called: std::thread::Result<Result<()>>) {
        let line = self.environ.head().request_line().as_bytes();
        let peer = self.environ.logged_peer();
        match called {
            Ok(Ok(())) => {}
            Ok(Err(error)) => log::failure(&error, false, line, peer),
            Err(payload) => {
                log::unwound(&*payload, line, peer);
                drop_payload(payload);
            }
        }
    }
}

/// Answers with what an error hints at, and says how the connection is left.
pub(crate) fn answer(
    response: &mut ResponseWriter,
    error: &Error,
    to_head: bool,
    shared: &Shared,
    connection: Connection,
) -> Ended {
    let code = error.status_hint();
    let status = format!("{code} {}", reason_phrase(code));
    let terms = Terms {
        server: &shared.server_header,
        keep_alive: false,
    };
    match response.replace(&status, error.answer(), to_head, terms) {
        Ok(()) => Ended::Close(connection),
        Err(_) => Ended::Cut,
    }
}

/// Drops what somebody has panicked with. Its destructor may panic as well.
pub(crate) fn drop_payload(payload: Box<dyn Any + Send>) {
    if let Err(again) = panic::catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        // It is not worth a third try.
        let _leaked = ManuallyDrop::new(again);
    }
}

impl fmt::Debug for Exchange<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange")
            .field("environ", &self.environ)
            .field("upgraded", &self.is_upgraded())
            .finish_non_exhaustive()
    }
}
