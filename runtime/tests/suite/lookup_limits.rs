//! A time limit of a call is one of its lookup, too.

use std::io;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use greenwood_runtime::net::{TcpListener, ToSocketAddrs, UdpSocket, create_connection};

use crate::support::deadline;

const LIMIT: Duration = Duration::from_secs(30);

/// A name that notes how long one is ready to wait for its address.
struct Name {
    address: SocketAddr,
    limits: Mutex<Vec<Option<Duration>>>,
}

impl Name {
    fn of(address: SocketAddr) -> Name {
        Name {
            address,
            limits: Mutex::default(),
        }
    }

    fn limits(&self) -> Vec<Option<Duration>> {
        self.limits.lock().unwrap().clone()
    }
}

impl ToSocketAddrs for Name {
    fn addresses(&self, timeout: Option<Duration>) -> io::Result<Vec<SocketAddr>> {
        self.limits.lock().unwrap().push(timeout);
        Ok(vec![self.address])
    }
}

#[test]
fn write_timeout_bounds_the_lookup_of_a_datagrams_receiver() {
    let _deadline = deadline();
    let here = UdpSocket::bind("127.0.0.1:0").unwrap();
    let name = Name::of(here.local_addr().unwrap());
    here.send_to(b"1", &name).unwrap();
    here.set_write_timeout(Some(LIMIT)).unwrap();
    here.send_to(b"2", &name).unwrap();
    assert_eq!(name.limits(), [None, Some(LIMIT)]);
}

#[test]
fn time_limit_of_a_connection_bounds_its_lookup() {
    let _deadline = deadline();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let name = Name::of(listener.local_addr().unwrap());
    create_connection(&name, Some(LIMIT), None).unwrap();
    create_connection(&name, None, None).unwrap();
    assert_eq!(name.limits(), [Some(LIMIT), None]);
}
