//! Servers whose handlers are members of a pool that others use too: gevent's `spawn=pool`.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use greenwood_runtime::net::{TcpStream, UdpSocket};
use greenwood_runtime::{DatagramServer, Event, Group, Pool, Spawn, StreamServer, sleep, spawn};

use crate::support::{deadline, eventually};

const LONG: Duration = Duration::from_secs(3_600);

/// Says `in` to each connection and serves it until it ends.
fn greeter(pool: &Pool) -> StreamServer {
    let server = StreamServer::new("127.0.0.1:0", |mut stream, _| {
        stream.write_all(b"in").unwrap();
        stream.read_exact(&mut [0]).ok();
    });
    let server = server.unwrap().spawn(pool);
    server.start().unwrap();
    server
}

fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).unwrap()
}

fn is_served(mut stream: &TcpStream) -> bool {
    stream
        .set_read_timeout(Some(Duration::from_millis(10)))
        .unwrap();
    match stream.read_exact(&mut [0; 2]) {
        Ok(()) => true,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            false
        }
    }
}

#[test]
fn pool_bounds_all_who_share_it() {
    let _deadline = deadline();
    let pool = Pool::new(2);
    let (one, other) = (greeter(&pool), greeter(&pool));
    let echo = DatagramServer::new("127.0.0.1:0", |server, datagram, peer| {
        server.sendto(&datagram, &peer).unwrap();
    });
    let echo = echo.unwrap().spawn(&pool);
    echo.start().unwrap();
    for _ in 0..20 {
        // Who waits for something to do takes no place.
        eventually("all is free", || pool.free_count() == 2);
        let task = pool.spawn(|| sleep(LONG));
        let first = connect(one.local_addr());
        eventually("the first is served", || is_served(&first));
        let second = connect(other.local_addr());
        let asks = UdpSocket::bind("127.0.0.1:0").unwrap();
        asks.send_to(b"?", echo.local_addr()).unwrap();
        asks.set_read_timeout(Some(Duration::from_millis(5)))
            .unwrap();
        assert!(!is_served(&second));
        assert_eq!(
            asks.recv_from(&mut [0]).unwrap_err().kind(),
            ErrorKind::TimedOut
        );
        assert!(pool.full());
        task.kill();
        asks.set_read_timeout(None).unwrap();
        eventually("there is room for both, one after the other", || {
            is_served(&second)
        });
        drop((first, second));
        asks.recv_from(&mut [0]).unwrap();
        assert!(pool.join(None));
    }
    for server in [one, other] {
        server.stop(Duration::ZERO);
    }
    echo.stop(Duration::ZERO);
    assert_eq!(pool.free_count(), 2);
}

#[test]
fn handlers_are_members_like_any_other() {
    let _deadline = deadline();
    let pool = Pool::new(10);
    let server = greeter(&pool);
    let streams: Vec<_> = (0..5).map(|_| connect(server.local_addr())).collect();
    eventually("all are members", || pool.len() == 5);
    assert_eq!(server.connections(), 5);
    pool.kill();
    for mut stream in streams {
        let mut text = Vec::new();
        stream.read_to_end(&mut text).unwrap();
        assert!(matches!(&*text, b"in" | b""));
    }
    assert_eq!((pool.len(), server.connections()), (0, 0));
    // The server goes on.
    let next = connect(server.local_addr());
    eventually("the next is served", || is_served(&next));
    server.stop(Duration::ZERO);
}

#[test]
fn stop_leaves_the_pools_other_members_alone() {
    let _deadline = deadline();
    let pool = Pool::new(10);
    let (one, other) = (greeter(&pool), greeter(&pool));
    let task = pool.spawn(|| sleep(LONG));
    let (mine, theirs) = (connect(one.local_addr()), connect(other.local_addr()));
    eventually("both are served", || pool.len() == 3);
    one.stop(Duration::ZERO);
    assert_eq!(pool.len(), 2);
    assert!(!task.ready());
    eventually("the other's is", || is_served(&theirs));
    drop(mine);
    other.stop(Duration::ZERO);
    task.kill();
}

#[test]
fn server_that_waits_for_a_place_stops_and_takes_none() {
    let _deadline = deadline();
    for _ in 0..50 {
        let pool = Pool::new(1);
        let go = Arc::new(Event::new());
        let waits = Arc::clone(&go);
        let task = pool.spawn(move || waits.wait());
        let server = greeter(&pool);
        let waiting = connect(server.local_addr());
        let stopping = server.clone();
        let stop = spawn(move || stopping.stop(Duration::ZERO));
        // At the same moment.
        go.set();
        stop.join().unwrap();
        task.join().unwrap();
        // One that was let in as the server stopped ends by itself.
        eventually("the place is free", || pool.free_count() == 1);
        drop(waiting);
    }
}

#[test]
fn group_counts_and_bounds_nothing() {
    let _deadline = deadline();
    let group = Group::new();
    let server = StreamServer::new("127.0.0.1:0", |mut stream, _| {
        stream.read_exact(&mut [0]).ok();
    });
    let server = server.unwrap().spawn(&group);
    server.start().unwrap();
    let streams: Vec<_> = (0..20).map(|_| connect(server.local_addr())).collect();
    eventually("all are members", || group.len() == 20);
    drop(streams);
    assert!(group.join(None));
    server.stop(Duration::ZERO);
}

#[test]
#[should_panic(expected = "a pool of 0")]
fn pool_without_places_is_refused() {
    let server = DatagramServer::new("127.0.0.1:0", |_, _, _| ()).unwrap();
    drop(server.spawn(Spawn::from(Pool::new(0))));
}
