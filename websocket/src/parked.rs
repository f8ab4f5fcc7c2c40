//! [`Parked`]: a connection that is served by callbacks, without a greenlet between messages.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use greenwood_runtime as runtime;
use greenwood_wsgi::{OnStop, Tenure};
use runtime::net::parking::{self, Burst, Place, Then, Unparked};
use runtime::{Current, Detached};

use crate::application::WebSocketApplication;
use crate::clients::Entered;
use crate::connection::{Connection, Next, Unwaited};
use crate::proto::CloseCode;
use crate::session::{Outcome, Session};

/// A connection that is served by callbacks.
pub(crate) struct Parked {
    reach: Arc<Reach>,
    /// The connection's place of the receiver is kept between the calls.
    holds: bool,
    /// None once it is over.
    service: Option<Service>,
}

/// What a connection has as long as it is served.
struct Service {
    session: Session,
    entered: Entered,
    tenure: Tenure,
    on_stop: OnStop,
}

/// What the server reaches of a connection that it serves.
struct Reach {
    connection: Arc<Connection>,
    place: Arc<Place>,
    /// The server's stop has run out of patience.
    killed: AtomicBool,
    /// The greenlet that serves the connection after all.
    stayed: OnceLock<Current>,
}

impl Parked {
    /// Calls `on_open` and parks the connection. Where it can't be parked, the calling greenlet
    /// serves it to its end.
    pub(crate) fn serve(
        app: Box<dyn WebSocketApplication>,
        entered: Entered,
        tenure: Tenure,
        on_stop: OnStop,
    ) {
        let client = entered.client().clone();
        let connection = client.ws().connection();
        let mut service = Service {
            session: Session::new(app, client.clone()),
            entered,
            tenure,
            on_stop,
        };
        if let Some(outcome) = service.session.open() {
            return service.end(outcome);
        }
        let place = match connection.reserve_place() {
            Ok(place) => place,
            Err(error) => {
                tracing::warn!("a websocket keeps its greenlet: {error}");
                return service.stay();
            }
        };
        let holds = connection.hold_for_parked();
        let reach = Arc::new(Reach {
            connection: Arc::clone(connection),
            place: Arc::clone(&place),
            killed: AtomicBool::new(false),
            stayed: OnceLock::new(),
        });
        service.tenure.detach(Arc::clone(&reach) as Arc<_>);
        let has_rest = connection.has_rest();
        let parked = Box::new(Parked {
            reach,
            holds,
            service: Some(service),
        });
        if let Err(Unparked { error, parked }) = place.park(parked) {
            tracing::warn!("a websocket keeps its greenlet: {error}");
            return parked.stay();
        }
        // Looked at after the place was taken: who ends the connection later wakes who has it.
        if has_rest || !holds || connection.is_finished() {
            // What came behind the handshake is no event of the socket's; the one who has the place
            // of the receiver may have left it before there was anybody to call; and `on_open`, or
            // somebody meanwhile, may have brought the connection to its end already.
            connection.call_parked();
        }
    }

    /// Serves the connection on the calling greenlet, to which the server is to turn from now on.
    fn stay(self) {
        let Parked {
            reach,
            holds,
            service,
        } = self;
        let connection = &reach.connection;
        connection.leave_place();
        // Gives the place of the receiver back.
        drop(Unwaited::begin(connection, holds, false));
        reach.stay();
        if let Some(service) = service {
            service.stay();
        }
    }
}

impl parking::Parked for Parked {
    fn ready(&mut self, burst: &Burst) -> Then {
        let Parked {
            reach,
            holds,
            service,
        } = self;
        let Some(serving) = service else {
            return Then::Wait;
        };
        let mut input = Unwaited::begin(&reach.connection, mem::take(holds), burst.is_closed());
        // A kill may come where a pong waits for the peer, too.
        let served = catch_unwind(AssertUnwindSafe(|| {
            serving.serve(&mut input, burst, &reach.killed)
        }));
        let outcome = match served {
            Ok(Ok(then)) => {
                *holds = input.keep();
                return then;
            }
            Ok(Err(outcome)) => outcome,
            Err(payload) => Outcome::Unwound(payload),
        };
        drop(input);
        if let Some(service) = service.take() {
            service.end(outcome);
        }
        Then::Wait
    }
}

impl Reach {
    /// Has the calling greenlet killed by the server from now on.
    fn stay(&self) {
        let Some(current) = runtime::getcurrent() else {
            return;
        };
        let current = self.stayed.get_or_init(|| current);
        // Set before this is looked at: one of the two sees the other.
        if self.killed.load(Ordering::SeqCst) {
            // Met again at the next blocking call, by who tells the application.
            drop(catch_unwind(AssertUnwindSafe(|| current.kill_nowait())));
        }
    }
}

impl Detached for Reach {
    fn kill(&self) {
        self.killed.store(true, Ordering::SeqCst);
        // Who shuts down a socket is heard of by whoever waits for it.
        self.connection.abandon(CloseCode::GOING_AWAY);
        self.place.kill();
        if let Some(stayed) = self.stayed.get() {
            stayed.kill_nowait();
        }
    }

    fn is_current(&self) -> bool {
        let stayed = self.stayed.get().map(Current::id);
        self.place.is_current() || stayed.is_some() && stayed == runtime::current_id()
    }
}

impl Service {
    /// Calls the application with what there is to receive.
    ///
    /// # Errors
    ///
    /// How the session has ended. It may also unwind, as the application does.
    #[inline]
    fn serve(
        &mut self,
        input: &mut Unwaited<'_>,
        burst: &Burst,
        killed: &AtomicBool,
    ) -> Result<Then, Outcome> {
        loop {
            match input.next() {
                Next::Message(_) if killed.load(Ordering::Relaxed) => return Err(Outcome::Ended),
                Next::Message(message) => self.session.give(message).map_err(Outcome::Failed)?,
                Next::Nothing => return Ok(Then::Wait),
                Next::Later => return Ok(Then::Again),
                Next::End => return Err(Outcome::Ended),
            }
            if !input.is_used_up() && !burst.may_go_on() {
                return Ok(Then::Again);
            }
        }
    }

    /// Serves the connection on the calling greenlet.
    fn stay(mut self) {
        let outcome = self.session.receive_all();
        self.end(outcome);
    }

    /// Ends the connection, and all that there is of it.
    fn end(self, outcome: Outcome) {
        let Service {
            session,
            entered,
            tenure,
            on_stop,
        } = self;
        match session.conclude(outcome) {
            Outcome::Ended => {}
            Outcome::Failed(error) => tenure.failed(&error),
            Outcome::Unwound(payload) => tenure.unwound(payload),
        }
        drop(on_stop);
        let connection = entered.client().ws().connection();
        // The greenlet may be killed while it waits for the peer.
        let finished = catch_unwind(AssertUnwindSafe(|| connection.finish()));
        connection.abandon(CloseCode::GOING_AWAY);
        connection.leave_place();
        if let Err(payload) = finished {
            tenure.unwound(payload);
        }
    }
}
