//! Others, beside whom a test does something: one who surely waits by then, and one whose turns are
//! long.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use greenwood_runtime::{Greenlet, Hub, sleep};

use crate::support::{EVERYWHERE, From, eventually, spawn_on, waits_for};

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

/// Has the two ends of a connection used by greenlets of all hubs and by threads, in turn.
pub(crate) fn wander<S: Read + Write + Send + 'static>(mut here: S, mut there: S) {
    for round in 0..40_u8 {
        let reader = EVERYWHERE[usize::from(round) % 3].start_waiting(move || {
            let mut buffer = [0];
            there.read_exact(&mut buffer).unwrap();
            (buffer[0], there)
        });
        here = EVERYWHERE[usize::from(round) / 3 % 3].run(move || {
            here.write_all(&[round]).unwrap();
            here
        });
        let (byte, stream) = reader();
        assert_eq!(byte, round);
        there = stream;
    }
}

/// Lets the process have so many more bytes of address space than it has, while `f` runs.
pub(crate) fn with_little_memory<R>(more: u64, f: impl FnOnce() -> R) -> R {
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
    limit(pages * 4096 + more);
    let result = f();
    limit(libc::RLIM_INFINITY);
    result
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
