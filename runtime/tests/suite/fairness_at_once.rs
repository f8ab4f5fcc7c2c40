//! Calls that mostly wait, in the cases in which they return at once: they count as the others do.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use greenwood_runtime::net::{TcpStream, UdpSocket, getaddrinfo};
use greenwood_runtime::subprocess::Popen;
use greenwood_runtime::{Greenlet, Group, Pool, RLock, joinall, killall, spawn_local};

use crate::fairness::{check, loops};

#[test]
fn lock_that_its_owner_takes_again_does_not_starve_the_hub() {
    check(|over| {
        let over = Arc::clone(over);
        vec![spawn_local(move || {
            let lock = RLock::new();
            let _outer = lock.lock().unwrap();
            while !over.load(Ordering::SeqCst) {
                assert!(lock.acquire());
                lock.release();
            }
        })]
    });
}

#[test]
fn connections_that_fail_at_once_do_not_starve_the_hub() {
    // No socket may be connected to it: the system says so without asking anybody.
    let nowhere = "255.255.255.255:9";
    assert!(TcpStream::connect(nowhere).is_err());
    check(|over| {
        loops(over, 1, || {
            assert!(TcpStream::connect("255.255.255.255:9").is_err())
        })
    });
}

#[test]
fn addresses_that_need_no_lookup_do_not_starve_the_hub() {
    check(|over| {
        loops(over, 1, || {
            assert!(getaddrinfo("127.0.0.1", 9, None).is_ok())
        })
    });
}

#[test]
fn processes_that_can_not_be_started_do_not_starve_the_hub() {
    check(|over| {
        loops(over, 1, || {
            assert!(Popen::new(&mut Command::new("/nowhere")).is_err())
        })
    });
}

#[test]
fn datagrams_that_nobody_receives_do_not_starve_the_hub() {
    check(|over| {
        let over = Arc::clone(over);
        vec![spawn_local(move || {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            let nobody = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.connect(nobody.local_addr().unwrap()).unwrap();
            drop(nobody);
            while !over.load(Ordering::SeqCst) {
                socket.send(b"x").ok();
            }
        })]
    });
}

#[test]
fn work_that_a_member_does_itself_does_not_starve_the_hub() {
    check(|over| {
        let (pool, over) = (Pool::new(1), Arc::clone(over));
        let its = pool.clone();
        let member = move || {
            while !over.load(Ordering::SeqCst) {
                assert_eq!(its.apply(|| 1).unwrap(), 1);
                assert_eq!(its.map(|n| n, [1, 2]).unwrap(), [1, 2]);
            }
        };
        vec![pool.spawn_local(Default::default(), member).unwrap()]
    });
}

#[test]
fn waits_for_nobody_do_not_starve_the_hub() {
    check(|over| {
        loops(over, 1, || {
            let nobody: [Greenlet<()>; 0] = [];
            assert!(joinall(&nobody, None) && killall(&nobody, None));
        })
    });
    check(|over| loops(over, 1, || Group::new().kill()));
}
