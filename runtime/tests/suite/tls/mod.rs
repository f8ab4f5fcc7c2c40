//! TLS, with rustls on both sides and certificates made on the spot. What foreign implementations
//! make of it is in `interop/`.

mod closing;
mod foreign;
mod handshake;
mod settings;
mod transfer;

use std::io;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use greenwood_runtime::net::{
    ClientTls, ClientTlsBuilder, Identity, ServerTls, ServerTlsBuilder, TcpListener, TcpStream,
    TlsStream,
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use crate::support::{any_hub, spawn_on};

/// Who signs the tests' certificates.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

impl Authority {
    fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Authority {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// The one that both sides trust.
    fn trusted() -> &'static Authority {
        static TRUSTED: OnceLock<Authority> = OnceLock::new();
        TRUSTED.get_or_init(|| Authority::new("a test's authority"))
    }

    /// A certificate and its key, as PEM.
    fn certify(&self, names: &[&str]) -> (String, String) {
        self.certify_with(names, |_| {})
    }

    fn certify_with(
        &self,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> (String, String) {
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    fn identity(&self, names: &[&str]) -> Identity {
        let (certificate, key) = self.certify(names);
        Identity::pem(certificate, key)
    }
}

/// A server that calls itself `localhost`.
fn server() -> ServerTlsBuilder {
    ServerTls::builder(Authority::trusted().identity(&["localhost"]))
}

/// A client that trusts the tests' authority, and nobody else.
fn client() -> ClientTlsBuilder {
    ClientTls::builder()
        .system_roots(false)
        .ca_certs_pem(&*Authority::trusted().pem)
}

pub(crate) fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let here = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (there, _) = listener.accept().unwrap();
    (here, there)
}

/// What has come of both sides' handshakes: the client's and the server's.
type Both = (io::Result<TlsStream>, io::Result<TlsStream>);

/// Makes both sides' handshakes on a new connection.
fn shake_hands(client: &ClientTls, server: &ServerTls, name: &str) -> Both {
    let (here, there) = tcp_pair();
    let server = server.clone();
    let accepting = spawn_on(any_hub(1), move || TlsStream::accept(there, &server));
    let here = TlsStream::connect(here, name, client);
    (here, accepting.join().unwrap())
}

/// A connection and its other end: the client's and the server's.
pub(crate) fn pair() -> (TlsStream, TlsStream) {
    let (client, server) = settings();
    let (here, there) = shake_hands(client, server, "localhost");
    (here.unwrap(), there.unwrap())
}

/// Those of a client and of a server that get on.
pub(crate) fn settings() -> &'static (ClientTls, ServerTls) {
    static SETTINGS: OnceLock<(ClientTls, ServerTls)> = OnceLock::new();
    SETTINGS.get_or_init(|| (client().build().unwrap(), server().build().unwrap()))
}

/// A folder that is removed when the test is over.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!(
            "greenwood-tls-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Folder(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}
