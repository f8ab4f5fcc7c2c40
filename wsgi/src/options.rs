//! What all connections of a server share.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use crate::{
    Application, Handler, HttpHandler, environ::SOFTWARE, proto::Limits, registry::Registry,
};

/// A server's settings, its application and its registry.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) app: Arc<dyn Application>,
    pub(crate) handler: Arc<dyn Handler>,
    pub(crate) limits: Limits,
    pub(crate) head_timeout: Duration,
    pub(crate) body_timeout: Duration,
    pub(crate) keep_alive_timeout: Duration,
    pub(crate) write_timeout: Duration,
    pub(crate) min_data_rate: u32,
    /// Where all connections come in, if that is one internet address.
    pub(crate) local: Option<SocketAddr>,
    pub(crate) server_name: Option<Arc<str>>,
    pub(crate) server_header: Arc<str>,
    pub(crate) access_log: bool,
    pub(crate) registry: Arc<Registry>,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<greenwood_runtime::net::ServerTls>,
}

impl Shared {
    pub(crate) fn new(app: Arc<dyn Application>, registry: Arc<Registry>) -> Self {
        Self {
            app,
            handler: Arc::new(HttpHandler),
            limits: Limits::default(),
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            keep_alive_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(30),
            min_data_rate: 240,
            local: None,
            server_name: None,
            server_header: SOFTWARE.into(),
            access_log: true,
            registry,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }
}
