//! [`Clients`]: who is connected to a server by a WebSocket, and [`Client`], one of them.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::error::WebSocketError;
use crate::fanout::{Delivery, broadcast};
use crate::proto::Outgoing;
use crate::socket::WebSocket;

/// A connected client: gevent-websocket's `Client`, and its `handler.active_client` where it is the
/// one that a callback is about.
///
/// A clone is a second handle to the same client.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    ws: WebSocket,
    address: SocketAddr,
    clients: Clients,
}

impl Client {
    pub(crate) fn new(ws: WebSocket, address: SocketAddr, clients: Clients) -> Client {
        let address = match address.ip().is_unspecified() {
            true => numbered(),
            false => address,
        };
        Client {
            inner: Arc::new(Inner {
                ws,
                address,
                clients,
            }),
        }
    }

    /// Its connection.
    pub fn ws(&self) -> &WebSocket {
        &self.inner.ws
    }

    /// The peer's address. Behind a proxy it is the proxy's.
    ///
    /// One that has come by a Unix socket has none: it gets the unspecified address with a number
    /// of its own as the scope, as `[::%1]:0`, so that it is found in the list.
    pub fn address(&self) -> SocketAddr {
        self.inner.address
    }

    /// All clients of the server, this one among them: gevent-websocket's `server.clients`.
    pub fn clients(&self) -> &Clients {
        &self.inner.clients
    }

    /// Takes the client out of the list.
    pub(crate) fn leave(&self) {
        let left = {
            let mut connected = self.clients().connected.lock();
            // Another may have got the address meanwhile.
            let left = match connected.get(&self.address()) {
                Some(other) if other.0 == *self => connected.take(&self.address()),
                _ => None,
            };
            // A burst must not keep its room for ever.
            if connected.capacity() > 64 && connected.len() * 8 < connected.capacity() {
                connected.shrink_to_fit();
            }
            left
        };
        drop(left);
    }

    /// Sends a message to this client, as [`WebSocket::send`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn send<'a>(&self, message: impl Into<Outgoing<'a>>) -> Result<(), WebSocketError> {
        self.inner.ws.send(message)
    }
}

/// What a client without an address has in its place, each another.
fn numbered() -> SocketAddr {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let number = LAST.fetch_add(1, Ordering::Relaxed) + 1;
    let (high, low) = ((number >> 32) as u32, number as u32);
    SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, 0, high, low).into()
}

/// So that clients can be given to [`broadcast`](crate::broadcast()) as they are.
impl Borrow<WebSocket> for Client {
    fn borrow(&self) -> &WebSocket {
        &self.inner.ws
    }
}

impl PartialEq for Client {
    fn eq(&self, other: &Client) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }
}

impl Eq for Client {}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("address", &self.inner.address)
            .field("ws", &self.inner.ws)
            .finish_non_exhaustive()
    }
}

/// The clients of a server by their addresses, as long as they are connected: gevent-websocket's
/// `server.clients`. A clone is a second handle to the same.
///
/// A client is in it from before its application learns of it until the connection has ended, and
/// no longer when `on_close` is called. Walking through it works on a copy of the list, so it may
/// change meanwhile:
///
/// ```no_run
/// # fn announce(clients: &greenwood_websocket::Clients) {
/// for client in clients {
///     // One that has just left is an error, and of no interest to the others.
///     client.send("the server restarts soon").ok();
/// }
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Clients {
    connected: Arc<Mutex<HashSet<Connected>>>,
}

impl Clients {
    /// How many are connected.
    pub fn len(&self) -> usize {
        self.connected.lock().len()
    }

    /// Whether nobody is connected.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The client with this address, if it is connected.
    pub fn get(&self, address: &SocketAddr) -> Option<Client> {
        let connected = self.connected.lock();
        connected.get(address).map(|it| it.0.clone())
    }

    /// Those who are connected now, in no order.
    pub fn iter(&self) -> std::vec::IntoIter<Client> {
        let connected = self.connected.lock();
        let list: Vec<Client> = connected.iter().map(|it| it.0.clone()).collect();
        list.into_iter()
    }

    /// Sends a message to everybody who is connected now, as [`broadcast`](crate::broadcast())
    /// does: encoded once, and with nobody waiting for a slow peer before all others have been served.
    pub fn broadcast<'m>(&self, message: impl Into<Outgoing<'m>>) -> Delivery {
        broadcast(self.iter(), message)
    }

    /// Has `client` in the list until the guard is dropped.
    pub(crate) fn enter(&self, client: Client) -> Entered {
        // One that had the address before is closing: the system has given it away again.
        let before = self.connected.lock().replace(Connected(client.clone()));
        drop(before);
        Entered { client }
    }
}

/// A client in the list, where it stands for its address: a map would hold that a second time.
struct Connected(Client);

impl Borrow<SocketAddr> for Connected {
    fn borrow(&self) -> &SocketAddr {
        &self.0.inner.address
    }
}

impl Hash for Connected {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.inner.address.hash(state);
    }
}

impl PartialEq for Connected {
    fn eq(&self, other: &Connected) -> bool {
        self.0.inner.address == other.0.inner.address
    }
}

impl Eq for Connected {}

impl IntoIterator for &Clients {
    type Item = Client;
    type IntoIter = std::vec::IntoIter<Client>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clients")
            .field("connected", &self.len())
            .finish_non_exhaustive()
    }
}

/// A client's place in the list.
pub(crate) struct Entered {
    client: Client,
}

impl Entered {
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.client.leave();
    }
}
