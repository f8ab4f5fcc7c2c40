//! The WSGI call (PEP 3333).

use std::any::Any;
use std::sync::Arc;

use crate::{Body, Environ, Result};

/// What an application calls to begin its response: `start_response(status, headers)`.
///
/// The status is the code and a phrase, as `200 OK`. Until the first byte of the body is out it
/// may be called again, which replaces what was said before (PEP 3333's `exc_info`). It fails if
/// a header could not be sent as it is (see [`ApplicationFault`](crate::proto::ApplicationFault)).
pub type StartResponse<'a> = &'a mut dyn FnMut(&str, &[(&str, &str)]) -> Result<()>;

/// A WSGI application. Closures and functions of the same shape are applications:
///
/// ```
/// use greenwood_wsgi::{Application, Body, Environ, Result, StartResponse};
///
/// fn hello(environ: &mut Environ, start_response: StartResponse<'_>) -> Result<Body> {
///     start_response("200 OK", &[("Content-Type", "text/plain; charset=utf-8")])?;
///     Ok(format!("hello {}", environ.path()).into())
/// }
///
/// fn is_application(_: &impl Application) {}
/// is_application(&hello);
/// is_application(&|_: &mut Environ, start_response: StartResponse<'_>| {
///     start_response("204 No Content", &[])?;
///     Ok(Body::empty())
/// });
/// ```
///
/// It is called in the greenlet of the connection, from any number of connections at a time.
pub trait Application: Send + Sync + 'static {
    /// Answers one request: calls `start_response` and returns the body.
    ///
    /// # Errors
    ///
    /// Any; the server answers with [`Error::status_hint`](crate::Error::status_hint), closes the
    /// connection and logs it. A panic is taken the same way, as 500.
    fn call(&self, environ: &mut Environ, start_response: StartResponse<'_>) -> Result<Body>;

    /// The application itself, if a [`Handler`](crate::Handler) may know its type and offer it more
    /// than the call. Default: none.
    fn as_any(&self) -> Option<&dyn Any> {
        None
    }
}

impl<F> Application for F
where
    F: Fn(&mut Environ, StartResponse<'_>) -> Result<Body> + Send + Sync + 'static,
{
    fn call(&self, environ: &mut Environ, start_response: StartResponse<'_>) -> Result<Body> {
        self(environ, start_response)
    }
}

impl<A: Application + ?Sized> Application for Arc<A> {
    fn call(&self, environ: &mut Environ, start_response: StartResponse<'_>) -> Result<Body> {
        (**self).call(environ, start_response)
    }

    fn as_any(&self) -> Option<&dyn Any> {
        (**self).as_any()
    }
}
