//! [`before_switch`]: what was put off is done before others run.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use greenwood_runtime::{
    BeforeSwitch, Event, Semaphore, before_switch, idle, joinall, sleep, spawn, spawn_local,
    with_timeout,
};

use crate::support::{EVERYWHERE, deadline, spawn_on};

#[derive(Default)]
struct Log(Mutex<Vec<&'static str>>);

impl Log {
    fn write(&self, text: &'static str) {
        self.0.lock().unwrap().push(text);
    }
}

struct Flush(Arc<Log>);

impl BeforeSwitch for Flush {
    fn before_switch(self: Arc<Self>) {
        self.0.write("flush");
    }
}

#[test]
fn hook_runs_once_before_the_next_switch() {
    let _deadline = deadline();
    spawn(|| {
        let log = Arc::new(Log::default());
        let theirs = Arc::clone(&log);
        let neighbour = spawn_local(move || theirs.write("neighbour"));
        let flush = Arc::new(Flush(Arc::clone(&log)));
        assert!(before_switch(&flush));
        // One at a time: the second caller does its work at once.
        assert!(!before_switch(&flush));
        log.write("still here");
        idle();
        log.write("back");
        idle();
        assert_eq!(
            *log.0.lock().unwrap(),
            ["still here", "flush", "neighbour", "back"]
        );
        assert!(before_switch(&flush));
        neighbour.join().unwrap();
    })
    .join()
    .unwrap();
}

#[test]
fn hook_runs_at_the_end_of_a_greenlet_and_before_its_joiner_goes_on() {
    let _deadline = deadline();
    for killed in [false, true] {
        let log = Arc::new(Log::default());
        let theirs = Arc::clone(&log);
        let greenlet = spawn(move || {
            assert!(before_switch(&Arc::new(Flush(theirs))));
            if killed {
                greenwood_runtime::getcurrent().unwrap().kill_nowait();
            }
        });
        assert_eq!(greenlet.join().is_err(), killed);
        assert_eq!(*log.0.lock().unwrap(), ["flush"]);
    }
}

#[test]
fn there_is_no_hook_outside_greenlets() {
    assert!(!before_switch(&Arc::new(Flush(Arc::default()))));
}

struct Panics;

impl BeforeSwitch for Panics {
    fn before_switch(self: Arc<Self>) {
        std::panic::resume_unwind(Box::new("hook"));
    }
}

#[test]
fn hook_that_panics_ends_its_greenlet_only() {
    let _deadline = deadline();
    // In a wait: nothing of the wait is left behind.
    let semaphore = Arc::new(Semaphore::new(0));
    let theirs = Arc::clone(&semaphore);
    let greenlet = spawn_on(0, move || {
        assert!(before_switch(&Arc::new(Panics)));
        assert!(theirs.acquire());
    });
    let error = greenlet.join().unwrap_err();
    assert!(error.to_string().ends_with("panicked: hook"), "{error}");
    semaphore.release();
    assert_eq!(semaphore.counter(), 1);
    // At the end: the result is there, and whoever waits is told.
    let greenlet = spawn_on(0, || {
        assert!(before_switch(&Arc::new(Panics)));
        "result"
    });
    assert_eq!(greenlet.join().unwrap(), "result");
    assert_eq!(spawn_on(0, || 1).join().unwrap(), 1);
}

struct SetsAndPanics(Arc<Event>);

impl BeforeSwitch for SetsAndPanics {
    fn before_switch(self: Arc<Self>) {
        self.0.set();
        std::panic::resume_unwind(Box::new("hook"));
    }
}

#[test]
fn panic_of_a_hook_that_ends_the_wait_itself_comes_with_the_next_switch() {
    let _deadline = deadline();
    let waited = Arc::new(AtomicUsize::new(0));
    let theirs = Arc::clone(&waited);
    let greenlet = spawn_on(0, move || {
        let event = Arc::new(Event::new());
        assert!(before_switch(&Arc::new(SetsAndPanics(Arc::clone(&event)))));
        assert!(event.wait());
        theirs.fetch_add(1, Ordering::SeqCst);
        idle();
    });
    let error = greenlet.join().unwrap_err();
    assert!(error.to_string().ends_with("panicked: hook"), "{error}");
    assert_eq!(waited.load(Ordering::SeqCst), 1);
}

struct Waits(Arc<Event>, Arc<Event>);

impl BeforeSwitch for Waits {
    fn before_switch(self: Arc<Self>) {
        self.0.set();
        self.1.wait();
    }
}

/// A hook must not block; if it does, the wait behind it still ends.
#[test]
fn what_comes_while_a_hook_blocks_is_not_missed() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        let [blocks, goes_on, ends] = [(); 3].map(|()| Arc::new(Event::new()));
        let hook = Arc::new(Waits(Arc::clone(&blocks), Arc::clone(&goes_on)));
        let theirs = Arc::clone(&ends);
        let greenlet = spawn_on(0, move || {
            assert!(before_switch(&hook));
            theirs.wait()
        });
        from.run(move || {
            blocks.wait();
            ends.set();
            sleep(Duration::from_millis(1));
            goes_on.set();
        });
        assert!(greenlet.join().unwrap());
    }
}

struct Blocks(Arc<AtomicUsize>);

impl BeforeSwitch for Blocks {
    fn before_switch(self: Arc<Self>) {
        sleep(Duration::from_micros(10));
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A hook must not block; one that does may be late, but ends nothing.
#[test]
fn hook_that_blocks_does_not_break_the_hub() {
    let _deadline = deadline();
    let done = Arc::new(AtomicUsize::new(0));
    let greenlets: Vec<_> = (0..20)
        .map(|i| {
            let done = Arc::clone(&done);
            spawn_on(0, move || {
                assert!(before_switch(&Arc::new(Blocks(Arc::clone(&done)))));
                if i % 2 == 0 {
                    let _ = with_timeout(Duration::from_millis(1), || {
                        sleep(Duration::from_secs(3_600));
                    });
                }
            })
        })
        .collect();
    assert!(joinall(&greenlets, None));
    assert_eq!(done.load(Ordering::SeqCst), 20);
    // Killed at its end, while its hook blocks.
    let greenlet = spawn_on(0, || {
        assert!(before_switch(&Arc::new(Blocks(Arc::default()))));
        let me = greenwood_runtime::getcurrent().unwrap();
        spawn_local(move || me.kill_nowait());
    });
    assert!(greenlet.join_timeout(Duration::from_secs(30)));
}

/// Sets another hook, so many times; its destructor blocks.
struct Nested(usize, Arc<AtomicUsize>);

impl BeforeSwitch for Nested {
    fn before_switch(self: Arc<Self>) {
        if let Some(rest) = self.0.checked_sub(1) {
            assert!(before_switch(&Arc::new(Nested(rest, Arc::clone(&self.1)))));
        }
    }
}

impl Drop for Nested {
    fn drop(&mut self) {
        sleep(Duration::from_millis(1));
        self.1.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn hooks_left_by_hooks_run_at_the_end() {
    let _deadline = deadline();
    let dropped = Arc::new(AtomicUsize::new(0));
    let theirs = Arc::clone(&dropped);
    let greenlet = spawn(move || before_switch(&Arc::new(Nested(4, theirs))));
    assert!(greenlet.join().unwrap());
    assert_eq!(dropped.load(Ordering::SeqCst), 5);
    // Those that go on for ever do not.
    spawn(|| before_switch(&Arc::new(Endless))).join().unwrap();
}

struct Endless;

impl BeforeSwitch for Endless {
    fn before_switch(self: Arc<Self>) {
        assert!(before_switch(&self));
    }
}
