//! What happens between a request and the application.

use std::sync::Arc;

use crate::{Application, Exchange, Result};

/// Serves the requests of a server, as pywsgi's `handler_class` does: it decides whether the
/// application is called, with what, and what becomes of the connection.
///
/// ```
/// use greenwood_wsgi::{Application, Exchange, Handler, Result};
///
/// /// Keeps visitors out of `/private`.
/// struct Guard;
///
/// impl Handler for Guard {
///     fn handle(&self, exchange: &mut Exchange<'_>, app: &dyn Application) -> Result<()> {
///         if exchange.environ().path().starts_with("/private") {
///             return exchange.respond("403 Forbidden", &[], "go away\n");
///         }
///         exchange.run(app)
///     }
/// }
/// ```
pub trait Handler: Send + Sync + 'static {
    /// Handles one request. By its end the exchange has been answered or upgraded.
    ///
    /// # Errors
    ///
    /// Any. As long as nothing was sent the server answers with the error's
    /// [`status_hint`](crate::Error::status_hint); in any case it closes the connection and logs
    /// the error. The same goes for a panic (500), and for no answer at all (500). After an upgrade
    /// errors are only logged.
    fn handle(&self, exchange: &mut Exchange<'_>, app: &dyn Application) -> Result<()>;
}

/// The default handler: calls the application for every request.
#[derive(Clone, Copy, Debug, Default)]
pub struct HttpHandler;

impl Handler for HttpHandler {
    fn handle(&self, exchange: &mut Exchange<'_>, app: &dyn Application) -> Result<()> {
        exchange.run(app)
    }
}

impl<H: Handler + ?Sized> Handler for Arc<H> {
    fn handle(&self, exchange: &mut Exchange<'_>, app: &dyn Application) -> Result<()> {
        (**self).handle(exchange, app)
    }
}
