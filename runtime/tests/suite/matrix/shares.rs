//! Calls that need not wait give way to others now and then, and a kill may come just then: what
//! such a call was about to take is not lost with it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use greenwood_runtime::net::{TcpListener, TcpStream};
use greenwood_runtime::signal::{SIGSYS, Signals, raise};
use greenwood_runtime::{Event, Semaphore, Waitable, iwait, sleep};

use crate::support::{deadline, spawn_on};

/// Calls are counted in two ways, and each of them may be the one that gives way: so many rounds
/// begin at different counts of the first.
const ROUNDS: usize = 40;
/// More than are taken before others have their turn.
const THINGS: usize = 160;

/// Has a greenlet take one thing after the other, and killed when it lets others have their turn,
/// which it does nowhere but in `take`. Returns how many it has got.
fn got_before_the_kill<S: Send + 'static>(
    scene: &Arc<Mutex<S>>,
    round: usize,
    mut take: impl FnMut(&mut S) + Send + 'static,
) -> usize {
    let (theirs, got) = (Arc::clone(scene), Arc::new(AtomicUsize::new(0)));
    let counts = Arc::clone(&got);
    let driver = spawn_on(0, move || {
        let victim = spawn_on(0, move || {
            // Nobody else wants it meanwhile.
            let mut scene = theirs.lock().unwrap();
            let permits = Semaphore::new(round);
            (0..round).for_each(|_| assert!(permits.acquire()));
            loop {
                take(&mut scene);
                counts.fetch_add(1, Ordering::SeqCst);
            }
        });
        for _ in 0..=round % 3 {
            sleep(Duration::ZERO);
        }
        victim.kill_nowait();
        assert!(victim.join().unwrap_err().is_killed());
    });
    driver.join().unwrap();
    // The kill has poisoned it.
    scene.clear_poison();
    got.load(Ordering::SeqCst)
}

#[test]
fn no_ready_thing_is_lost() {
    let _deadline = deadline();
    for round in 0..ROUNDS {
        let events: Vec<_> = (0..THINGS * 3).map(|_| Event::new()).collect();
        let (last, others) = events.split_last().unwrap();
        others.iter().for_each(Event::set);
        let things: Vec<_> = events.iter().map(|event| event as &dyn Waitable).collect();
        let ready = Arc::new(Mutex::new(iwait(&things, None)));
        let got = got_before_the_kill(&ready, round, |ready| {
            ready.next().unwrap();
        });
        last.set();
        let rest = ready.lock().unwrap().by_ref().count();
        assert_eq!(got + rest, things.len());
    }
}

#[test]
fn no_signal_is_lost() {
    let _deadline = deadline();
    for round in 0..ROUNDS {
        let raised = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&raised);
        let signals = Arc::new(Mutex::new(Signals::new([SIGSYS]).unwrap()));
        let got = got_before_the_kill(&signals, round, move |signals| {
            raise(SIGSYS).unwrap();
            count.fetch_add(1, Ordering::SeqCst);
            assert_eq!(signals.next(), Some(SIGSYS));
        });
        let rest = signals
            .lock()
            .unwrap()
            .next_timeout(Duration::ZERO)
            .is_some();
        assert_eq!(got + usize::from(rest), raised.load(Ordering::SeqCst));
    }
}

#[test]
fn no_connection_is_lost() {
    let _deadline = deadline();
    for round in 0..ROUNDS {
        let listener = TcpListener::bind_with_backlog("127.0.0.1:0", 2 * THINGS as i32).unwrap();
        let address = listener.local_addr().unwrap();
        let clients: Vec<_> = (0..THINGS)
            .map(|_| TcpStream::connect(address).unwrap())
            .collect();
        let listener = Arc::new(Mutex::new(listener));
        let got = got_before_the_kill(&listener, round, |listener| {
            listener.accept().unwrap();
        });
        let listener = listener.lock().unwrap();
        let mut rest = 0;
        while listener.accept_timeout(Duration::ZERO).is_ok() {
            rest += 1;
        }
        assert_eq!(got + rest, clients.len());
    }
}
