//! [`ServerTls`]: how a server speaks TLS.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::crypto::ring::Ticketer;
use rustls::server::{ClientHello, ResolvesServerCert, ServerConfig, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{DEFAULT_VERSIONS, RootCertStore};

use super::pem::{Identity, Source, provider};
use super::{HANDSHAKE_TIMEOUT, TlsStream};
use crate::StreamServer;
use crate::net::ToSocketAddrs;
use crate::task::lock;

/// How a server speaks TLS (1.2 and 1.3): its certificates, whom it lets in, and which protocols it
/// offers. A clone is a second handle to the same settings.
///
/// ```no_run
/// use greenwood_runtime::net::{Identity, ServerTls};
///
/// let tls = ServerTls::builder(Identity::files("cert.pem", "key.pem"))
///     .sni("example.org", Identity::files("example.pem", "example.key"))
///     .build()?;
/// // Later, after the files have been renewed:
/// tls.reload()?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct ServerTls {
    inner: Arc<Inner>,
}

struct Inner {
    settings: ServerTlsBuilder,
    /// What new connections get.
    config: Mutex<Arc<ServerConfig>>,
}

/// The settings of a [`ServerTls`], from [`ServerTls::builder`].
#[derive(Clone, Debug)]
#[must_use = "nothing is read before `build`"]
pub struct ServerTlsBuilder {
    identity: Identity,
    by_name: Vec<(String, Identity)>,
    clients: Option<(Source, CertReqs)>,
    alpn: Vec<Vec<u8>>,
    handshake_timeout: Duration,
}

/// What is asked of clients: Python's `cert_reqs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CertReqs {
    Optional,
    Required,
}

impl ServerTls {
    /// A server's settings with the certificate in PEM files: gevent's `certfile` and `keyfile`.
    ///
    /// # Errors
    ///
    /// As [`build`](ServerTlsBuilder::build).
    pub fn from_files(
        certfile: impl Into<PathBuf>,
        keyfile: impl Into<PathBuf>,
    ) -> io::Result<ServerTls> {
        ServerTls::builder(Identity::files(certfile, keyfile)).build()
    }

    /// More settings. `identity` is shown to clients that ask for no name, or for one that has no
    /// certificate of its own.
    pub fn builder(identity: Identity) -> ServerTlsBuilder {
        ServerTlsBuilder {
            identity,
            by_name: Vec::new(),
            clients: None,
            alpn: Vec::new(),
            handshake_timeout: HANDSHAKE_TIMEOUT,
        }
    }

    /// Reads all files again. New connections get what they say now; those that exist go on as they
    /// are. Sessions from before are not resumed. The files are read while the hub waits.
    ///
    /// # Errors
    ///
    /// As [`build`](ServerTlsBuilder::build); everything stays as it was then.
    pub fn reload(&self) -> io::Result<()> {
        let config = self.inner.settings.config()?;
        *lock(&self.inner.config) = Arc::new(config);
        Ok(())
    }

    pub(super) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&lock(&self.inner.config))
    }

    pub(super) fn handshake_timeout(&self) -> Duration {
        self.inner.settings.handshake_timeout
    }
}

impl ServerTlsBuilder {
    /// A further certificate, for clients that ask for `name` (SNI). `*.example.org` is for all
    /// names with one more label; a name of its own goes first. Case does not matter.
    pub fn sni(mut self, name: impl Into<String>, identity: Identity) -> ServerTlsBuilder {
        self.by_name.push((name.into(), identity));
        self
    }

    /// Lets in only clients with a certificate that leads to a CA in the PEM file `ca_certs`:
    /// Python's `CERT_REQUIRED`. Revocation is not looked at. Default: none is asked for.
    pub fn require_client_cert(mut self, ca_certs: impl Into<PathBuf>) -> ServerTlsBuilder {
        self.clients = Some((Source::File(ca_certs.into()), CertReqs::Required));
        self
    }

    /// As [`require_client_cert`](Self::require_client_cert), but who has none gets in as well:
    /// Python's `CERT_OPTIONAL`. A bad one is refused.
    pub fn request_client_cert(mut self, ca_certs: impl Into<PathBuf>) -> ServerTlsBuilder {
        self.clients = Some((Source::File(ca_certs.into()), CertReqs::Optional));
        self
    }

    /// As [`require_client_cert`](Self::require_client_cert), with the CAs as PEM text.
    pub fn require_client_cert_pem(mut self, ca_certs: impl Into<Vec<u8>>) -> ServerTlsBuilder {
        self.clients = Some((Source::Pem(ca_certs.into()), CertReqs::Required));
        self
    }

    /// As [`request_client_cert`](Self::request_client_cert), with the CAs as PEM text.
    pub fn request_client_cert_pem(mut self, ca_certs: impl Into<Vec<u8>>) -> ServerTlsBuilder {
        self.clients = Some((Source::Pem(ca_certs.into()), CertReqs::Optional));
        self
    }

    /// The protocols that are spoken, the preferred one first (ALPN, RFC 7301). A client that
    /// offers others only is refused; one that offers nothing is not. Default: none, whatever the
    /// client offers is ignored.
    pub fn alpn<P: Into<Vec<u8>>>(
        mut self,
        protocols: impl IntoIterator<Item = P>,
    ) -> ServerTlsBuilder {
        self.alpn = protocols.into_iter().map(Into::into).collect();
        self
    }

    /// How long a handshake may take as a whole. Default 10 s: it takes two round trips, and one
    /// that is never finished holds a greenlet.
    ///
    /// # Panics
    ///
    /// If it is zero.
    pub fn handshake_timeout(mut self, timeout: Duration) -> ServerTlsBuilder {
        assert!(!timeout.is_zero(), "a handshake time-out of zero");
        self.handshake_timeout = timeout;
        self
    }

    /// Reads the files.
    ///
    /// # Errors
    ///
    /// A file that can't be read or has not in it what it should, a key that does not belong to its
    /// certificate, a name for SNI that is none. The error names the file.
    pub fn build(self) -> io::Result<ServerTls> {
        let config = Mutex::new(Arc::new(self.config()?));
        Ok(ServerTls {
            inner: Arc::new(Inner {
                settings: self,
                config,
            }),
        })
    }

    fn config(&self) -> io::Result<ServerConfig> {
        let mut by_name = HashMap::new();
        for (name, identity) in &self.by_name {
            let name = name.to_ascii_lowercase();
            let plain = name.strip_prefix("*.").unwrap_or(&name);
            if rustls::pki_types::DnsName::try_from(plain).is_err() {
                let why = format!("{name:?} is no host name: a certificate can't be chosen by it");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
            }
            by_name.insert(name, Arc::new(identity.load()?));
        }
        let certificates = Certificates {
            default: Arc::new(self.identity.load()?),
            by_name,
        };
        let builder = ServerConfig::builder_with_provider(Arc::clone(provider()))
            .with_protocol_versions(DEFAULT_VERSIONS)
            .map_err(io::Error::other)?;
        let builder = match &self.clients {
            None => builder.with_no_client_auth(),
            Some((source, reqs)) => {
                let mut roots = RootCertStore::empty();
                source.add_to(&mut roots)?;
                let verifier = WebPkiClientVerifier::builder_with_provider(
                    Arc::new(roots),
                    Arc::clone(provider()),
                );
                let verifier = match reqs {
                    CertReqs::Required => verifier,
                    CertReqs::Optional => verifier.allow_unauthenticated(),
                };
                builder.with_client_cert_verifier(verifier.build().map_err(io::Error::other)?)
            }
        };
        let mut config = builder.with_cert_resolver(Arc::new(certificates));
        config.alpn_protocols.clone_from(&self.alpn);
        // Sessions are resumed by tickets, which cost the server no memory.
        config.ticketer = Ticketer::new().map_err(io::Error::other)?;
        Ok(config)
    }
}

/// Which certificate a client is shown.
#[derive(Debug)]
struct Certificates {
    default: Arc<CertifiedKey>,
    by_name: HashMap<String, Arc<CertifiedKey>>,
}

thread_local! {
    /// The name that the client has asked for whose handshake the thread is at. rustls tells it to
    /// nobody else, where it has no buffers of its own.
    static ASKED: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// The name that was asked for since the last call.
pub(super) fn take_asked() -> Option<String> {
    ASKED.take()
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_ascii_lowercase);
        let certificate = name.as_deref().and_then(|name| {
            self.by_name.get(name).or_else(|| {
                let (_, parent) = name.split_once('.')?;
                self.by_name.get(&format!("*.{parent}"))
            })
        });
        let certificate = Arc::clone(certificate.unwrap_or(&self.default));
        ASKED.set(name);
        Some(certificate)
    }
}

/// TLS by a `StreamServer`: gevent's, with `certfile` and `keyfile`.
impl StreamServer {
    /// As [`new`](StreamServer::new), for TLS. The handshake is made in the connection's own
    /// greenlet; one that fails ends the connection and is logged at `DEBUG`.
    ///
    /// # Errors
    ///
    /// As [`new`](StreamServer::new).
    pub fn with_tls<F>(
        address: impl ToSocketAddrs,
        tls: ServerTls,
        handle: F,
    ) -> io::Result<StreamServer>
    where
        F: Fn(TlsStream, SocketAddr) + Send + Sync + 'static,
    {
        StreamServer::new(address, move |tcp, peer| {
            match TlsStream::accept(tcp, &tls) {
                Ok(stream) => handle(stream, peer),
                Err(error) => tracing::debug!(%peer, "no TLS connection: {error}"),
            }
        })
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ServerTls")
            .field(&self.inner.settings)
            .finish()
    }
}
