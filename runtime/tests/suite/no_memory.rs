//! No memory for a greenlet's stack: a connection, a server or a spawn fails, and the process lives.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use greenwood_runtime::net::parking::{Burst, Parked, Place, Then};
use greenwood_runtime::net::{TcpListener, TcpStream};
use greenwood_runtime::{
    AsyncResult, Builder, Event, Hub, JoinError, Queue, Semaphore, StreamServer, sleep,
};

use crate::limits::{check_echo, check_life, echo, processor_time};
use crate::others::with_little_memory;
use crate::support::{OnDrop, case, child_with_hubs, deadline_of, eventually, spawn_on, waiting};

const LIMIT: Duration = Duration::from_secs(240);

/// Lets the process have no more memory than it has, while `f` runs.
fn without_memory<R>(f: impl FnOnce() -> R) -> R {
    with_little_memory(0, f)
}

/// Puts all coroutines to use that the hubs have left over.
fn use_up_coroutines() -> Arc<Event> {
    let go = Arc::new(Event::new());
    let count = 4 * Hub::count() + 2;
    for i in 0..count {
        let go = Arc::clone(&go);
        spawn_on(i % Hub::count(), move || {
            go.wait();
        });
    }
    eventually("all wait", || waiting(&*go) == count);
    go
}

fn no_memory(part: &str) {
    check_life();
    match part {
        "connection" => {
            let server = StreamServer::new("127.0.0.1:0", |stream, _| echo(stream)).unwrap();
            server.start().unwrap();
            let address = server.local_addr();
            let mut first = TcpStream::connect(address).unwrap();
            check_echo(&mut first);
            let before = processor_time();
            without_memory(|| {
                for _ in 0..6 {
                    let mut refused = TcpStream::connect(address).unwrap();
                    refused
                        .set_read_timeout(Some(Duration::from_millis(50)))
                        .unwrap();
                    // Closed, or not accepted while accepting pauses.
                    assert!(matches!(refused.read(&mut [0]), Ok(0) | Err(_)));
                }
                check_echo(&mut first);
            });
            assert!(processor_time() - before < Duration::from_millis(200));
            check_echo(&mut TcpStream::connect(address).unwrap());
            server.stop(Duration::ZERO);
        }
        "server" => {
            let go = use_up_coroutines();
            let server = StreamServer::new("127.0.0.1:0", |stream, _| echo(stream)).unwrap();
            let address = server.local_addr();
            let refused = without_memory(|| server.serve_forever().unwrap_err());
            assert_eq!(refused.kind(), ErrorKind::OutOfMemory, "{refused}");
            assert_eq!(server.start().unwrap_err().kind(), ErrorKind::OutOfMemory);
            drop(server);
            eventually("the port is free", || TcpListener::bind(address).is_ok());
            go.set();
        }
        "parked" => {
            let go = use_up_coroutines();
            for hub in 0..Hub::count() {
                parked_without_memory(hub);
            }
            go.set();
        }
        _ => {
            // The closure of a refused greenlet is dropped in the hub's own loop, where nothing
            // may wait: what is released later must not be handed to who has failed.
            let go = use_up_coroutines();
            let (permits, items) = (Arc::new(Semaphore::new(0)), Arc::new(Queue::new(0)));
            let (theirs, also) = (Arc::clone(&permits), Arc::clone(&items));
            let waits = OnDrop(move || _ = theirs.acquire());
            let gets = OnDrop(move || _ = also.get());
            let builder = Builder::new().hub(0);
            let refused = builder.unstarted(move || drop((waits, gets))).unwrap();
            // Its links are called all the same.
            let linked = Arc::new(AsyncResult::new());
            refused.link(linked.setter());
            without_memory(|| {
                refused.start().unwrap();
                assert!(refused.join_timeout(LIMIT));
            });
            let error = linked.get().unwrap_err().into_exception();
            assert!(matches!(error, Some(JoinError::Refused { .. })));
            assert!(matches!(refused.join(), Err(JoinError::Refused { .. })));
            permits.release();
            items.put(1).unwrap();
            assert_eq!((permits.counter(), items.len()), (1, 1));
            go.set();
        }
    }
    check_life();
}

/// Parked connections of a hub are called as soon as somebody can lead, and woken without memory.
/// From a thread that is not the hub's own, a refusal comes when the call is over.
#[expect(
    clippy::disallowed_types,
    reason = "the peer is the foreign side, on a plain thread"
)]
fn parked_without_memory(hub: usize) {
    struct Counting(Arc<AtomicUsize>);
    impl Parked for Counting {
        fn ready(&mut self, _: &Burst) -> Then {
            self.0.fetch_add(1, Ordering::SeqCst);
            Then::Wait
        }
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut peers = Vec::new();
    let stream = loop {
        peers.push(std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        let (stream, _) = listener.accept().unwrap();
        if stream.as_raw_fd() as usize % Hub::count() == hub {
            break stream;
        }
    };
    let calls = Arc::new(AtomicUsize::new(0));
    let place = Place::reserve(&stream).unwrap();
    let theirs = Box::new(Counting(Arc::clone(&calls)));
    // The hub is busy, so that it refuses only after that.
    let (begun, busy) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicBool::new(true)),
    );
    let (theirs_begun, theirs_busy) = (Arc::clone(&begun), Arc::clone(&busy));
    let keeping = spawn_on(hub, move || {
        theirs_begun.store(true, Ordering::SeqCst);
        while theirs_busy.load(Ordering::SeqCst) {
            std::hint::spin_loop();
        }
        // And has no coroutine to spare.
        sleep(Duration::from_millis(50));
    });
    eventually("the hub is busy", || begun.load(Ordering::SeqCst));
    without_memory(|| {
        let parked = place.park(theirs).is_ok();
        busy.store(false, Ordering::SeqCst);
        assert!(parked);
        keeping.join().unwrap();
    });
    assert_eq!(calls.load(Ordering::SeqCst), 0);
    peers.last_mut().unwrap().write_all(b"x").unwrap();
    eventually("somebody leads", || calls.load(Ordering::SeqCst) > 0);
    let before = calls.load(Ordering::SeqCst);
    without_memory(|| {
        place.wake().unwrap();
        eventually("a wake", || calls.load(Ordering::SeqCst) > before);
    });
    place.leave();
}

#[test]
fn server_and_hub_outlive_a_lack_of_memory() {
    let _deadline = deadline_of(LIMIT);
    if let Some(part) = case() {
        return no_memory(&part);
    }
    for hubs in [1, 2, 4] {
        for part in ["connection", "server", "closure", "parked"] {
            let test = "no_memory::server_and_hub_outlive_a_lack_of_memory";
            child_with_hubs(test, part, hubs).passed();
        }
    }
}
