//! [`ClientTls`]: how a client speaks TLS.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, DEFAULT_VERSIONS, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

use super::HANDSHAKE_TIMEOUT;
use super::pem::{Identity, Source, provider};

/// How a client speaks TLS (1.2 and 1.3): whom it trusts, and who it is. Servers' certificates are
/// checked, as is the name. Costly to make (the system's roots are read), cheap to clone: make one
/// and keep it.
#[derive(Clone)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    handshake_timeout: Duration,
}

/// The settings of a [`ClientTls`], from [`ClientTls::builder`].
#[derive(Clone, Debug)]
#[must_use = "nothing is read before `build`"]
pub struct ClientTlsBuilder {
    system_roots: bool,
    ca_certs: Vec<Source>,
    identity: Option<Identity>,
    alpn: Vec<Vec<u8>>,
    handshake_timeout: Duration,
    verify: bool,
}

impl ClientTls {
    /// A client that trusts whom the system trusts.
    ///
    /// # Errors
    ///
    /// As [`build`](ClientTlsBuilder::build).
    pub fn new() -> io::Result<ClientTls> {
        ClientTls::builder().build()
    }

    /// More settings.
    pub fn builder() -> ClientTlsBuilder {
        ClientTlsBuilder {
            system_roots: true,
            ca_certs: Vec::new(),
            identity: None,
            alpn: Vec::new(),
            handshake_timeout: HANDSHAKE_TIMEOUT,
            verify: true,
        }
    }

    pub(super) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }

    pub(super) fn handshake_timeout(&self) -> Duration {
        self.handshake_timeout
    }
}

impl ClientTlsBuilder {
    /// Whether the system's roots are trusted (those of OpenSSL, as by Python; `SSL_CERT_FILE` and
    /// `SSL_CERT_DIR` are minded). Default true.
    pub fn system_roots(mut self, on: bool) -> ClientTlsBuilder {
        self.system_roots = on;
        self
    }

    /// Trusts the CAs in a PEM file too. Default: none.
    pub fn ca_certs(mut self, file: impl Into<PathBuf>) -> ClientTlsBuilder {
        self.ca_certs.push(Source::File(file.into()));
        self
    }

    /// As [`ca_certs`](Self::ca_certs), with PEM text.
    pub fn ca_certs_pem(mut self, text: impl Into<Vec<u8>>) -> ClientTlsBuilder {
        self.ca_certs.push(Source::Pem(text.into()));
        self
    }

    /// The certificate for servers that want one. Default: none.
    pub fn identity(mut self, identity: Identity) -> ClientTlsBuilder {
        self.identity = Some(identity);
        self
    }

    /// The protocols that are offered, the preferred one first (ALPN, RFC 7301). Default: none.
    pub fn alpn<P: Into<Vec<u8>>>(
        mut self,
        protocols: impl IntoIterator<Item = P>,
    ) -> ClientTlsBuilder {
        self.alpn = protocols.into_iter().map(Into::into).collect();
        self
    }

    /// How long a handshake may take as a whole. Default 10 s.
    ///
    /// # Panics
    ///
    /// If it is zero.
    pub fn handshake_timeout(mut self, timeout: Duration) -> ClientTlsBuilder {
        assert!(!timeout.is_zero(), "a handshake time-out of zero");
        self.handshake_timeout = timeout;
        self
    }

    /// Takes any certificate for any name: **whoever is in between can read and change
    /// everything**. For tests only; [`ca_certs`](Self::ca_certs) is the way to trust a certificate
    /// of one's own.
    pub fn dangerous_accept_any_certificate(mut self) -> ClientTlsBuilder {
        self.verify = false;
        self
    }

    /// Reads the files and the system's roots. The hub waits for that.
    ///
    /// # Errors
    ///
    /// A file that can't be read or has not in it what it should, with its name; no root to trust.
    pub fn build(self) -> io::Result<ClientTls> {
        let builder = ClientConfig::builder_with_provider(Arc::clone(provider()))
            .with_protocol_versions(DEFAULT_VERSIONS)
            .map_err(io::Error::other)?;
        let builder = match self.verify {
            true => {
                let roots = Arc::new(self.roots()?);
                let verifier =
                    WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider()));
                builder.with_webpki_verifier(verifier.build().map_err(io::Error::other)?)
            }
            false => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyCertificate)),
        };
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let resolver = rustls::sign::SingleCertAndKey::from(identity.load()?);
                builder.with_client_cert_resolver(Arc::new(resolver))
            }
        };
        config.alpn_protocols = self.alpn;
        Ok(ClientTls {
            config: Arc::new(config),
            handshake_timeout: self.handshake_timeout,
        })
    }

    fn roots(&self) -> io::Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        if self.system_roots {
            let found = rustls_native_certs::load_native_certs();
            // Single ones that rustls can't read are no reason to fail.
            roots.add_parsable_certificates(found.certs);
            if roots.is_empty() && self.ca_certs.is_empty() {
                let why = match found.errors.first() {
                    Some(error) => error.to_string(),
                    None => "nothing was found".to_owned(),
                };
                return Err(io::Error::new(
                    io::ErrorKind::NotFound,
                    format!(
                        "the system has no root certificates ({why}): install ca-certificates, \
                         or give some by ca_certs"
                    ),
                ));
            }
        }
        for source in &self.ca_certs {
            source.add_to(&mut roots)?;
        }
        if roots.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "no certificate would be trusted: give some by ca_certs, or use the system's roots",
            ));
        }
        Ok(roots)
    }
}

/// Accepts whatever is shown. That the peer has the key of it is checked all the same.
#[derive(Debug)]
struct AnyCertificate;

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls")
            .field("alpn", &self.config.alpn_protocols)
            .finish_non_exhaustive()
    }
}
