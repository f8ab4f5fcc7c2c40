//! Hubs: one per worker thread. A greenlet belongs to one hub for life.
//!
//! A hub has an *inbox* by which other hubs and threads reach it (wake this, start that, kill
//! this), and its own timers. Two greenlets of the hub serve them: each waits for a descriptor
//! whose number is congruent to the hub, which is what makes `may` run it on the hub's thread.

mod coroutines;
mod trim;

use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, mpsc};

use self::coroutines::Coroutines;
use self::trim::Trim;
use crate::config::{self, Asked, Settings, StartError};
use crate::error::SpawnError;
use crate::inbox::Inbox;
use crate::limits;
use crate::stats::{Counters, HubStats};
use crate::sys::coroutine::{self, ForeignParker, Parker, Registration};
use crate::sys::home::{self, this_hub};
use crate::sys::roster::Roster;
use crate::sys::{altstack, coarse_now_ns, fd, overflow};
use crate::task::{Task, lock};
use crate::timer::Timers;
use crate::{monitor, panics, stats};

/// How many wakes a hub makes, and how many times a greenlet goes on without a switch, before the
/// hub looks after its descriptors: two greenlets that wake each other for ever must not stop all
/// I/O. A poll costs a microsecond, a wake and its switch a sixteenth of that.
const RUNS_PER_POLL: u32 = 256;

/// More of them when many greenlets can run: where each has had to wait for a poll, each has so many
/// turns up to the next, and at most so many in all. To be put off costs several times a switch.
const TURNS_PER_POLL: u32 = 4;
const MOST_RUNS_PER_POLL: u32 = 4_096;

/// Fewer of them when they take long, as that of who serves a buffer full of pipelined requests
/// before it waits again: how long it may be until a poll, and how often that is looked at.
const TIME_PER_POLL_NS: u64 = 5_000_000;
const RUNS_PER_LOOK: u32 = 4;

/// A call that returns at once takes nanoseconds, where a poll takes a microsecond and more, and
/// the clock many of them: so many calls count as one run. Fewer when they are far between.
const CALLS_PER_RUN: u32 = 32;

/// What a coroutine does with the job that it is given.
pub(crate) enum Go {
    Run,
    Killed,
    Refused(SpawnError),
}

/// The body of a greenlet.
pub(crate) trait Body {
    /// Runs the closure, or only records why not. Catches what the closure panics with.
    fn run(self: Box<Self>, go: Go, task: &Task);
}

/// A greenlet's body, and where it is to run.
pub(crate) struct Job {
    pub(crate) body: Box<dyn Body>,
    /// A stack size of its own, in bytes.
    pub(crate) stack_size: Option<usize>,
}

/// A job that may cross to another hub.
pub(crate) struct SendJob {
    pub(crate) body: Box<dyn Body + Send>,
    pub(crate) stack_size: Option<usize>,
}

impl From<SendJob> for Job {
    fn from(job: SendJob) -> Job {
        Job {
            body: job.body,
            stack_size: job.stack_size,
        }
    }
}

enum Message {
    Wake(Arc<Task>),
    Start(Arc<Task>, SendJob),
    StartAt(u64, Arc<Task>, SendJob),
    Kill(Arc<Task>),
    /// Something that only the hub's thread can tell.
    Ask(Question),
}

type Question = Box<dyn FnOnce(&'static HubLocal) + Send>;

/// What everybody may reach of a hub.
struct Shared {
    inbox: Inbox<Message>,
    event: OwnedFd,
}

impl Shared {
    fn post(&self, message: Message) {
        if self.inbox.post(message) {
            self.signal();
        }
    }

    /// Wakes the hub's loop.
    fn signal(&self) {
        fd::notify(&self.event);
    }
}

/// What only the hub's own thread reaches.
pub(crate) struct HubLocal {
    id: u32,
    stack_size: usize,
    shared: &'static Shared,
    timers: Timers,
    counters: &'static Counters,
    roster: Roster,
    /// In no epoll set (see [`Parker::new`]).
    idle_fd: OwnedFd,
    coroutines: Coroutines,
    trim: Trim,
    runs: Cell<u32>,
    /// How many of them there are up to the next poll: a multiple of `RUNS_PER_LOOK`.
    runs_per_poll: Cell<u32>,
    /// Blocking calls, which perhaps need not wait, up to the next that counts as a run; and how
    /// many there are from one to the next.
    calls_left: Cell<u32>,
    calls_per_run: Cell<u32>,
    /// When the last of those was.
    last_call: Cell<u64>,
    /// One of the hub's own coroutines is at work.
    in_loop: Cell<bool>,
    /// When the clock was first looked at since the last poll; zero: not yet.
    first_look: Cell<u64>,
    /// To be woken after the next poll.
    after_poll: RefCell<Vec<Asleep>>,
}

/// Who is to be woken.
enum Asleep {
    Greenlet(Arc<Task>),
    Coroutine(Arc<Parker>),
}

thread_local! {
    static LOCAL: OnceCell<&'static HubLocal> = const { OnceCell::new() };
}

pub(crate) struct Runtime {
    hubs: Vec<&'static Shared>,
    pub(crate) settings: Settings,
    next: AtomicUsize,
}

static RUNTIME: OnceLock<Runtime> = OnceLock::new();

/// The runtime, started if need be.
///
/// # Panics
///
/// If it can't start: no descriptors left, or settings that don't fit the system.
#[inline]
pub(crate) fn runtime() -> &'static Runtime {
    match try_runtime() {
        Ok(runtime) => runtime,
        Err(error) => panic!("{error}"),
    }
}

/// The hubs, started if need be.
pub(crate) fn try_runtime() -> Result<&'static Runtime, StartError> {
    match RUNTIME.get() {
        Some(runtime) => Ok(runtime),
        None => start(Asked::default()),
    }
}

/// Starts the hubs, once.
pub(crate) fn start(asked: Asked) -> Result<&'static Runtime, StartError> {
    static STARTING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = lock(&STARTING);
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime);
    }
    let settings = config::settle(asked)?;
    // Before may starts, which can't be done twice: after a failure here the hubs can still be
    // started later.
    let descriptors = open(settings.hubs).map_err(StartError::Descriptors)?;
    overflow::remember();
    coroutine::configure(settings.hubs, words(settings.stack_size));

    let mut hubs = Vec::with_capacity(settings.hubs);
    let (report, reports) = mpsc::channel();
    for (id, descriptors) in (0..).zip(descriptors) {
        let shared = launch(id, descriptors, settings.stack_size, report.clone());
        hubs.push(shared.map_err(StartError::Descriptors)?);
    }
    drop(report);
    for _ in 0..settings.hubs {
        if !reports.recv().unwrap_or(false) {
            return Err(StartError::MayInUse);
        }
    }
    // may's first coroutine has installed its handler by now; ours goes on top.
    overflow::install();
    limits::start();
    let runtime = Runtime {
        hubs,
        settings,
        next: AtomicUsize::new(0),
    };
    let runtime = RUNTIME.get_or_init(|| runtime);
    if settings.max_blocking.is_some() {
        monitor::watch(settings.max_blocking).map_err(StartError::Monitor)?;
    }
    Ok(runtime)
}

/// The descriptors of a hub, with numbers of its own.
struct Descriptors {
    event: OwnedFd,
    timer: OwnedFd,
    idle: OwnedFd,
}

/// Opens the descriptors of all hubs.
///
/// # Errors
///
/// Also when there would be too few left for may, which opens two per hub and panics when it can't.
fn open(hubs: usize) -> std::io::Result<Vec<Descriptors>> {
    let opened = (0..hubs as u32)
        .map(|id| {
            let home = |fd: OwnedFd| fd::duplicate_for(fd.as_fd(), id, hubs);
            Ok(Descriptors {
                event: home(fd::eventfd()?)?,
                timer: home(fd::timerfd()?)?,
                idle: home(fd::eventfd()?)?,
            })
        })
        .collect::<std::io::Result<Vec<_>>>()?;
    let rehearsal: std::io::Result<Vec<_>> = (0..2 * hubs).map(|_| fd::eventfd()).collect();
    rehearsal.map(|_| opened)
}

/// Starts the two greenlets of hub `id`.
fn launch(
    id: u32,
    descriptors: Descriptors,
    stack_size: usize,
    report: mpsc::Sender<bool>,
) -> std::io::Result<&'static Shared> {
    let Descriptors {
        event,
        timer: timer_fd,
        idle: idle_fd,
    } = descriptors;
    let shared: &'static Shared = Box::leak(Box::new(Shared {
        inbox: Inbox::new(),
        event,
    }));
    coroutine::spawn_on_worker(id as usize, &format!("hub-{id}"), move || {
        // Fails when somebody has started may before, with other settings: two hubs on one thread.
        if this_hub() != home::NO_HUB {
            report.send(false).ok();
            return;
        }
        home::become_hub(id);
        monitor::is_thread_of(id);
        altstack::ensure();
        // Here, on top of generator's hook, which the first coroutine has installed, and on a
        // thread that does not panic.
        panics::install_hook();
        let local: &'static HubLocal = Box::leak(Box::new(HubLocal {
            id,
            stack_size,
            shared,
            timers: Timers::new(timer_fd, stats::of(id)),
            counters: stats::of(id),
            roster: Roster::new(),
            idle_fd,
            coroutines: Coroutines::default(),
            trim: Trim::default(),
            runs: Cell::new(0),
            runs_per_poll: Cell::new(RUNS_PER_POLL),
            calls_left: Cell::new(0),
            calls_per_run: Cell::new(1),
            last_call: Cell::new(0),
            in_loop: Cell::new(false),
            first_look: Cell::new(0),
            after_poll: RefCell::default(),
        }));
        LOCAL.with(|cell| cell.set(local).ok());
        let idle_fd = local.idle_fd.as_raw_fd();
        let runner = coroutine::start_runner(words(stack_size), idle_fd);
        let timers = coroutine::spawn_here(words(stack_size), move || serve_timers(local));
        let opener = local.start_opener();
        let probe = coroutine::learn_margin(&local.new_parker());
        report
            .send(runner.is_ok() && timers.is_ok() && opener.is_ok() && probe.is_ok())
            .ok();
        drop(report);
        serve_inbox(local);
    })?;
    Ok(shared)
}

fn words(bytes: usize) -> usize {
    bytes / size_of::<usize>()
}

fn serve_inbox(local: &'static HubLocal) {
    let registration =
        Registration::new(local.shared.event.as_raw_fd()).expect("epoll takes an eventfd");
    let (mut messages, mut put_off) = (Vec::new(), Vec::new());
    loop {
        local.in_loop.set(false);
        registration.wait_in_loop();
        local.in_loop.set(true);
        // A poll has just been made.
        local.polled();
        std::mem::swap(&mut *local.after_poll.borrow_mut(), &mut put_off);
        local.polled_with(put_off.len());
        for asleep in put_off.drain(..) {
            match asleep {
                Asleep::Greenlet(task) => task.wake_here(),
                Asleep::Coroutine(parker) => parker.unpark(),
            }
        }
        local.shared.inbox.take(&mut messages);
        for message in messages.drain(..) {
            match message {
                Message::Wake(task) => task.wake_here(),
                Message::Start(task, job) => local.start(task, job.into()),
                Message::StartAt(at, task, job) => local.start_at(at, task, job.into()),
                Message::Kill(task) => local.kill(&task),
                Message::Ask(question) => question(local),
            }
        }
        // A burst must not keep its room for ever.
        if messages.capacity() > 4096 {
            messages = Vec::new();
        }
        if put_off.capacity() > 4096 {
            put_off = Vec::new();
        }
    }
}

fn serve_timers(local: &'static HubLocal) {
    let registration =
        Registration::new(local.timers.fd().as_raw_fd()).expect("epoll takes a timerfd");
    loop {
        local.in_loop.set(false);
        registration.wait_in_loop();
        local.in_loop.set(true);
        local.polled();
        local.timers.fire();
        if local.timers.is_time_to_trim() {
            local.trim_stacks();
        }
    }
}

/// The hub whose thread this is.
///
/// # Panics
///
/// On any other thread.
#[inline]
pub(crate) fn local() -> &'static HubLocal {
    try_local().expect("this thread is a hub's")
}

#[inline]
pub(crate) fn try_local() -> Option<&'static HubLocal> {
    LOCAL.with(|cell| cell.get().copied())
}

/// Wakes a greenlet, from anywhere.
pub(crate) fn wake(task: &Arc<Task>) {
    if this_hub() == task.hub() {
        local().wake(task);
    } else {
        runtime().hubs[task.hub() as usize].post(Message::Wake(Arc::clone(task)));
    }
}

/// Has a greenlet killed by its hub. It has been marked as killed already.
pub(crate) fn kill(task: &Arc<Task>) {
    if this_hub() == task.hub() {
        local().kill(task);
    } else {
        runtime().hubs[task.hub() as usize].post(Message::Kill(Arc::clone(task)));
    }
}

/// Has the hub's own loop call `question`, which must neither block nor panic.
pub(crate) fn ask(hub: usize, question: impl FnOnce(&'static HubLocal) + Send + 'static) {
    runtime().hubs[hub].post(Message::Ask(Box::new(question)));
}

/// Starts a greenlet on its hub, at a moment of the monotonic clock if one is given.
pub(crate) fn spawn(task: Arc<Task>, job: SendJob, at: Option<u64>) {
    let hub = task.hub();
    if this_hub() == hub {
        match at {
            Some(at) => local().start_at(at, task, job.into()),
            None => local().start(task, job.into()),
        }
        return;
    }
    runtime().hubs[hub as usize].post(match at {
        Some(at) => Message::StartAt(at, task, job),
        None => Message::Start(task, job),
    });
}

impl Runtime {
    pub(crate) fn hubs(&self) -> usize {
        self.hubs.len()
    }

    pub(crate) fn stats(&self) -> Vec<HubStats> {
        let hubs = self.hubs.iter().enumerate();
        hubs.map(|(id, shared)| HubStats::of(id, shared.inbox.len()))
            .collect()
    }

    /// The hub for a greenlet that names none: the caller's own, or from a plain thread each in
    /// turn.
    pub(crate) fn pick(&self) -> u32 {
        match this_hub() {
            home::NO_HUB => (self.next.fetch_add(1, Ordering::Relaxed) % self.hubs.len()) as u32,
            hub => hub,
        }
    }
}

impl HubLocal {
    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    pub(crate) fn timers(&self) -> &Timers {
        &self.timers
    }

    /// Counts a run without a poll; false when it is time for one.
    #[inline]
    pub(crate) fn may_run_on(&self) -> bool {
        let runs = self.runs.get();
        self.runs.set(runs + 1);
        if runs % RUNS_PER_LOOK == RUNS_PER_LOOK - 1 {
            self.look_at_the_clock(coarse_now_ns());
        }
        runs < self.runs_per_poll.get()
    }

    /// Counts a blocking call, which perhaps need not wait; false when it is time for a poll.
    #[inline]
    pub(crate) fn may_call_on(&self) -> bool {
        let left = self.calls_left.get();
        if left == 0 {
            return self.count_calls();
        }
        self.calls_left.set(left - 1);
        true
    }

    #[inline(never)]
    fn count_calls(&self) -> bool {
        let now = coarse_now_ns();
        let took = now.saturating_sub(self.last_call.replace(now));
        let calls = match took > TIME_PER_POLL_NS {
            true => 1,
            false => (self.calls_per_run.get() * 2).min(CALLS_PER_RUN),
        };
        self.calls_per_run.set(calls);
        self.calls_left.set(calls - 1);
        self.look_at_the_clock(now);
        self.may_run_on()
    }

    /// Ends the runs without a poll early when they take long.
    fn look_at_the_clock(&self, now: u64) {
        self.counters.looked_at_the_clock(now);
        if self.first_look.get() == 0 {
            self.first_look.set(now);
        } else if now.saturating_sub(self.first_look.get()) > TIME_PER_POLL_NS {
            self.runs.set(self.runs_per_poll.get());
        }
        if self.runs.get() >= self.runs_per_poll.get() {
            // The next call is to hear of it.
            self.calls_left.set(0);
        }
    }

    /// Says how many have been put off up to the poll that has just been made.
    fn polled_with(&self, put_off: usize) {
        let most = MOST_RUNS_PER_POLL as usize;
        let runs = put_off.min(most) as u32 * TURNS_PER_POLL;
        self.runs_per_poll
            .set(runs.clamp(RUNS_PER_POLL, MOST_RUNS_PER_POLL));
    }

    /// Says that a poll has just been made.
    pub(crate) fn polled(&self) {
        self.runs.set(0);
        self.first_look.set(0);
        self.counters.polled();
    }

    /// The greenlets that have begun.
    pub(crate) fn roster(&self) -> &Roster {
        &self.roster
    }

    fn wake(&self, task: &Arc<Task>) {
        if self.may_run_on() {
            task.wake_here();
        } else {
            self.wake_after_poll(task);
        }
    }

    /// Wakes `task` after the hub has looked after its descriptors.
    pub(crate) fn wake_after_poll(&self, task: &Arc<Task>) {
        self.after_poll(Asleep::Greenlet(Arc::clone(task)));
    }

    /// As [`wake_after_poll`](HubLocal::wake_after_poll), of who runs on `coroutine`.
    pub(crate) fn wake_coroutine_after_poll(&self, coroutine: &Arc<Parker>) {
        self.after_poll(Asleep::Coroutine(Arc::clone(coroutine)));
    }

    fn after_poll(&self, asleep: Asleep) {
        self.after_poll.borrow_mut().push(asleep);
        if self.shared.inbox.ask() {
            self.shared.signal();
        }
    }

    /// A parker for a coroutine of this hub that is no greenlet.
    ///
    /// # Panics
    ///
    /// In the hub's own loops.
    pub(crate) fn parker_of_foreigner(&self) -> Arc<ForeignParker> {
        assert!(
            !self.in_loop.get(),
            "a blocking call in a hub's own loop: it would stop every greenlet of the hub"
        );
        Arc::new(ForeignParker::new(self.id, self.idle_fd.as_raw_fd()))
    }

    fn kill(&'static self, task: &Arc<Task>) {
        if task.has_ended() {
            return;
        }
        if task.has_started() {
            task.wake_here();
        } else if let Some(key) = task.local().timer.take()
            && let Some(job) = self.timers.cancel(key)
        {
            // Its closure is dropped by a greenlet, never in the hub's own loop.
            self.start(Arc::clone(task), job);
        }
    }

    fn start_at(&'static self, at: u64, task: Arc<Task>, job: Job) {
        if task.is_killed() {
            self.start(task, job);
            return;
        }
        self.timers.start_at(at, &task, job);
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime")
            .field("hubs", &self.hubs.len())
            .finish_non_exhaustive()
    }
}
