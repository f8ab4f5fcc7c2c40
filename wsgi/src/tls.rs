//! `https`: where a server's certificates come from, and the handshake of a connection.

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc};

use greenwood_runtime::net::{Identity, ServerTls, Stream, TlsStream};

use crate::registry::Registry;

/// What was said of TLS before the start.
#[derive(Clone, Default)]
pub(crate) struct Settings {
    certfile: Option<PathBuf>,
    keyfile: Option<PathBuf>,
    pub(crate) tls: Option<ServerTls>,
}

impl Settings {
    pub(crate) fn certfile(&mut self, file: PathBuf) {
        self.certfile = Some(file);
    }

    pub(crate) fn keyfile(&mut self, file: PathBuf) {
        self.keyfile = Some(file);
    }

    /// How to speak TLS, if at all.
    pub(crate) fn resolve(&self) -> io::Result<Option<ServerTls>> {
        let misused = |why: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        match (&self.tls, &self.certfile, &self.keyfile) {
            (None, None, None) => Ok(None),
            (Some(tls), None, None) => Ok(Some(tls.clone())),
            (Some(_), _, _) => misused("both tls and certfile or keyfile are set: use one of them"),
            (None, None, Some(_)) => misused("keyfile is set and certfile is not"),
            (None, Some(certfile), keyfile) => {
                // As Python's load_cert_chain: the key may be in the same file.
                let keyfile = keyfile.as_ref().unwrap_or(certfile);
                ServerTls::builder(Identity::files(certfile, keyfile))
                    .alpn(["http/1.1"])
                    .build()
                    .map(Some)
            }
        }
    }
}

/// Makes the handshake of a new connection, if TLS is to be spoken. None: it has failed, or the
/// server stops.
// Not inlined: who serves the connection is not to carry its frame.
#[inline(never)]
pub(crate) fn begin(
    tls: Option<&ServerTls>,
    registry: &Arc<Registry>,
    stream: Stream,
    peer: Option<SocketAddr>,
) -> Option<Stream> {
    let (Some(tls), Stream::Tcp(tcp)) = (tls, &stream) else {
        return Some(stream);
    };
    // Nothing was asked for yet: a stop does not wait for it.
    let entry = registry.enter(stream.clone());
    if entry.wait() {
        return None;
    }
    match TlsStream::accept(tcp.clone(), tls) {
        Ok(stream) => Some(stream.into()),
        Err(error) => {
            let peer = peer.map(tracing::field::display);
            tracing::debug!(target: "greenwood::wsgi", peer, "no TLS connection: {error}");
            None
        }
    }
}
