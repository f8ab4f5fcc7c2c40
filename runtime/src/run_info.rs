//! [`RunInfo`]: who runs, who waits, and for what: gevent's `print_run_info`.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Write};
use std::os::fd::RawFd;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use crate::greenlet::{current_id, kill_task};
use crate::hub::{self, HubLocal};
use crate::queue::Queue;
use crate::stats::{HubStats, Ticks};
use crate::sys::{coarse_now_ns, now_ns};
use crate::task::Task;
use crate::{Hub, switch};

/// How long the hubs have to answer: those that are blocked don't.
const PATIENCE: Duration = Duration::from_secs(1);

/// How deep the tree is drawn; what is deeper is drawn at this depth.
const MAX_INDENT: usize = 24;

/// What a greenlet waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitsFor {
    /// Its next turn: it has let the others of its hub have theirs.
    #[default]
    Turn,
    /// A [`sleep`](crate::sleep)'s end.
    Sleep,
    /// A descriptor that can be read.
    Read,
    /// A descriptor that can be written.
    Write,
    /// A greenlet's end.
    Greenlet,
    /// An [`Event`](crate::Event).
    Event,
    /// A queue: an item, or room for one.
    Queue,
    /// An [`AsyncResult`](crate::AsyncResult).
    Result,
    /// A [`Semaphore`](crate::Semaphore), or a lock that is built on one.
    Semaphore,
    /// An [`RwLock`](crate::RwLock).
    Lock,
    /// A [`Condvar`](crate::Condvar).
    Condvar,
    /// The members of a [`Group`](crate::Group), or a place in a [`Pool`](crate::Pool).
    Pool,
    /// A [`ThreadPool`](crate::ThreadPool): a job's end, a thread for one, or the end of all. A lookup
    /// of a name is one of its jobs.
    Thread,
    /// One of several things.
    Several,
}

impl WaitsFor {
    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            WaitsFor::Turn => "its turn",
            WaitsFor::Sleep => "the end of a sleep",
            WaitsFor::Read => "input",
            WaitsFor::Write => "output",
            WaitsFor::Greenlet => "a greenlet's end",
            WaitsFor::Event => "an event",
            WaitsFor::Queue => "a queue",
            WaitsFor::Result => "a result",
            WaitsFor::Semaphore => "a semaphore",
            WaitsFor::Lock => "a lock",
            WaitsFor::Condvar => "a condition",
            WaitsFor::Pool => "a pool",
            WaitsFor::Thread => "a thread of the pool",
            WaitsFor::Several => "one of several things",
        }
    }
}

impl fmt::Display for WaitsFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a greenlet does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// Its time has not come: `spawn_later`.
    Scheduled {
        /// When it begins.
        left: Duration,
    },
    /// It waits for its first turn.
    Starting,
    /// It asks for this very list.
    Running,
    /// It waits, or has been woken and waits for its turn.
    #[non_exhaustive]
    Waiting {
        /// For what.
        what: WaitsFor,
        /// The number of the descriptor, if it waits for one: the socket's, or a duplicate's.
        descriptor: Option<RawFd>,
        /// For how long it has waited, to some 20 ms.
        since: Duration,
        /// When it stops waiting, if there is a time limit.
        left: Option<Duration>,
    },
}

/// One greenlet. From [`RunInfo`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct GreenletInfo {
    /// Its number.
    pub id: u64,
    /// The name that it was given, else `greenlet-` and its number.
    pub name: String,
    /// The hub that it belongs to.
    pub hub: usize,
    /// The greenlet that spawned it; none if a plain thread did.
    pub parent: Option<u64>,
    /// Where it was spawned.
    pub spawned_at: &'static Location<'static>,
    /// It has been killed, and not ended yet.
    pub killed: bool,
    /// What it does.
    pub state: State,
}

/// One hub. From [`RunInfo`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct HubInfo {
    /// What it has counted.
    pub stats: HubStats,
    /// It has told of its greenlets. One that is blocked does not.
    pub answers: bool,
}

/// The hubs and greenlets of the process at one moment. From [`run_info`].
///
/// As text it is the tree of who spawned whom.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RunInfo {
    /// The hubs, in order.
    pub hubs: Vec<HubInfo>,
    /// The greenlets of those that answer, in the order of their numbers. The runtime's own are
    /// among them, as those that wait for a signal.
    pub greenlets: Vec<GreenletInfo>,
}

/// What only the hub can tell of a greenlet.
struct Sketch {
    task: Arc<Task>,
    state: Sketched,
}

enum Sketched {
    Scheduled(u64),
    Starting,
    Waiting(WaitsFor, Option<RawFd>, Ticks, Option<u64>),
}

/// Who runs and who waits, on all hubs: the data of gevent's `print_run_info` and `GreenletTree`.
///
/// Each hub is asked, and answers when it has its turn; one that does not within a second is blocked
/// and said to be. With 100,000 greenlets it takes a hub some milliseconds to answer. Starts the
/// hubs if need be.
///
/// ```
/// use greenwood_runtime::{Builder, Event, run_info};
/// use std::sync::Arc;
///
/// let done = Arc::new(Event::new());
/// let theirs = Arc::clone(&done);
/// let worker = Builder::new().name("worker").spawn(move || theirs.wait()).unwrap();
/// let info = run_info();
/// assert!(info.greenlets.iter().any(|greenlet| greenlet.name == "worker"));
/// println!("{info}");
/// done.set();
/// worker.join().unwrap();
/// ```
pub fn run_info() -> RunInfo {
    let (sketches, answers) = survey(|_| true);
    let (now, coarse, me) = (now_ns(), coarse_now_ns(), current_id());
    let mut greenlets: Vec<_> = sketches
        .into_iter()
        .map(|sketch| describe(sketch, now, coarse, me))
        .collect();
    greenlets.sort_unstable_by_key(|greenlet| greenlet.id);
    // Who began between two looks has been seen twice.
    greenlets.dedup_by_key(|greenlet| greenlet.id);
    let hubs = Hub::stats()
        .into_iter()
        .zip(answers)
        .map(|(stats, answers)| HubInfo { stats, answers })
        .collect();
    RunInfo { hubs, greenlets }
}

/// Writes what [`run_info`] tells to stderr: gevent's `print_run_info`.
pub fn print_run_info() {
    let text = run_info().to_string();
    // Nobody may be left to read it.
    io::stderr().write_all(text.as_bytes()).ok();
}

/// Kills the greenlet of this number, without waiting for its end; false if there is none on a hub
/// that answers.
///
/// For tools: who has the greenlet's handle kills by that.
pub fn kill_greenlet(id: u64) -> bool {
    let (found, _) = survey(move |task| task.id() == id);
    for sketch in &found {
        kill_task(&sketch.task);
    }
    !found.is_empty()
}

/// Asks all hubs for those of their greenlets that are `wanted`; which of the hubs have answered.
fn survey(wanted: impl Fn(&Task) -> bool + Copy + Send + 'static) -> (Vec<Sketch>, Vec<bool>) {
    let hubs = Hub::count();
    let answers = Arc::new(Queue::new(0));
    for hub in 0..hubs {
        let answers = Arc::clone(&answers);
        hub::ask(hub, move |local| {
            // Room for everything: it does not wait.
            answers.put_nowait((hub, sketches(local, wanted))).ok();
        });
    }
    let until = switch::deadline(Some(PATIENCE)).unwrap_or(u64::MAX);
    let mut all = Vec::new();
    let mut answered = vec![false; hubs];
    for _ in 0..hubs {
        let left = Duration::from_nanos(until.saturating_sub(now_ns()));
        let Ok((hub, sketches)) = answers.get_timeout(left) else {
            break;
        };
        answered[hub] = true;
        all.extend(sketches);
    }
    (all, answered)
}

/// Runs in the hub's own loop.
fn sketches(local: &HubLocal, wanted: impl Fn(&Task) -> bool) -> Vec<Sketch> {
    let running = local.roster().all().into_iter().map(|task| {
        let its = task.local();
        let descriptor = its.io.borrow().as_ref().map(|io| io.number());
        let state = Sketched::Waiting(
            its.frame.waits_for.get(),
            descriptor,
            task.since.get(),
            its.deadline.get().map(|at| at.get()),
        );
        Sketch { task, state }
    });
    let starting = local.starting().into_iter().map(|task| Sketch {
        task,
        state: Sketched::Starting,
    });
    let scheduled = local.timers().scheduled().into_iter();
    let scheduled = scheduled.map(|(at, task)| Sketch {
        task,
        state: Sketched::Scheduled(at),
    });
    running
        .chain(starting)
        .chain(scheduled)
        .filter(|sketch| wanted(&sketch.task))
        .collect()
}

fn describe(sketch: Sketch, now: u64, coarse: u64, me: Option<u64>) -> GreenletInfo {
    let task = sketch.task;
    let left = |at: u64| Duration::from_nanos(at.saturating_sub(now));
    let state = match sketch.state {
        _ if Some(task.id()) == me => State::Running,
        Sketched::Scheduled(at) => State::Scheduled { left: left(at) },
        Sketched::Starting => State::Starting,
        Sketched::Waiting(what, descriptor, since, until) => State::Waiting {
            what,
            descriptor,
            since: since.ago(coarse),
            left: until.map(left),
        },
    };
    GreenletInfo {
        id: task.id(),
        name: task.name().to_owned(),
        hub: task.hub() as usize,
        parent: task.parent(),
        spawned_at: task.site(),
        killed: task.is_killed(),
        state,
    }
}

impl RunInfo {
    /// The greenlets in the order of the tree, each with its depth. Whose parent has ended, or is on
    /// a hub that does not answer, is a root.
    pub fn tree(&self) -> Vec<(usize, &GreenletInfo)> {
        let places: HashMap<u64, usize> = self
            .greenlets
            .iter()
            .enumerate()
            .map(|(place, greenlet)| (greenlet.id, place))
            .collect();
        let mut children = vec![Vec::new(); self.greenlets.len()];
        let mut stack = Vec::new();
        for (place, greenlet) in self.greenlets.iter().enumerate().rev() {
            match greenlet.parent.and_then(|parent| places.get(&parent)) {
                Some(&parent) => children[parent].push(place),
                None => stack.push((0, place)),
            }
        }
        let mut tree = Vec::with_capacity(self.greenlets.len());
        // Without recursion: a greenlet may have a hundred thousand ancestors.
        while let Some((depth, place)) = stack.pop() {
            tree.push((depth, &self.greenlets[place]));
            stack.extend(children[place].iter().map(|&child| (depth + 1, child)));
        }
        tree
    }
}

impl fmt::Display for RunInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for hub in &self.hubs {
            let silent = if hub.answers {
                ""
            } else {
                "; does not answer: it is blocked"
            };
            writeln!(f, "{}{silent}", hub.stats)?;
        }
        for (depth, greenlet) in self.tree() {
            let indent = 2 * depth.min(MAX_INDENT);
            writeln!(f, "{:indent$}{greenlet}", "")?;
        }
        Ok(())
    }
}

impl fmt::Display for GreenletInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A name may be a peer's: no line of its own making.
        write!(
            f,
            "{} \"{}\" on hub {}",
            self.id,
            self.name.escape_debug(),
            self.hub
        )?;
        if self.killed {
            f.write_str(", killed")?;
        }
        match self.state {
            State::Scheduled { left } => write!(f, ", begins in {left:.1?}")?,
            State::Starting => f.write_str(", is about to begin")?,
            State::Running => f.write_str(", runs")?,
            State::Waiting {
                what,
                descriptor,
                since,
                left,
            } => {
                write!(f, ", waits for {what}")?;
                if let Some(descriptor) = descriptor {
                    write!(f, " of descriptor {descriptor}")?;
                }
                write!(f, " since {since:.1?}")?;
                if let Some(left) = left {
                    write!(f, ", at most {left:.1?} more")?;
                }
            }
        }
        write!(f, "; spawned at {}", self.spawned_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greenlet(id: u64, parent: Option<u64>) -> GreenletInfo {
        GreenletInfo {
            id,
            name: format!("g{id}\n"),
            hub: 0,
            parent,
            spawned_at: Location::caller(),
            killed: false,
            state: State::Starting,
        }
    }

    fn info(parents: &[(u64, Option<u64>)]) -> RunInfo {
        let greenlets = parents.iter().map(|&(id, parent)| greenlet(id, parent));
        RunInfo {
            hubs: Vec::new(),
            greenlets: greenlets.collect(),
        }
    }

    #[test]
    fn the_tree_shows_who_spawned_whom() {
        // 9 has ended.
        let info = info(&[
            (1, None),
            (2, Some(1)),
            (3, Some(9)),
            (4, Some(2)),
            (5, Some(1)),
        ]);
        let tree = info.tree();
        let shape: Vec<_> = tree.iter().map(|(depth, it)| (*depth, it.id)).collect();
        assert_eq!(shape, [(0, 1), (1, 2), (2, 4), (1, 5), (0, 3)]);
    }

    #[test]
    fn a_long_line_of_ancestors_is_drawn_without_recursion() {
        let parents: Vec<_> = (1..=100_000)
            .map(|id| (id, (id > 1).then(|| id - 1)))
            .collect();
        let info = info(&parents);
        assert_eq!(info.tree().last().map(|(depth, _)| *depth), Some(99_999));
        let text = info.to_string();
        assert_eq!(text.lines().count(), 100_000);
        assert!(text.lines().all(|line| line.len() < 200));
    }

    #[test]
    fn a_name_makes_no_lines() {
        let text = info(&[(7, None)]).to_string();
        assert_eq!(text.lines().count(), 1);
        assert!(text.starts_with("7 \"g7\\n\" on hub 0, is about to begin; spawned at "));
    }
}
