//! The monitor: a thread that sees when a greenlet holds its hub for too long. gevent's monitoring
//! thread.
//!
//! As long as nobody asks for it, a switch pays one load for it. While it watches, each switch notes
//! who runs and since when (some 30 ns), so that the report has a name also if the hub never comes
//! back.
//!
//! The stack of a thread that runs can't be walked from another one without trusting what lies on
//! it; a signal handler that unwinds would have to trust the unwinder not to allocate or lock. So
//! the backtrace is taken by the greenlet itself, at the moment when it lets go of its hub: mostly
//! that is still in the function that was slow. Until then, the report says whether the thread
//! computes or in which system call it is.

use std::backtrace::Backtrace;
use std::fmt;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::config::MAX_HUBS;
use crate::sys::{current, now_ns};
use crate::task::{Task, lock};
use crate::{Hub, stats};

/// How long a greenlet may hold its hub unless told otherwise: gevent's `max_blocking_time`, 0.1 s.
pub const MAX_BLOCKING_TIME: Duration = Duration::from_millis(100);

/// How often the hubs are looked at: a quarter of the time that is allowed, within these bounds.
const MIN_PERIOD: Duration = Duration::from_millis(1);
const MAX_PERIOD: Duration = Duration::from_millis(250);

/// A period that no process sees the end of, and the clock still can count: 100 years.
const NEVER: Duration = Duration::from_secs(100 * 365 * 24 * 3_600);

/// What stack has to be left for taking a backtrace.
const BACKTRACE_STACK: usize = 48 * 1024;

/// How many reports of hubs that are free again wait to be told of.
const MAX_WAITING: usize = 1_000;

/// A greenlet holds its hub, or has held it, for longer than is allowed: gevent's
/// `IEventLoopBlocked`.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Blocked {
    /// The hub.
    pub hub: usize,
    /// The greenlet's number.
    pub greenlet: u64,
    /// Its name.
    pub name: String,
    /// Where it was spawned.
    pub spawned_at: &'static Location<'static>,
    /// For how long it has held the hub.
    pub held: Duration,
    /// What the hub's thread does at this moment; none once it has let go.
    pub activity: Option<Activity>,
    /// Where it has let go; none as long as it has not. Also none when there was too little stack
    /// left to look (48 KiB).
    pub backtrace: Option<Arc<Backtrace>>,
}

/// What the thread of a blocked hub does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Activity {
    /// It computes, or waits for a core.
    Computes,
    /// It waits in the system call of this number.
    SystemCall(i64),
    /// The system does not tell.
    Unknown,
}

impl Blocked {
    /// Whether it has let go of the hub.
    pub fn is_over(&self) -> bool {
        self.activity.is_none()
    }
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Blocked {
            hub,
            greenlet,
            held,
            ..
        } = self;
        let name = self.name.escape_debug();
        match self.activity {
            Some(activity) => write!(
                f,
                "greenlet {greenlet} \"{name}\" has held hub {hub} for {held:.1?} and still does: \
                 its thread {activity}"
            )?,
            None => write!(
                f,
                "greenlet {greenlet} \"{name}\" has held hub {hub} for {held:.1?}"
            )?,
        }
        write!(f, "; spawned at {}", self.spawned_at)?;
        match &self.backtrace {
            Some(backtrace) => write!(f, "; it let go here:\n{backtrace}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Activity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Activity::Computes => f.write_str("computes"),
            Activity::SystemCall(number) => write!(f, "is in system call {number}"),
            Activity::Unknown => f.write_str("does something"),
        }
    }
}

/// Something that the monitor's thread calls. From [`add_monitoring_function`] and [`on_blocked`].
///
/// Dropping it changes nothing.
#[derive(Debug)]
pub struct MonitoringFunction {
    id: u64,
}

impl MonitoringFunction {
    /// It is not called any more, once a call under way is over.
    pub fn cancel(&self) {
        let mut state = lock(&MONITOR.state);
        let is_it = |id: u64| id == self.id;
        let periodic = state.periodic.extract_if(.., |it| is_it(it.id));
        let periodic: Vec<_> = periodic.collect();
        let subscribers = state.subscribers.extract_if(.., |it| is_it(it.0));
        let subscribers: Vec<_> = subscribers.collect();
        // What they have captured is the user's, and dropped without the lock.
        drop(state);
        drop((periodic, subscribers));
    }
}

type Periodic = Arc<dyn Fn() + Send + Sync>;
type Subscriber = Arc<dyn Fn(&Blocked) + Send + Sync>;

struct Monitor {
    state: Mutex<State>,
    news: Condvar,
}

struct State {
    has_thread: bool,
    next_id: u64,
    /// How long a greenlet may hold its hub.
    limit: Option<Duration>,
    periodic: Vec<Every>,
    subscribers: Vec<(u64, Subscriber)>,
    /// Hubs that are free again.
    over: Vec<Blocked>,
}

struct Every {
    id: u64,
    period: Duration,
    next: Instant,
    function: Periodic,
}

static MONITOR: Monitor = Monitor {
    state: Mutex::new(State {
        has_thread: false,
        next_id: 0,
        limit: None,
        periodic: Vec::new(),
        subscribers: Vec::new(),
        over: Vec::new(),
    }),
    news: Condvar::new(),
};

/// The present run of a greenlet.
struct Run {
    task: Arc<Task>,
    since: u64,
    reported: bool,
}

static RUNS: [Mutex<Option<Run>>; MAX_HUBS] = [const { Mutex::new(None) }; MAX_HUBS];
/// Where the system tells of the hubs' threads.
static THREADS: [OnceLock<String>; MAX_HUBS] = [const { OnceLock::new() }; MAX_HUBS];

/// Has `function` called every `period` by the monitor's thread: gevent's
/// `add_monitoring_function`.
///
/// It may look at anything, also while all hubs are blocked, and should not take long: the others
/// wait for it. One that panics is called again.
///
/// # Errors
///
/// When the thread can't be started.
pub fn add_monitoring_function(
    period: Duration,
    function: impl Fn() + Send + Sync + 'static,
) -> std::io::Result<MonitoringFunction> {
    let mut state = MONITOR.with_thread()?;
    let id = state.new_id();
    let period = period.clamp(MIN_PERIOD, NEVER);
    state.periodic.push(Every {
        id,
        period,
        next: Instant::now() + period,
        function: Arc::new(function),
    });
    drop(state);
    MONITOR.news.notify_one();
    Ok(MonitoringFunction { id })
}

/// Has `function` called by the monitor's thread with each report that a greenlet holds its hub for
/// too long: gevent's `events.subscribers`.
///
/// There is one when the time is over, and one when the hub is free again. Whether there are any is
/// up to [`Hub::monitor`](crate::Hub::monitor). `tracing` gets them too, as warnings with the target
/// `greenwood_runtime::monitor`.
///
/// # Errors
///
/// When the thread can't be started.
pub fn on_blocked(
    function: impl Fn(&Blocked) + Send + Sync + 'static,
) -> std::io::Result<MonitoringFunction> {
    let mut state = MONITOR.with_thread()?;
    let id = state.new_id();
    state.subscribers.push((id, Arc::new(function)));
    Ok(MonitoringFunction { id })
}

/// As [`Hub::monitor`](crate::Hub::monitor).
pub(crate) fn watch(limit: Option<Duration>) -> std::io::Result<()> {
    let hubs = Hub::count();
    let mut state = MONITOR.with_thread()?;
    state.limit = limit.map(|limit| limit.max(MIN_PERIOD));
    let mut noted = Vec::new();
    for (hub, run) in (0..).zip(&RUNS).take(hubs) {
        // What was noted when it was on before is not true any more.
        noted.extend(lock(run).take());
        stats::of(hub).watch(limit.is_some());
    }
    drop(state);
    MONITOR.news.notify_one();
    // Perhaps the last handles of greenlets that have ended, with what a user has linked to them.
    drop(noted);
    Ok(())
}

/// Says which thread is a hub's. To be called by that thread.
pub(crate) fn is_thread_of(hub: u32) {
    // "PID/task/TID".
    if let Ok(link) = std::fs::read_link("/proc/thread-self") {
        let path = format!("/proc/{}", link.display());
        THREADS[hub as usize].set(path).ok();
    }
}

/// Notes that the current greenlet runs from now on.
#[cold]
pub(crate) fn takes_hold(task: &Task) {
    let run = current::get().map(|task| Run {
        task,
        since: now_ns(),
        reported: false,
    });
    let before = std::mem::replace(&mut *lock(&RUNS[task.hub() as usize]), run);
    // What was left behind when the monitor was off, dropped without the lock.
    drop(before);
}

/// Notes that it lets go of the hub.
#[cold]
pub(crate) fn lets_go(task: &Task) {
    let run = lock(&RUNS[task.hub() as usize]).take();
    let Some(run) = run.filter(|run| run.reported) else {
        return;
    };
    let backtrace = enough_stack(task).then(|| Arc::new(Backtrace::force_capture()));
    let mut state = lock(&MONITOR.state);
    if state.over.len() < MAX_WAITING {
        state.over.push(Blocked {
            activity: None,
            backtrace,
            ..run.report(now_ns())
        });
    }
    drop(state);
    MONITOR.news.notify_one();
}

fn enough_stack(task: &Task) -> bool {
    let here = 0u8;
    (&raw const here).addr() > task.stack().low + BACKTRACE_STACK
}

impl Run {
    fn report(&self, now: u64) -> Blocked {
        Blocked {
            hub: self.task.hub() as usize,
            greenlet: self.task.id(),
            name: self.task.name().to_owned(),
            spawned_at: self.task.site(),
            held: Duration::from_nanos(now.saturating_sub(self.since)),
            activity: None,
            backtrace: None,
        }
    }
}

impl State {
    fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Whether a function has not been cancelled.
    fn has(&self, id: u64) -> bool {
        self.periodic.iter().any(|it| it.id == id) || self.subscribers.iter().any(|it| it.0 == id)
    }

    /// When the thread has to look next.
    fn next(&self, now: Instant) -> Option<Duration> {
        let period = |limit: Duration| (limit / 4).clamp(MIN_PERIOD, MAX_PERIOD);
        let functions = self.periodic.iter();
        functions
            .map(|it| it.next.saturating_duration_since(now))
            .chain(self.limit.map(period))
            .min()
    }
}

impl Monitor {
    fn with_thread(&'static self) -> std::io::Result<std::sync::MutexGuard<'static, State>> {
        let mut state = lock(&self.state);
        if !state.has_thread {
            let name = "greenwood-monitor".to_owned();
            thread::Builder::new().name(name).spawn(|| self.run())?;
            state.has_thread = true;
        }
        Ok(state)
    }

    fn run(&self) {
        let mut state = lock(&self.state);
        loop {
            if state.over.is_empty() {
                state = match state.next(Instant::now()) {
                    Some(left) => {
                        let waited = self.news.wait_timeout(state, left);
                        waited.unwrap_or_else(PoisonError::into_inner).0
                    }
                    None => {
                        let waited = self.news.wait(state);
                        waited.unwrap_or_else(PoisonError::into_inner)
                    }
                };
            }
            let now = Instant::now();
            let mut due = Vec::new();
            for it in &mut state.periodic {
                if it.next <= now {
                    it.next = now + it.period;
                    due.push((it.id, Arc::clone(&it.function)));
                }
            }
            let mut reports = std::mem::take(&mut state.over);
            let subscribers = state.subscribers.clone();
            let limit = state.limit;
            drop(state);

            reports.extend(limit.into_iter().flat_map(blocked));
            for report in &reports {
                tracing::warn!("{report}");
                for (id, subscriber) in &subscribers {
                    if lock(&self.state).has(*id) {
                        call(|| subscriber(report));
                    }
                }
            }
            // The last handle may be this one: what was captured is dropped without the lock.
            crate::panics::drop_caught(subscribers);
            for (id, function) in due {
                if lock(&self.state).has(id) {
                    call(|| function());
                }
                crate::panics::drop_caught(function);
            }
            state = lock(&self.state);
        }
    }
}

/// The hubs that have been held for longer than is allowed, each once.
fn blocked(limit: Duration) -> Vec<Blocked> {
    let now = now_ns();
    let mut all = Vec::new();
    for (run, thread) in RUNS.iter().zip(&THREADS).take(Hub::count()) {
        let mut run = lock(run);
        if let Some(run) = &mut *run
            && !run.reported
            && stats::of(run.task.hub()).running() == Some(run.task.id())
            && u128::from(now.saturating_sub(run.since)) > limit.as_nanos()
        {
            run.reported = true;
            all.push(Blocked {
                activity: Some(thread.get().map_or(Activity::Unknown, |it| activity(it))),
                ..run.report(now)
            });
        }
    }
    all
}

fn activity(thread: &str) -> Activity {
    // The number of the system call and its arguments, or "running".
    match std::fs::read_to_string(format!("{thread}/syscall")) {
        Ok(text) if text.starts_with("running") => Activity::Computes,
        Ok(text) => match text.split_whitespace().next().map(str::parse) {
            // Put aside by the scheduler, outside of a call.
            Some(Ok(-1)) => Activity::Computes,
            Some(Ok(number)) => Activity::SystemCall(number),
            _ => Activity::Unknown,
        },
        Err(_) => Activity::Unknown,
    }
}

/// Calls what a user has given; a panic has been reported, and ends with the call.
fn call(function: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(function)) {
        crate::panics::drop_caught(payload);
    }
}
