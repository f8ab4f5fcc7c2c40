//! No memory for a greenlet's stack: a connection, a server or a spawn fails, and the process lives.

use std::io::{ErrorKind, Read};
use std::sync::Arc;
use std::time::Duration;

use greenwood_runtime::net::{TcpListener, TcpStream};
use greenwood_runtime::{Event, Hub, JoinError, Queue, Semaphore, StreamServer, sleep};

use crate::limits::{check_echo, check_life, echo, processor_time};
use crate::support::{OnDrop, case, child_with_hubs, deadline_of, eventually, spawn_on};

const LIMIT: Duration = Duration::from_secs(240);

/// Lets the process have no more memory than it has, while `f` runs.
fn without_memory<R>(f: impl FnOnce() -> R) -> R {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').next().unwrap().parse().unwrap();
    let limit = |bytes| {
        let limit = libc::rlimit {
            rlim_cur: bytes,
            rlim_max: libc::RLIM_INFINITY,
        };
        // SAFETY: a valid limit.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) }, 0);
    };
    limit(pages * 4096);
    let result = f();
    limit(libc::RLIM_INFINITY);
    result
}

/// Puts all coroutines to use that the hubs have left over.
fn use_up_coroutines() -> Arc<Event> {
    let go = Arc::new(Event::new());
    for i in 0..4 * Hub::count() + 2 {
        let go = Arc::clone(&go);
        spawn_on(i % Hub::count(), move || {
            go.wait();
        });
    }
    sleep(Duration::from_millis(20));
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
        _ => {
            // The closure of a refused greenlet is dropped in the hub's own loop, where nothing
            // may wait: what is released later must not be handed to who has failed.
            let go = use_up_coroutines();
            let (permits, items) = (Arc::new(Semaphore::new(0)), Arc::new(Queue::new(0)));
            let (theirs, also) = (Arc::clone(&permits), Arc::clone(&items));
            let waits = OnDrop(move || _ = theirs.acquire());
            let gets = OnDrop(move || _ = also.get());
            let refused = without_memory(|| {
                let greenlet = spawn_on(0, move || drop((waits, gets)));
                assert!(greenlet.join_timeout(LIMIT));
                greenlet
            });
            assert!(matches!(refused.join(), Err(JoinError::Refused { .. })));
            permits.release();
            items.put(1).unwrap();
            assert_eq!((permits.counter(), items.len()), (1, 1));
            go.set();
        }
    }
    check_life();
}

#[test]
fn server_and_hub_outlive_a_lack_of_memory() {
    let _deadline = deadline_of(LIMIT);
    if let Some(part) = case() {
        return no_memory(&part);
    }
    for hubs in [1, 2, 4] {
        for part in ["connection", "server", "closure"] {
            let test = "no_memory::server_and_hub_outlive_a_lack_of_memory";
            child_with_hubs(test, part, hubs).passed();
        }
    }
}
