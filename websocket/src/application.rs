//! [`WebSocketApplication`], and the [`Protocol`] that may stand between it and the connection.

use std::fmt;

use greenwood_wsgi::Result;

use crate::clients::Client;
use crate::proto::{Disconnect, Message};

/// What is done with one connection, in callbacks: gevent-websocket's `WebSocketApplication`.
///
/// Each connection has a value of its own, made by the [`Route`](crate::Route) of its path. The
/// callbacks of one connection come one after the other, never two at a time; those of different
/// connections may. A callback may block: nobody else is held up. Between messages the connection
/// has no greenlet, so what a callback needs to keep, it keeps in `self`; and what greenlet it runs
/// in changes from one callback to the next.
///
/// An error that a callback returns, and a panic, close the connection with 1011 and are logged.
/// What a [`WebSocket`](crate::WebSocket) has told it, that it is closed or has broken, is no
/// failure of the application's own: a callback may pass it on with `?`, and the end comes (or, if
/// it was about another connection, does not).
///
/// ```
/// use greenwood_websocket::{Client, Disconnect, Message, WebSocketApplication};
/// use greenwood_wsgi::Result;
///
/// struct Counter {
///     received: usize,
/// }
///
/// impl WebSocketApplication for Counter {
///     fn on_message(&mut self, client: &Client, message: Message) -> Result<()> {
///         self.received += message.len();
///         client.send(format!("{} bytes so far", self.received))?;
///         Ok(())
///     }
///
///     fn on_close(&mut self, client: &Client, reason: &Disconnect) {
///         println!("{} has left: {reason}", client.address());
///     }
/// }
/// ```
pub trait WebSocketApplication: Send + 'static {
    /// The subprotocol that it speaks, agreed on if the client offers it; empty: none in
    /// particular. gevent-websocket's `protocol_name`.
    /// [`Route::subprotocols`](crate::Route::subprotocols) goes before it.
    fn protocol_name() -> &'static str
    where
        Self: Sized,
    {
        ""
    }

    /// The connection is open. Default: nothing.
    ///
    /// # Errors
    ///
    /// Any: the connection is closed with 1011.
    fn on_open(&mut self, client: &Client) -> Result<()> {
        let _ = client;
        Ok(())
    }

    /// A message has come. Default: it is sent back, as by gevent-websocket.
    ///
    /// # Errors
    ///
    /// Any: the connection is closed with 1011.
    fn on_message(&mut self, client: &Client, message: Message) -> Result<()> {
        client.send(message)?;
        Ok(())
    }

    /// The connection has ended, and why. Called exactly once if [`on_open`](Self::on_open) was,
    /// whatever became of that: after a closing handshake, an error, a kill, a time-out, the loss
    /// of the connection. Default: nothing.
    fn on_close(&mut self, client: &Client, reason: &Disconnect) {
        let _ = (client, reason);
    }
}

impl WebSocketApplication for Box<dyn WebSocketApplication> {
    fn on_open(&mut self, client: &Client) -> Result<()> {
        (**self).on_open(client)
    }

    fn on_message(&mut self, client: &Client, message: Message) -> Result<()> {
        (**self).on_message(client, message)
    }

    fn on_close(&mut self, client: &Client, reason: &Disconnect) {
        (**self).on_close(client, reason)
    }
}

/// What stands between a connection and an application of type `A`, and gives the messages a form:
/// gevent-websocket's `BaseProtocol` and what is derived from it.
///
/// A protocol decodes what comes and calls the application with it, by whatever methods it asks of
/// its applications, and encodes what they want to send. [`Coupled`] joins the two.
///
/// gevent-websocket has one protocol beside the base, WAMP in its version 1. It is left out here:
/// WAMP has had an incompatible version 2 since 2014, and nobody speaks the first any more.
///
/// ```
/// use greenwood_websocket::{Client, Coupled, Message, Protocol, Route};
/// use greenwood_wsgi::Result;
///
/// /// Messages of fields with commas between.
/// struct Fields;
///
/// /// What it asks of its applications.
/// trait Table: Send + 'static {
///     fn on_row(&mut self, row: &[&str]) -> Vec<String>;
/// }
///
/// impl<A: Table> Protocol<A> for Fields {
///     const PROTOCOL_NAME: &'static str = "fields";
///
///     fn on_message(&mut self, app: &mut A, client: &Client, message: Message) -> Result<()> {
///         let text = message.as_text().ok_or("fields are text")?;
///         let row: Vec<&str> = text.split(',').collect();
///         client.send(app.on_row(&row).join(","))?;
///         Ok(())
///     }
/// }
///
/// struct Upper;
///
/// impl Table for Upper {
///     fn on_row(&mut self, row: &[&str]) -> Vec<String> {
///         row.iter().map(|field| field.to_uppercase()).collect()
///     }
/// }
///
/// let route = Route::websocket(|_| Coupled::new(Fields, Upper));
/// ```
pub trait Protocol<A>: Send + 'static {
    /// The subprotocol's name, agreed on if the client offers it; empty: none.
    const PROTOCOL_NAME: &'static str = "";

    /// The connection is open. Default: nothing.
    ///
    /// # Errors
    ///
    /// As [`WebSocketApplication::on_open`].
    fn on_open(&mut self, app: &mut A, client: &Client) -> Result<()> {
        let _ = (app, client);
        Ok(())
    }

    /// A message has come.
    ///
    /// # Errors
    ///
    /// As [`WebSocketApplication::on_message`].
    fn on_message(&mut self, app: &mut A, client: &Client, message: Message) -> Result<()>;

    /// The connection has ended. Default: nothing.
    fn on_close(&mut self, app: &mut A, client: &Client, reason: &Disconnect) {
        let _ = (app, client, reason);
    }
}

/// The protocol that adds nothing: messages reach the application as they are. For protocols that
/// are built on it.
#[derive(Debug, Clone, Copy, Default)]
pub struct BaseProtocol;

impl<A: WebSocketApplication> Protocol<A> for BaseProtocol {
    fn on_open(&mut self, app: &mut A, client: &Client) -> Result<()> {
        app.on_open(client)
    }

    fn on_message(&mut self, app: &mut A, client: &Client, message: Message) -> Result<()> {
        app.on_message(client, message)
    }

    fn on_close(&mut self, app: &mut A, client: &Client, reason: &Disconnect) {
        app.on_close(client, reason);
    }
}

/// An application with the [`Protocol`] that it speaks: together they are a
/// [`WebSocketApplication`].
pub struct Coupled<P, A> {
    protocol: P,
    app: A,
}

impl<P: Protocol<A>, A: Send + 'static> Coupled<P, A> {
    /// Has `app` speak `protocol`.
    pub fn new(protocol: P, app: A) -> Coupled<P, A> {
        Coupled { protocol, app }
    }
}

impl<P: Protocol<A>, A: Send + 'static> WebSocketApplication for Coupled<P, A> {
    fn protocol_name() -> &'static str {
        P::PROTOCOL_NAME
    }

    fn on_open(&mut self, client: &Client) -> Result<()> {
        self.protocol.on_open(&mut self.app, client)
    }

    fn on_message(&mut self, client: &Client, message: Message) -> Result<()> {
        self.protocol.on_message(&mut self.app, client, message)
    }

    fn on_close(&mut self, client: &Client, reason: &Disconnect) {
        self.protocol.on_close(&mut self.app, client, reason);
    }
}

impl<P, A> fmt::Debug for Coupled<P, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coupled").finish_non_exhaustive()
    }
}
