//! At the limit of greenlets: what can't be started is refused, and can be started later.

use std::io::Read;
use std::time::Duration;

use greenwood_runtime::net::{TcpStream, UdpSocket};
use greenwood_runtime::{
    BackdoorServer, Builder, DatagramServer, Greenlet, Hub, StreamServer, killall,
};

use crate::support::{case, child, deadline_of};

const LIMIT: Duration = Duration::from_secs(240);

/// As many greenlets as there may be. They never begin, and so take no stacks.
fn fill() -> Vec<Greenlet<()>> {
    let never = Duration::from_secs(3_600);
    let spawned = std::iter::repeat_with(|| Builder::new().spawn_later(never, || ()));
    spawned.map_while(Result::ok).collect()
}

#[test]
fn server_that_had_no_room_for_its_greenlet_can_be_started_later() {
    let _deadline = deadline_of(LIMIT);
    if case().is_none() {
        if Hub::limits().max_map_count > 300_000 {
            // A system whose limit is far away, as some distributions set it.
            return;
        }
        let test = "refusals::server_that_had_no_room_for_its_greenlet_can_be_started_later";
        return child(test, "x", &[]).passed();
    }
    let streams = StreamServer::new("127.0.0.1:0", |_, _| ()).unwrap();
    let datagrams = DatagramServer::new("127.0.0.1:0", |server, bytes, peer| {
        server.sendto(&bytes, &peer).unwrap();
    });
    let datagrams = datagrams.unwrap();
    let backdoor = BackdoorServer::tcp("127.0.0.1:0").unwrap();

    let all = fill();
    for refused in [streams.start(), datagrams.start(), backdoor.start()] {
        let error = refused.unwrap_err().to_string();
        assert!(error.contains("vm.max_map_count"), "{error}");
    }
    assert!(!streams.started() && !datagrams.started());
    assert!(killall(&all, None));

    streams.start().unwrap();
    let mut stream = TcpStream::connect(streams.local_addr()).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    streams.stop(Duration::from_secs(1));
    streams.join().unwrap();

    datagrams.start().unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(b"x", datagrams.local_addr()).unwrap();
    assert_eq!(socket.recv(&mut [0; 9]).unwrap(), 1);
    datagrams.stop(Duration::from_secs(1));
    datagrams.join().unwrap();

    backdoor.start().unwrap();
    let address = backdoor.local_addr().unwrap();
    assert!(TcpStream::connect(address).is_ok());
    backdoor.stop();
}
