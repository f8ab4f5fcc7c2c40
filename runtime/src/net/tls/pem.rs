//! Certificates and keys: [`Identity`], and CA files.

use std::borrow::Cow;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::RootCertStore;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::error::{Place, unusable};

/// A certificate with its private key, by which a side says who it is: gevent's `certfile` and
/// `keyfile`.
#[derive(Clone)]
pub struct Identity {
    chain: Source,
    key: Source,
}

/// PEM text, or the file that it is in.
#[derive(Clone)]
pub(super) enum Source {
    File(PathBuf),
    Pem(Vec<u8>),
}

impl Identity {
    /// From PEM files: the certificate followed by those in between it and the root, and its key
    /// (PKCS#8, PKCS#1 or SEC1, not encrypted). Both may be the same file. They are read when the
    /// settings are built and at each [`reload`](super::ServerTls::reload).
    pub fn files(certfile: impl Into<PathBuf>, keyfile: impl Into<PathBuf>) -> Identity {
        Identity {
            chain: Source::File(certfile.into()),
            key: Source::File(keyfile.into()),
        }
    }

    /// From PEM text. A reload finds the same again.
    pub fn pem(certificates: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Identity {
        Identity {
            chain: Source::Pem(certificates.into()),
            key: Source::Pem(key.into()),
        }
    }

    /// Reads both, and sees whether they belong together.
    pub(super) fn load(&self) -> io::Result<CertifiedKey> {
        let chain = self.chain.certificates("certfile")?;
        let key = self.key.read("keyfile")?;
        let key = PrivateKeyDer::from_pem_slice(&key).map_err(|error| {
            let why = match error {
                pem::Error::NoItemsFound => {
                    "there is no private key in it (encrypted keys can't be used)".to_owned()
                }
                error => error.to_string(),
            };
            unusable("keyfile", &self.key.place(), why)
        })?;
        CertifiedKey::from_der(chain, key, provider()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => unusable(
                "keyfile",
                &self.key.place(),
                format_args!(
                    "the key is not that of the certificate in certfile {}",
                    self.chain.place()
                ),
            ),
            error => unusable("keyfile", &self.key.place(), error),
        })
    }
}

impl Source {
    fn place(&self) -> Place<'_> {
        match self {
            Source::File(path) => Place::File(path),
            Source::Pem(_) => Place::Memory,
        }
    }

    fn read(&self, what: &str) -> io::Result<Cow<'_, [u8]>> {
        match self {
            Source::Pem(text) => Ok(text.into()),
            Source::File(path) => read(path, what).map(Cow::from),
        }
    }

    fn certificates(&self, what: &str) -> io::Result<Vec<CertificateDer<'static>>> {
        let text = self.read(what)?;
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
        let certificates = certificates.map_err(|error| unusable(what, &self.place(), error))?;
        if certificates.is_empty() {
            let why = "there is no certificate in it: a PEM file has lines of -----BEGIN CERTIFICATE-----";
            return Err(unusable(what, &self.place(), why));
        }
        Ok(certificates)
    }

    /// Adds the certificates to those that are trusted.
    pub(super) fn add_to(&self, roots: &mut RootCertStore) -> io::Result<()> {
        for certificate in self.certificates("ca_certs")? {
            roots
                .add(certificate)
                .map_err(|error| unusable("ca_certs", &self.place(), error))?;
        }
        Ok(())
    }
}

fn read(path: &Path, what: &str) -> io::Result<Vec<u8>> {
    fs::read(path).map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("can't read {what} {}: {error}", path.display()),
        )
    })
}

/// The cryptography behind all of it.
pub(super) fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(ring::default_provider()))
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("certfile", &self.chain)
            .field("keyfile", &self.key)
            .finish()
    }
}

// Never the text: it may be a key.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.place(), f)
    }
}
