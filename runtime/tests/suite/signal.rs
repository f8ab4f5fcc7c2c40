//! Signals: handlers in greenlets, and the iterator. Each test has a signal of its own, as they
//! belong to the process.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use greenwood_runtime::net::TcpStream;
use greenwood_runtime::signal::{self, Signals, raise, signal_handler};
use greenwood_runtime::{Event, Hub, Queue, StreamServer, current_id, sleep, spawn, with_timeout};

use crate::limits::processor_time;
use crate::others::LongTurns;
use crate::support::{
    EVERYWHERE, From, any_hub, case, child, child_with_hubs, deadline, eventually,
    open_descriptors, spawn_on, until_waits,
};

const SOON: Duration = Duration::from_secs(20);

#[test]
fn each_signal_runs_the_handler_in_a_greenlet_of_its_own() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let seen = Arc::new(Queue::new(0));
            let theirs = Arc::clone(&seen);
            let handler = signal_handler(signal::SIGUSR1, move || {
                theirs.put(current_id()).ok();
            })
            .unwrap();
            assert_eq!(handler.signal(), signal::SIGUSR1);
            let mut greenlets = HashSet::new();
            for _ in 0..3 {
                raise(signal::SIGUSR1).unwrap();
                greenlets.insert(seen.get_timeout(SOON).unwrap().unwrap());
            }
            assert_eq!(greenlets.len(), 3);
            handler.cancel();
        });
    }
}

#[test]
fn a_handler_that_blocks_does_not_hold_up_the_next_signal() {
    let _deadline = deadline();
    let calls = Arc::new(AtomicUsize::new(0));
    let release = Arc::new(Event::new());
    let (count, gate) = (Arc::clone(&calls), Arc::clone(&release));
    let handler = signal_handler(signal::SIGUSR2, move || {
        count.fetch_add(1, Ordering::SeqCst);
        gate.wait();
    })
    .unwrap();
    for n in 1..=3 {
        raise(signal::SIGUSR2).unwrap();
        eventually("the handler is called", || {
            calls.load(Ordering::SeqCst) == n
        });
    }
    release.set();
    handler.cancel();
}

#[test]
fn all_handlers_of_a_signal_are_called_those_of_others_too() {
    let _deadline = deadline();
    let foreign = Arc::new(AtomicBool::new(false));
    let id = signal_hook::flag::register(signal::SIGWINCH, Arc::clone(&foreign)).unwrap();
    let calls = Arc::new(Queue::new(0));
    let handlers: Vec<_> = (0..3)
        .map(|i| {
            let calls = Arc::clone(&calls);
            signal_handler(signal::SIGWINCH, move || calls.put(i).unwrap()).unwrap()
        })
        .collect();
    raise(signal::SIGWINCH).unwrap();
    let called: HashSet<_> = (0..3).map(|_| calls.get_timeout(SOON).unwrap()).collect();
    assert_eq!(called, HashSet::from([0, 1, 2]));
    assert!(foreign.swap(false, Ordering::SeqCst));

    // One less: the others go on.
    handlers[1].cancel();
    raise(signal::SIGWINCH).unwrap();
    let called: HashSet<_> = (0..2).map(|_| calls.get_timeout(SOON).unwrap()).collect();
    assert_eq!(called, HashSet::from([0, 2]));
    assert!(foreign.load(Ordering::SeqCst));
    handlers.iter().for_each(signal::SignalHandler::cancel);
    eventually("the listeners end", || {
        format!("{handlers:?}").matches("over: true").count() == 3
    });
    raise(signal::SIGWINCH).unwrap();
    assert_eq!(calls.len(), 0);
    signal_hook::low_level::unregister(id);
}

#[test]
fn a_handler_that_panics_is_called_again() {
    let _deadline = deadline();
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    let handler = signal_handler(signal::SIGURG, move || {
        count.fetch_add(1, Ordering::SeqCst);
        panic!("a panic that the test wants");
    })
    .unwrap();
    for n in 1..=2 {
        raise(signal::SIGURG).unwrap();
        eventually("the handler is called", || {
            calls.load(Ordering::SeqCst) == n
        });
    }
    handler.cancel();
}

#[test]
fn signals_that_cannot_be_handled_are_refused() {
    let _deadline = deadline();
    for number in [
        signal::SIGKILL,
        signal::SIGSTOP,
        signal::SIGSEGV,
        signal::SIGBUS,
        signal::SIGILL,
        signal::SIGFPE,
    ] {
        let error = signal_handler(number, || ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("can't be handled"), "{error}");
    }
    for number in [0, -1, 32, 65, 4_096] {
        let error = signal_handler(number, || ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("no such signal"), "{error}");
    }
    assert!(Signals::new([signal::SIGIO, signal::SIGKILL]).is_err());
    assert!(raise(4_096).is_err());
}

#[test]
fn the_iterator_tells_signals_apart_and_has_time_limits() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let mut signals = Signals::new([signal::SIGVTALRM, signal::SIGPROF]).unwrap();
            assert_eq!(signals.next_timeout(Duration::from_millis(1)), None);
            // Of one number, they are one until they are looked after.
            for _ in 0..1_000 {
                raise(signal::SIGPROF).unwrap();
            }
            raise(signal::SIGVTALRM).unwrap();
            assert_eq!(signals.next(), Some(signal::SIGVTALRM));
            assert_eq!(signals.next(), Some(signal::SIGPROF));
            assert_eq!(signals.next_timeout(Duration::ZERO), None);
            let late = with_timeout(Duration::from_millis(1), || signals.next());
            assert!(late.is_err());
            // Nothing is lost between two waits.
            raise(signal::SIGPROF).unwrap();
            assert_eq!(signals.next_timeout(SOON), Some(signal::SIGPROF));
        });
    }
}

#[test]
fn a_wait_for_signals_can_be_killed_thousands_of_times() {
    let _deadline = deadline();
    for i in 0..2_000 {
        let mut signals = Signals::new([signal::SIGXFSZ]).unwrap();
        let waiting = spawn_on(any_hub(i), move || signals.next());
        if i % 2 == 0 {
            sleep(Duration::ZERO);
        }
        waiting.kill();
        assert!(waiting.join().is_err());
    }
}

#[test]
fn every_signal_of_a_storm_is_followed_by_a_call() {
    let _deadline = deadline();
    let value = Arc::new(AtomicUsize::new(0));
    let seen = Arc::new(AtomicUsize::new(0));
    let handlers: Vec<_> = (0..Hub::count())
        .map(|hub| {
            let (value, seen) = (Arc::clone(&value), Arc::clone(&seen));
            spawn_on(hub, || {
                signal_handler(signal::SIGXCPU, move || {
                    seen.fetch_max(value.load(Ordering::SeqCst), Ordering::SeqCst);
                })
                .unwrap()
            })
            .join()
            .unwrap()
        })
        .collect();
    for n in 1..=3_000 {
        value.store(n, Ordering::SeqCst);
        raise(signal::SIGXCPU).unwrap();
        if n % 100 == 0 {
            eventually("the last one is handled", || {
                seen.load(Ordering::SeqCst) == n
            });
        }
    }
    handlers.iter().for_each(signal::SignalHandler::cancel);
}

#[test]
fn a_cancelled_handler_leaves_nothing() {
    const NAME: &str = "signal::a_cancelled_handler_leaves_nothing";
    if case().is_none() {
        return child(NAME, "alone", &[]).passed();
    }
    let _deadline = deadline();
    let round = |from: From| {
        from.run(|| {
            let handler = signal_handler(signal::SIGHUP, || ()).unwrap();
            raise(signal::SIGHUP).unwrap();
            handler.cancel();
            handler.cancel();
        });
        eventually("no greenlet is left", || Hub::greenlets() == 0);
    };
    // The first descriptors are those that a hub keeps.
    EVERYWHERE.into_iter().for_each(round);
    let before = open_descriptors();
    for i in 0..300 {
        round(EVERYWHERE[i % 3]);
    }
    assert_eq!(open_descriptors(), before);
    // Nobody handles it any more, and nothing happens.
    raise(signal::SIGHUP).unwrap();
}

#[test]
fn a_handler_stops_a_server() {
    const NAME: &str = "signal::a_handler_stops_a_server";
    if case().is_none() {
        return child(NAME, "server", &[]).passed();
    }
    let _deadline = deadline();
    // Its first connection brings the signal, so it serves by then.
    let server = StreamServer::new("127.0.0.1:0", |_, _| raise(signal::SIGTERM).unwrap()).unwrap();
    for signal in [signal::SIGINT, signal::SIGTERM] {
        let stopping = server.clone();
        signal_handler(signal, move || {
            stopping.stop(Duration::from_secs(5));
        })
        .unwrap();
    }
    let address = server.local_addr();
    let client = spawn(move || TcpStream::connect(address).map(drop));
    server.serve_forever().unwrap();
    client.join().unwrap().unwrap();
}

#[test]
fn no_signals_never_come() {
    const NAME: &str = "signal::no_signals_never_come";
    if case().is_none() {
        return child(NAME, "alone", &[]).passed();
    }
    let _deadline = deadline();
    for from in EVERYWHERE {
        let before = processor_time();
        from.run(|| {
            let mut none = Signals::new([]).unwrap();
            let limit = Duration::from_millis(500);
            assert_eq!(with_timeout(limit, || none.next()).ok().flatten(), None);
            assert_eq!(none.next_timeout(Duration::from_millis(1)), None);
        });
        let took = processor_time() - before;
        assert!(took < Duration::from_millis(250), "{took:?}");
    }
}

#[test]
fn signals_come_when_no_descriptor_is_left() {
    const NAME: &str = "signal::signals_come_when_no_descriptor_is_left";
    if case().is_none() {
        for hubs in [1, 2, 4] {
            child_with_hubs(NAME, "alone", hubs).passed();
        }
        return;
    }
    let _deadline = deadline();
    spawn(|| ()).join().unwrap();
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    signal_handler(signal::SIGTERM, move || {
        count.fetch_add(1, Ordering::SeqCst);
    })
    .unwrap();
    let all: Vec<_> = (0..Hub::count())
        .map(|_| Signals::new([signal::SIGUSR1]).unwrap())
        .collect();
    let null = std::fs::File::open("/dev/null").unwrap();
    let fillers: Vec<_> = std::iter::from_fn(|| null.try_clone().ok()).collect();
    assert!(!fillers.is_empty());
    let waiting: Vec<_> = all
        .into_iter()
        .enumerate()
        .map(|(hub, mut signals)| spawn_on(hub, move || signals.next_timeout(SOON)))
        .collect();
    for greenlet in &waiting {
        until_waits(greenlet.id());
    }
    raise(signal::SIGUSR1).unwrap();
    raise(signal::SIGTERM).unwrap();
    for greenlet in waiting {
        assert_eq!(greenlet.join().unwrap(), Some(signal::SIGUSR1));
    }
    eventually("the handler is called", || seen.load(Ordering::SeqCst) == 1);
}

#[test]
fn a_signal_that_comes_as_the_time_runs_out_is_not_lost() {
    let _deadline = deadline();
    // Each turn of this one is longer than the time for one signal.
    let _slow = LongTurns::start();
    let lost = spawn_on(0, || {
        let mut signals = Signals::new([signal::SIGTTIN]).unwrap();
        (0..300).find(|_| {
            raise(signal::SIGTTIN).unwrap();
            let limit = Duration::from_micros(500);
            let mut tries = 0..2_000;
            !tries.any(|_| with_timeout(limit, || signals.next()).is_ok())
        })
    });
    assert_eq!(lost.join().unwrap(), None);
}
