//! Others, beside whom a test does something: one who surely waits by then, and one whose turns are
//! long.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use greenwood_runtime::{Greenlet, Hub, sleep};

use crate::support::{From, eventually, spawn_on, waits_for};

impl From {
    /// As [`start`](From::start), but returns when what was started waits, or has ended.
    #[track_caller]
    pub(crate) fn start_waiting<T: Send + 'static>(
        self,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> Box<dyn FnOnce() -> T> {
        let hub = match self {
            From::Thread => return thread_that_waits(f),
            From::SameHub => 0,
            From::OtherHub => Hub::count() - 1,
        };
        let greenlet = spawn_on(hub, f);
        until_waits_or_ends(&greenlet);
        Box::new(|| greenlet.join().expect("the greenlet does not panic"))
    }
}

/// Waits until the greenlet waits, or has ended: for one who may find at once what it waits for.
#[track_caller]
pub(crate) fn until_waits_or_ends<T>(greenlet: &Greenlet<T>) {
    eventually("it waits", || {
        greenlet.ready() || waits_for(greenlet.id()).is_some()
    });
}

#[track_caller]
fn thread_that_waits<T: Send + 'static>(
    f: impl FnOnce() -> T + Send + 'static,
) -> Box<dyn FnOnce() -> T> {
    let (tells, told) = channel();
    let thread = std::thread::spawn(move || {
        tells.send(std::fs::read_link("/proc/thread-self")).ok();
        f()
    });
    let own = told.recv().expect("it begins").expect("/proc is mounted");
    let status = std::path::Path::new("/proc").join(own).join("stat");
    eventually("it waits", || {
        // "id (name) state ..."; the name may have spaces and brackets.
        let status = std::fs::read_to_string(&status).unwrap_or_default();
        let sleeps = status
            .rsplit_once(')')
            .is_some_and(|(_, rest)| rest.starts_with(" S"));
        thread.is_finished() || sleeps
    });
    Box::new(|| thread.join().expect("the thread does not panic"))
}

/// A greenlet of hub 0 each of whose turns takes a millisecond, until this is dropped.
pub(crate) struct LongTurns {
    over: Arc<AtomicBool>,
    greenlet: Greenlet<()>,
}

impl LongTurns {
    pub(crate) fn start() -> LongTurns {
        let over = Arc::new(AtomicBool::new(false));
        let theirs = Arc::clone(&over);
        let greenlet = spawn_on(0, move || {
            while !theirs.load(Ordering::Relaxed) {
                spin(Duration::from_millis(1));
                sleep(Duration::ZERO);
            }
        });
        LongTurns { over, greenlet }
    }
}

impl Drop for LongTurns {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        self.greenlet.join_timeout(Duration::from_secs(30));
    }
}

/// Keeps the thread busy for so long, or longer.
pub(crate) fn spin(time: Duration) {
    let began = Instant::now();
    while began.elapsed() < time {
        std::hint::spin_loop();
    }
}
