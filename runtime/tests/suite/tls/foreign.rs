//! rustls with its own buffers on a plain thread at the other end, to do what ours does not: old
//! versions, renewed keys, pieces of its choice.

use std::io::{Read, Write};
use std::sync::Arc;

use greenwood_runtime::net::{TcpListener, TlsStream};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion, version,
};

use super::{Authority, server};
use crate::support::{EVERYWHERE, deadline};

#[expect(
    clippy::disallowed_types,
    reason = "the foreign side, on a thread of its own"
)]
type Socket = std::net::TcpStream;
type Foreign = StreamOwned<ClientConnection, Socket>;

/// Connects as a plain thread, to a server that echoes what comes; `talk` has the connection.
fn against_echo(
    version: &'static SupportedProtocolVersion,
    talk: impl Fn(&mut Foreign) + Copy + Send + 'static,
) {
    let tls = server().build().unwrap();
    for from in EVERYWHERE {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let foreign = std::thread::spawn(move || {
            let mut roots = RootCertStore::empty();
            let root = CertificateDer::from_pem_slice(Authority::trusted().pem.as_bytes());
            roots.add(root.unwrap()).unwrap();
            let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
                .with_protocol_versions(&[version])
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
            let name = ServerName::try_from("localhost").unwrap();
            let connection = ClientConnection::new(Arc::new(config), name).unwrap();
            let tcp = Socket::connect(address).unwrap();
            let mut stream = StreamOwned::new(connection, tcp);
            talk(&mut stream);
            stream.conn.send_close_notify();
            stream.flush().unwrap();
            assert_eq!(stream.read(&mut [0]).unwrap(), 0, "the server ends it too");
        });
        let tls = tls.clone();
        from.run(move || {
            let (tcp, _) = listener.accept().unwrap();
            let mut stream = TlsStream::accept(tcp, &tls).unwrap();
            let mut buffer = vec![0; 20_000];
            loop {
                let n = stream.read(&mut buffer).unwrap();
                if n == 0 {
                    break;
                }
                stream.write_all(&buffer[..n]).unwrap();
            }
        });
        foreign.join().unwrap();
    }
}

fn echo(stream: &mut Foreign, size: usize) {
    let sent: Vec<_> = (0..size).map(|i| (i * 31) as u8).collect();
    let mut received = vec![0; size];
    stream.write_all(&sent).unwrap();
    stream.read_exact(&mut received).unwrap();
    assert_eq!(received, sent);
}

#[test]
fn tls_1_2_is_spoken() {
    let _deadline = deadline();
    against_echo(&version::TLS12, |stream| {
        for size in [1, 100, 16_384, 20_000, 1] {
            echo(stream, size);
        }
        assert_eq!(
            stream.conn.protocol_version(),
            Some(rustls::ProtocolVersion::TLSv1_2)
        );
    });
}

#[test]
fn keys_may_be_renewed_at_any_time() {
    let _deadline = deadline();
    against_echo(&version::TLS13, |stream| {
        for round in 0..20 {
            echo(stream, 1 + round * 1_500);
            stream.conn.refresh_traffic_keys().unwrap();
        }
    });
}
