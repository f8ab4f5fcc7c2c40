//! [`Session`]: a [`WebSocketApplication`] and the connection that it serves.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use greenwood_wsgi::{Error, Result};

use crate::application::WebSocketApplication;
use crate::clients::Client;
use crate::error::WebSocketError;
use crate::proto::{CloseCode, Disconnect, Message};

/// An application from its `on_open` to its `on_close`.
pub(crate) struct Session {
    app: Box<dyn WebSocketApplication>,
    client: Client,
}

/// How a session ended.
pub(crate) enum Outcome {
    /// With the connection.
    Ended,
    /// A callback failed.
    Failed(Error),
    /// A callback panicked, was killed, or let a time-out pass.
    Unwound(Box<dyn Any + Send>),
}

/// Serves a connection by callbacks on the calling greenlet.
pub(crate) fn serve(app: Box<dyn WebSocketApplication>, client: &Client) -> Result<()> {
    let mut session = Session::new(app, client.clone());
    let outcome = session.open();
    let outcome = outcome.unwrap_or_else(|| session.receive_all());
    match session.conclude(outcome) {
        Outcome::Ended => Ok(()),
        Outcome::Failed(error) => Err(error),
        Outcome::Unwound(payload) => resume_unwind(payload),
    }
}

impl Session {
    pub(crate) fn new(app: Box<dyn WebSocketApplication>, client: Client) -> Session {
        Session { app, client }
    }

    /// Calls `on_open`; an outcome if that is the end.
    pub(crate) fn open(&mut self) -> Option<Outcome> {
        let Session { app, client } = self;
        call(|| app.on_open(client))
    }

    /// Calls `on_message`, and lets it unwind.
    ///
    /// # Errors
    ///
    /// What it has failed with, unless that is the connection's end, which is noticed in its turn;
    /// or another one's.
    #[inline]
    pub(crate) fn give(&mut self, message: Message) -> Result<()> {
        match self.app.on_message(&self.client, message) {
            Err(error) if !is_about_connection(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Waits for messages, and calls `on_message` for each.
    pub(crate) fn receive_all(&mut self) -> Outcome {
        loop {
            // A kill reaches the greenlet here: the application is still to learn of the end.
            let received = catch_unwind(AssertUnwindSafe(|| self.client.ws().receive()));
            let outcome = match received {
                Ok(Ok(Some(message))) => call(|| self.give(message)),
                Ok(Err(error @ WebSocketError::Wait(_))) => Some(Outcome::Failed(error.into())),
                Ok(Ok(None) | Err(_)) => Some(Outcome::Ended),
                Err(payload) => Some(Outcome::Unwound(payload)),
            };
            if let Some(outcome) = outcome {
                return outcome;
            }
        }
    }

    /// Ends the connection as the outcome demands, without waiting for the peer, and calls
    /// `on_close`. Returns the outcome, or what went wrong in that.
    pub(crate) fn conclude(self, outcome: Outcome) -> Outcome {
        let Session { mut app, client } = self;
        let connection = client.ws().connection();
        match &outcome {
            Outcome::Unwound(payload) if greenwood_runtime::is_kill(&**payload) => {
                connection.abandon(CloseCode::GOING_AWAY);
            }
            Outcome::Unwound(_) | Outcome::Failed(_) => {
                connection.fail(Disconnect::ApplicationError);
            }
            Outcome::Ended => {}
        }
        // `on_close` may take its time: the peer need not wait for it.
        connection.end_sending();
        client.leave();
        let reason = connection.disconnect().unwrap_or(Disconnect::TransportEnd);
        let closed = call(|| {
            app.on_close(&client, &reason);
            // Its destructor is the user's too.
            drop(app);
            Ok(())
        });
        match (outcome, closed) {
            (Outcome::Ended, Some(closed)) => closed,
            (outcome, _) => outcome,
        }
    }
}

#[inline]
fn call(callback: impl FnOnce() -> Result<()>) -> Option<Outcome> {
    match catch_unwind(AssertUnwindSafe(callback)) {
        Ok(Ok(())) => None,
        // The connection has ended, and that is noticed in its turn; or another one has.
        Ok(Err(error)) if is_about_connection(&error) => None,
        Ok(Err(error)) => Some(Outcome::Failed(error)),
        Err(payload) => Some(Outcome::Unwound(payload)),
    }
}

/// Whether an application ended with what a connection itself had told it: no failure of its own.
pub(crate) fn is_about_connection(error: &Error) -> bool {
    let Error::Application(error) = error else {
        return false;
    };
    matches!(
        error.downcast_ref::<WebSocketError>(),
        Some(WebSocketError::Closed | WebSocketError::Disconnected(_))
    )
}
