//! The matrix: every blocking call against a kill, a time-out of its own and one from outside, each
//! alone and at the same moment as what the call waits for, and as one another.
//!
//! Either the call has come to its end, and has what it waited for, or it has not, and then that is
//! still to be had: an item, a permit, a lock, a connection, a byte, a result. When all is done no
//! greenlet, descriptor or thread is left.

mod locks;
mod pools;
mod processes;
mod queues;
mod servers;
mod shares;
mod sockets;
#[cfg(feature = "tls")]
mod tls;
mod waits;

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use greenwood_runtime::{Hub, sleep, threadpool, with_timeout};

use crate::support::{
    EVERYWHERE, any_hub, case, child, deadline_of, eventually, open_descriptors, spawn_on,
};

const LONG: Duration = Duration::from_secs(3_600);

/// How many rounds a row has of each of eight kinds, if one takes microseconds. Optimized ones take
/// less, and so there are more.
const ROUNDS: usize = if cfg!(debug_assertions) { 100 } else { 400 };

/// One blocking call.
struct Row {
    name: &'static str,
    rounds: usize,
    has_limit: bool,
    round: Box<dyn Fn(Against, usize) + Send + Sync>,
}

/// Waits, no longer than told; whether it has got what it waited for.
type Call<S> = fn(&S, Option<Duration>) -> bool;

/// What comes for the one who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Against {
    Kill,
    KillAndNotification,
    Limit,
    LimitAndNotification,
    LimitAndKill,
    TimeOut,
    TimeOutAndNotification,
    TimeOutAndKill,
}

const ALL: [Against; 8] = [
    Against::Kill,
    Against::KillAndNotification,
    Against::Limit,
    Against::LimitAndNotification,
    Against::LimitAndKill,
    Against::TimeOut,
    Against::TimeOutAndNotification,
    Against::TimeOutAndKill,
];

impl Against {
    fn has_limit(self) -> bool {
        matches!(
            self,
            Against::Limit | Against::LimitAndNotification | Against::LimitAndKill
        )
    }

    fn has_time_out(self) -> bool {
        matches!(
            self,
            Against::TimeOut | Against::TimeOutAndNotification | Against::TimeOutAndKill
        )
    }

    fn has_kill(self) -> bool {
        matches!(
            self,
            Against::Kill
                | Against::KillAndNotification
                | Against::LimitAndKill
                | Against::TimeOutAndKill
        )
    }

    fn has_notification(self) -> bool {
        matches!(
            self,
            Against::KillAndNotification
                | Against::LimitAndNotification
                | Against::TimeOutAndNotification
        )
    }
}

/// A call: `scene` is where it takes place, new for each round. `call` waits, no longer than told,
/// and says whether it has got what it waited for. `notify` brings that, once, perhaps only after
/// the call. `settle` then looks whether all is there, given whether the call has got it.
fn row<S: Send + Sync + 'static>(
    name: &'static str,
    scene: fn() -> S,
    call: Call<S>,
    notify: fn(&S),
    settle: fn(&S, bool),
) -> Row {
    let round = move |against: Against, round: usize| {
        let scene = Arc::new(scene());
        let got = meet(&scene, call, notify, against, round);
        if !against.has_notification() {
            assert!(!got, "{name}: nobody has notified it");
            notify(&scene);
        }
        settle(&scene, got);
    };
    Row {
        name,
        rounds: ROUNDS,
        has_limit: true,
        round: Box::new(round),
    }
}

impl Row {
    fn play(&self, rounds: Range<usize>) {
        for against in ALL {
            if against.has_limit() && !self.has_limit {
                continue;
            }
            for round in rounds.clone() {
                (self.round)(against, round);
            }
        }
    }

    /// A round takes so much longer that there are fewer.
    fn slower(mut self, times: usize) -> Row {
        self.rounds = (ROUNDS / times).max(3);
        self
    }

    /// The call has no time limit of its own.
    fn without_limit(mut self) -> Row {
        self.has_limit = false;
        self
    }
}

/// Has one wait, and others come for it. Whether it has got what it waited for.
fn meet<S: Send + Sync + 'static>(
    scene: &Arc<S>,
    call: Call<S>,
    notify: fn(&S),
    against: Against,
    round: usize,
) -> bool {
    let brief = Duration::from_micros((round * 7 % 90) as u64);
    let theirs = Arc::clone(scene);
    let wait = move || {
        let limit = against.has_limit().then_some(brief);
        if against.has_time_out() {
            with_timeout(brief, || call(&theirs, limit)).unwrap_or(false)
        } else {
            call(&theirs, limit)
        }
    };
    if !against.has_kill() {
        // A greenlet that waited for a thread would hold up its hub.
        let places = if Hub::current().is_some() { 2 } else { 3 };
        let waiting = EVERYWHERE[round % places].start(wait);
        if against.has_notification() {
            pause(round);
            notify(scene);
        }
        return waiting();
    }
    let victim = spawn_on(any_hub(round), wait);
    pause(round);
    if !against.has_notification() {
        victim.kill_nowait();
    } else if round.is_multiple_of(3) {
        victim.kill_nowait();
        notify(scene);
    } else if round % 3 == 1 {
        notify(scene);
        victim.kill_nowait();
    } else {
        let theirs = Arc::clone(scene);
        let notifying = spawn_on(any_hub(round / 3 + 1), move || notify(&theirs));
        victim.kill_nowait();
        notifying.join().unwrap();
    }
    match victim.join() {
        Ok(got) => got,
        Err(error) => {
            assert!(error.is_killed(), "{error}");
            false
        }
    }
}

/// Lets the others come as far as they do in so much time: another one in each round.
fn pause(round: usize) {
    match round % 4 {
        0 => {}
        1 => sleep(Duration::ZERO),
        2 => sleep(Duration::from_micros(20)),
        _ => {
            let until = Instant::now() + Duration::from_micros((round * 3 % 70) as u64);
            while Instant::now() < until {
                std::hint::spin_loop();
            }
        }
    }
}

/// Plays all rows in a process of its own, half of the rounds from a thread and half from a greenlet,
/// and looks what is left.
fn play(test: &str, rows: impl FnOnce() -> Vec<Row>) {
    // Thousands of rounds, of which each may be put aside on a busy machine.
    let _deadline = deadline_of(Duration::from_secs(300));
    if case().is_none() {
        child(test, "play", &[]).passed();
        return;
    }
    let rows: Vec<_> = rows().into_iter().map(Arc::new).collect();
    // For what a first use leaves for ever.
    rows.iter().for_each(|row| play_row(row, 4));
    eventually("no greenlet is left", || Hub::greenlets() == 0);
    // A lookup that nobody waits for any more has files open.
    assert!(threadpool().join(Some(LONG)));
    let before = left();
    for row in &rows {
        let began = Instant::now();
        play_row(row, row.rounds);
        // For who wants to know where a hang is, or the time goes.
        eprintln!("{}: {:?}", row.name, began.elapsed());
    }
    eventually("no greenlet is left", || Hub::greenlets() == 0);
    eventually(&format!("as before: {before:?}"), || {
        let now = left();
        // A thread pool's threads end when there was nothing to do for a while.
        now.0 == before.0 && now.1 <= before.1
    });
}

fn play_row(row: &Arc<Row>, rounds: usize) {
    let half = rounds / 2;
    row.play(0..half);
    let theirs = Arc::clone(row);
    let playing = spawn_on(0, move || theirs.play(half..rounds));
    playing
        .join()
        .unwrap_or_else(|error| panic!("{}: {error}", row.name));
}

/// Descriptors and threads.
fn left() -> (usize, usize) {
    let threads = std::fs::read_dir("/proc/self/task").expect("/proc is mounted");
    (open_descriptors(), threads.count())
}
