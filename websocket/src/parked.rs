//! [`Parked`]: a connection that is served by callbacks, without a greenlet between messages.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use greenwood_runtime as runtime;
use greenwood_wsgi::{OnStop, Tenure};
use parking_lot::Mutex;
use runtime::Detached;
use runtime::net::parking::{self, Burst, Place, Then};

use crate::application::WebSocketApplication;
use crate::clients::Entered;
use crate::connection::{Connection, Next, Unwaited};
use crate::proto::CloseCode;
use crate::session::{Outcome, Session};

pub(crate) struct Parked {
    connection: Arc<Connection>,
    place: Arc<Place>,
    /// The server's stop has run out of patience.
    killed: AtomicBool,
    /// The connection's place of the receiver is kept between the calls.
    holds: AtomicBool,
    /// Taken out while it is used, so that no lock is held then.
    service: Mutex<Option<Box<Service>>>,
}

/// What a connection has as long as it is served.
struct Service {
    session: Session,
    entered: Entered,
    tenure: Tenure,
    on_stop: OnStop,
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
        let mut service = Box::new(Service {
            session: Session::new(app, client.clone()),
            entered,
            tenure,
            on_stop,
        });
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
        let parked = Arc::new(Parked {
            connection: Arc::clone(connection),
            place,
            killed: AtomicBool::new(false),
            holds: AtomicBool::new(holds),
            service: Mutex::new(None),
        });
        service.tenure.detach(Arc::clone(&parked) as Arc<_>);
        *parked.service.lock() = Some(service);
        let has_rest = connection.has_rest();
        if let Err(error) = parked.place.park(Arc::clone(&parked) as Arc<_>) {
            tracing::warn!("a websocket keeps its greenlet: {error}");
            let service = parked.service.lock().take();
            if let Some(service) = service {
                // Gives the place of the receiver back.
                drop(Unwaited::begin(connection, holds, false));
                service.stay();
            }
            return;
        }
        // Looked at after the place was taken: who ends the connection later wakes who has it.
        if has_rest || !holds || connection.is_finished() {
            // What came behind the handshake is no event of the socket's; the one who has the place
            // of the receiver may have left it before there was anybody to call; and `on_open`, or
            // somebody meanwhile, may have brought the connection to its end already.
            connection.call_parked();
        }
    }
}

impl parking::Parked for Parked {
    fn ready(&self, burst: &Burst) -> Then {
        let Some(mut service) = self.service.lock().take() else {
            return Then::Wait;
        };
        let holds = self.holds.swap(false, Ordering::Relaxed);
        let mut input = Unwaited::begin(&self.connection, holds, burst.is_closed());
        let then = loop {
            // A kill may come where a pong waits for the peer.
            let outcome = match catch_unwind(AssertUnwindSafe(|| input.next())) {
                Ok(Next::Message(_)) if self.killed.load(Ordering::Relaxed) => Some(Outcome::Ended),
                Ok(Next::Message(message)) => service.session.message(message),
                Ok(Next::Nothing) => break Then::Wait,
                Ok(Next::Later) => break Then::Again,
                Ok(Next::End) => Some(Outcome::Ended),
                Err(payload) => Some(Outcome::Unwound(payload)),
            };
            if let Some(outcome) = outcome {
                drop(input);
                service.end(outcome);
                return Then::Wait;
            }
            if !burst.may_go_on() {
                break Then::Again;
            }
        };
        self.holds.store(input.keep(), Ordering::Relaxed);
        *self.service.lock() = Some(service);
        then
    }
}

impl Detached for Parked {
    fn kill(&self) {
        self.killed.store(true, Ordering::Relaxed);
        // Who shuts down a socket is heard of by whoever waits for it.
        self.connection.abandon(CloseCode::GOING_AWAY);
        self.place.kill();
    }

    fn is_current(&self) -> bool {
        self.place.is_current()
    }
}

impl Service {
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
