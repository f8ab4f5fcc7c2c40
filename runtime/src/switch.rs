//! The one place that switches.
//!
//! Every blocking call of the runtime ends here. It is here that a greenlet is put aside and comes
//! back, that its thread is checked, and that kills and time-outs are noticed. Callers that are no
//! greenlets (the main thread, any OS thread) wait as threads.

use std::any::Any;
use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::panics::drop_caught;
use crate::run_info::WaitsFor;
use crate::sys::coroutine::Parker;
use crate::sys::{current, home, now_ns};
use crate::task::{Frame, Sleeper, Task, lock};
use crate::thread_parker::ThreadParker;
use crate::waiter::Waiter;
use crate::{hub, monitor, stats, timeout};

thread_local! {
    static THREAD: Arc<ThreadParker> = Arc::new(ThreadParker::default());
    // Never dropped, so that a thread's destructors find it too; it owns memory only while a
    // time-out is in force.
    static THREAD_FRAME: ManuallyDrop<Frame> = const { ManuallyDrop::new(Frame::of_thread()) };
}

/// How often a thread that can't be woken looks for what it waits for.
const LOOK: Duration = Duration::from_millis(1);

/// Something to be done before the running greenlet switches away, for instance to send what was
/// held back to go out in one piece. It must not block.
pub trait BeforeSwitch: Send + Sync {
    /// Called once, on the greenlet's own stack, before its next switch (or at its end).
    fn before_switch(self: Arc<Self>);
}

/// Why a park ended.
#[derive(Debug)]
pub(crate) enum Parked {
    /// Woken: look at the condition again. Wakes may be spurious.
    Woken,
    /// The deadline given to the park has passed.
    Expired,
    /// A kill or a time-out has come; the caller tidies up and then [`raise`]s it.
    Interrupted(Interrupt),
}

/// What a greenlet is unwound with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interrupt {
    Kill,
    /// The time-out with this identity.
    Timeout(u64),
    /// The hook before the switch has panicked.
    Hook,
}

/// The payload of a kill: gevent's `GreenletExit`.
#[derive(Debug)]
pub(crate) struct GreenletExit;

/// The payload of a time-out, caught by the `with_timeout` that owns it.
#[derive(Debug)]
pub(crate) struct TimeoutExpired(pub(crate) u64);

/// Unwinds the running greenlet (or thread) up to whoever owns the interrupt. Prints nothing.
pub(crate) fn raise(interrupt: Interrupt) -> ! {
    match interrupt {
        Interrupt::Kill => resume_unwind(Box::new(GreenletExit)),
        Interrupt::Timeout(id) => match timeout::exception_of(id) {
            Some(exception) => resume_unwind(exception),
            None => resume_unwind(Box::new(TimeoutExpired(id))),
        },
        Interrupt::Hook => {
            let panic = current::get().and_then(|task| task.local().frame.panic.take());
            resume_unwind(*panic.expect("kept by `switch` for this"))
        }
    }
}

/// Whether the caller may wait: not while it unwinds, as the count of panics is the thread's
/// and a switch would leak it into another greenlet. A blocking call then acts as with a time-out
/// of zero.
#[inline]
pub(crate) fn may_wait() -> bool {
    !std::thread::panicking()
}

/// What every blocking call does first: raises a kill or a time-out that is due, and counts the
/// call, so that one that never has to wait lets the others have their turn now and then.
///
/// Nothing has been taken or queued yet, so nothing can be lost here.
// One call, and not the three that it makes, where a generic function is compiled elsewhere; and
// what is rare elsewhere, so that nothing needs to be saved for it.
#[inline(never)]
pub(crate) fn check() {
    let may_be_due = current::with(|task| match task {
        Some(task) => task.is_killed() || task.local().frame.earliest_timeout().is_some(),
        None => earliest_of_thread().is_some(),
    });
    if may_be_due {
        raise_what_is_due();
    }
    if let Some(local) = hub::try_local()
        && !local.may_call_on()
    {
        share_now();
    }
}

#[inline(never)]
fn raise_what_is_due() {
    if let Some(interrupt) = due()
        && may_wait()
    {
        raise_without_wait(interrupt);
    }
}

/// Raises an interrupt before anything was waited for. One that is caught and comes again lets the
/// others of the hub have their turn first: a loop that catches everything must not stop the hub.
#[cold]
fn raise_without_wait(interrupt: Interrupt) -> ! {
    current::with(|task| {
        let Some(task) = task else { return };
        if task.local().frame.raised.replace(true) {
            if let Err(payload) = run_hook(task) {
                resume_unwind(payload);
            }
            let parker = task.local().parker.borrow();
            let parker = parker.as_ref().expect("a running greenlet has a parker");
            hub::local().wake_after_poll(&current::get().expect("as `task`"));
            switched_away(task);
            let aside = current::aside();
            parker.park();
            drop(aside);
            has_its_turn(task);
        }
    });
    raise(interrupt)
}

fn due() -> Option<Interrupt> {
    let timeout = current::with(|task| match task {
        Some(task) if task.is_killed() => Err(Interrupt::Kill),
        Some(task) => Ok(task.local().frame.earliest_timeout()),
        None => Ok(earliest_of_thread()),
    });
    match timeout {
        Err(kill) => Some(kill),
        Ok(Some((id, deadline))) if deadline <= now_ns() => Some(Interrupt::Timeout(id)),
        Ok(_) => None,
    }
}

/// Whom to wake to wake the caller.
pub(crate) fn sleeper() -> Sleeper {
    match current::get() {
        Some(task) => Sleeper::Greenlet(task),
        None => {
            // Here, before the wait is known to anybody who might hand something to it.
            check_thread();
            Sleeper::Thread(THREAD.try_with(Arc::clone).unwrap_or_default())
        }
    }
}

/// Calls `f` with the place in which the running greenlet keeps its [`Waiter`] between two waits. A
/// plain thread has none.
#[inline]
pub(crate) fn with_kept<R>(f: impl FnOnce(&Cell<Option<Arc<Waiter>>>) -> R) -> Option<R> {
    current::with(|task| Some(f(&task?.local().waiter)))
}

/// Calls `f` with the calling thread's frame.
pub(crate) fn with_thread_frame<R>(f: impl FnOnce(&Frame) -> R) -> R {
    THREAD_FRAME.with(|frame| f(frame))
}

/// Calls `f` with the frame of the calling greenlet or thread.
#[inline]
pub(crate) fn with_frame<R>(f: impl FnOnce(&Frame) -> R) -> R {
    current::with(|task| match task {
        Some(task) => f(&task.local().frame),
        None => with_thread_frame(f),
    })
}

#[inline]
fn earliest_of_thread() -> Option<(u64, u64)> {
    THREAD_FRAME.with(|frame| frame.earliest_timeout())
}

/// The moment that is `timeout` from now; none for a wait without end.
pub(crate) fn deadline(timeout: Option<Duration>) -> Option<u64> {
    let nanoseconds = u64::try_from(timeout?.as_nanos()).ok()?;
    now_ns().checked_add(nanoseconds)
}

/// The moment that is `delay` from now, also if that is beyond the clock's range (584 years).
pub(crate) fn later(delay: Duration) -> u64 {
    deadline(Some(delay)).unwrap_or(u64::MAX)
}

/// Has `hook` called before the caller's next switch. False outside greenlets, and when another
/// hook is waiting already: then the caller does at once what it wanted to put off.
pub fn before_switch(hook: &Arc<impl BeforeSwitch + 'static>) -> bool {
    current::with(|task| {
        let Some(task) = task else { return false };
        if has_hook(task) {
            return false;
        }
        let hook = Arc::clone(hook) as Arc<dyn BeforeSwitch>;
        task.local().frame.before_switch.set(Some(hook));
        true
    })
}

/// Whether something is to be done before the next switch.
pub(crate) fn has_hook(task: &Task) -> bool {
    let slot = &task.local().frame.before_switch;
    let hook = slot.take();
    let has = hook.is_some();
    slot.set(hook);
    has
}

/// Runs what is to be done before the switch.
///
/// # Errors
///
/// What it has panicked with: the caller is in the middle of something and has to tidy up first.
pub(crate) fn run_hook(task: &Task) -> std::thread::Result<()> {
    let hook = task.local().frame.before_switch.take();
    match hook {
        Some(hook) => call_hook(task, hook),
        None => Ok(()),
    }
}

#[inline(never)]
fn call_hook(task: &Task, hook: Arc<dyn BeforeSwitch>) -> std::thread::Result<()> {
    let local = task.local();
    let switches = || stats::of(task.hub()).switches();
    let (before, io) = (switches(), local.io.take());
    let called = catch_unwind(AssertUnwindSafe(|| hook.before_switch()));
    local.io.replace(io);
    if switches() != before
        && let Some(parker) = &*local.parker.borrow()
    {
        // It has blocked, which it must not: what was to end the wait behind it may have come, and
        // have been taken for something else.
        parker.unpark();
    }
    called
}

/// Has the panic of a hook raised at the next switch: what the caller waited for has come at the
/// same moment.
#[cold]
pub(crate) fn raise_hook_later() {
    struct Again(Mutex<Option<Box<dyn Any + Send>>>);
    impl BeforeSwitch for Again {
        fn before_switch(self: Arc<Self>) {
            let panic = lock(&self.0).take();
            if let Some(panic) = panic {
                resume_unwind(panic);
            }
        }
    }
    let panic = current::get().and_then(|task| task.local().frame.panic.take());
    if let Some(panic) = panic {
        before_switch(&Arc::new(Again(Mutex::new(Some(*panic)))));
    }
}

/// Waits until woken, at the latest until `deadline`.
pub(crate) fn park(deadline: Option<u64>) -> Parked {
    current::with(|task| match task {
        Some(task) => park_greenlet(task, deadline),
        None => park_thread(deadline),
    })
}

/// As [`park`], by the running greenlet, which is `task`.
// Inlined, with all that is around it: what is returned from after the switch is predicted wrongly
// by the processor, which has seen another greenlet's calls.
#[inline(always)]
pub(crate) fn park_greenlet(task: &Task, deadline: Option<u64>) -> Parked {
    // Borrowed over the switch: it changes only when the greenlet starts and ends.
    let parker = task.local().parker.borrow();
    let parker = parker.as_ref().expect("a running greenlet has a parker");
    switch(task, deadline, Parks(parker))
}

/// How a greenlet is put aside. Not just a closure, as the compiler can't be told to inline one.
pub(crate) trait PutAside {
    fn put_aside(self);
}

impl<F: FnOnce()> PutAside for F {
    #[inline(always)]
    fn put_aside(self) {
        self();
    }
}

/// Until it is woken.
struct Parks<'a>(&'a Parker);

impl PutAside for Parks<'_> {
    #[inline(always)]
    fn put_aside(self) {
        self.0.park();
    }
}

/// Until the others that have been woken have had their turn.
struct Passes<'a>(&'a Parker);

impl PutAside for Passes<'_> {
    #[inline(always)]
    fn put_aside(self) {
        self.0.pass();
    }
}

/// Waits until woken, whatever else comes: kills and time-outs are left to the next blocking call.
/// For who must not be unwound before others are done.
pub(crate) fn park_through() {
    current::with(|task| {
        let Some(task) = task else {
            park_thread_until(None);
            return;
        };
        debug_assert!(may_wait(), "a greenlet that unwinds must not switch");
        if let Err(payload) = run_hook(task) {
            drop_caught(payload);
        }
        if task.local().frame.in_burst.take() {
            crate::net::parking::hand_over(task);
        }
        let parker = task.local().parker.borrow();
        let parker = parker.as_ref().expect("a running greenlet has a parker");
        switched_away(task);
        let aside = current::aside();
        parker.park();
        drop(aside);
        has_its_turn(task);
        // Panics if the greenlet has come back on another thread.
        task.local().frame.expired.set(false);
    });
}

/// Says so early when the caller could not wait: see [`check_thread`].
pub(crate) fn check_waits() {
    if current::with(|task| task.is_none()) {
        check_thread();
    }
}

/// Before a thread blocks that runs no greenlet.
///
/// # Panics
///
/// If it is a hub's: code that was not expected to block, as a destructor, runs in the hub's own
/// loop.
pub(crate) fn check_thread() {
    assert_eq!(
        home::this_hub(),
        home::NO_HUB,
        "a blocking call in a hub's own loop: it would stop every greenlet of the hub"
    );
}

fn park_thread(deadline: Option<u64>) -> Parked {
    check_thread();
    let timeout = earliest_of_thread();
    let until = match (deadline, timeout) {
        (Some(deadline), Some((_, timeout))) => Some(deadline.min(timeout)),
        (deadline, timeout) => deadline.or(timeout.map(|(_, at)| at)),
    };
    park_thread_until(until);
    if let Some(until) = until
        && now_ns() >= until
    {
        return ended_by(deadline, timeout);
    }
    Parked::Woken
}

fn park_thread_until(until: Option<u64>) {
    if THREAD.try_with(|parker| parker.park(until)).is_err() {
        // The thread ends, and one of its destructors waits: nobody can wake it, so it looks for
        // itself.
        let rest = until.map_or(LOOK, |until| {
            LOOK.min(Duration::from_nanos(until.saturating_sub(now_ns())))
        });
        std::thread::park_timeout(rest);
    }
}

/// How long an OS thread may wait: until `until` or the first of its time-outs. Their expiry is
/// noticed by [`check`].
pub(crate) fn rest_of_thread(until: Option<u64>) -> Option<Duration> {
    let timeout = earliest_of_thread().map(|(_, at)| at);
    let until = match (until, timeout) {
        (Some(until), Some(timeout)) => until.min(timeout),
        (until, timeout) => until.or(timeout)?,
    };
    Some(Duration::from_nanos(until.saturating_sub(now_ns())))
}

/// Which of the two has expired, when one has.
fn ended_by(deadline: Option<u64>, timeout: Option<(u64, u64)>) -> Parked {
    match (deadline, timeout) {
        (Some(deadline), Some((_, at))) if deadline < at => Parked::Expired,
        (_, Some((id, _))) => Parked::Interrupted(Interrupt::Timeout(id)),
        _ => Parked::Expired,
    }
}

/// Puts the running greenlet aside by `wait`, which returns when it has its turn again.
#[inline(always)]
pub(crate) fn switch(task: &Task, deadline: Option<u64>, wait: impl PutAside) -> Parked {
    debug_assert!(may_wait(), "a greenlet that unwinds must not switch");
    let local = task.local();
    if let Err(payload) = run_hook(task) {
        local.frame.panic.set(Some(Box::new(payload)));
        return Parked::Interrupted(Interrupt::Hook);
    }
    if local.frame.in_burst.take() {
        crate::net::parking::hand_over(task);
    }
    let timeout = local.frame.earliest_timeout();
    let until = match (deadline, timeout) {
        (Some(deadline), Some((_, timeout))) => Some(deadline.min(timeout)),
        (deadline, timeout) => deadline.or(timeout.map(|(_, at)| at)),
    };
    if task.is_killed() {
        return Parked::Interrupted(Interrupt::Kill);
    }
    if let Some(until) = until {
        local.deadline.set(NonZero::new(until));
        hub::local().timers().ensure(task, until, || {
            current::get().expect("the greenlet that switches is the current one")
        });
    }

    switched_away(task);
    task.parks_here();
    let aside = current::aside();
    wait.put_aside();
    drop(aside);
    has_its_turn(task);
    task.is_back();

    // Panics if the greenlet has come back on another thread.
    let local = task.local();
    local.deadline.set(None);
    let expired = local.frame.expired.replace(false);
    if task.is_killed() {
        return Parked::Interrupted(Interrupt::Kill);
    }
    if expired {
        return ended_by_timer(&local.frame, deadline, timeout);
    }
    Parked::Woken
}

/// As [`ended_by`], of a greenlet. Another one of the hub may have cancelled the time-out meanwhile:
/// then the wait goes on.
#[inline(never)]
fn ended_by_timer(frame: &Frame, deadline: Option<u64>, timeout: Option<(u64, u64)>) -> Parked {
    match ended_by(deadline, timeout) {
        Parked::Interrupted(Interrupt::Timeout(id)) if !frame.has_limit(id) => Parked::Woken,
        parked => parked,
    }
}

/// What is noted of a greenlet that is put aside, or ends.
#[inline]
pub(crate) fn switched_away(task: &Task) {
    let counters = stats::of(task.hub());
    task.since.set(counters.switched_away());
    if counters.is_watched() {
        monitor::lets_go(task);
    }
    if !counters.is_to_trim() {
        hub::local().trim_later();
    }
}

/// What is noted of a greenlet that has its turn.
#[inline]
pub(crate) fn has_its_turn(task: &Task) {
    let counters = stats::of(task.hub());
    counters.switched_to(task.id());
    if counters.is_watched() {
        monitor::takes_hold(task);
    }
}

/// Says what the caller is about to wait for. To be said anew before each park.
#[inline]
pub(crate) fn waits_for(what: WaitsFor) {
    current::with(|task| {
        if let Some(task) = task {
            task.local().frame.waits_for.set(what);
        }
    });
}

/// Counts a call that might have waited and did not, and takes a system call's time all the same
/// (others are counted by [`check`]): now and then the others have their turn.
#[inline]
pub(crate) fn share() {
    if let Some(local) = hub::try_local()
        && !local.may_run_on()
    {
        share_now();
    }
}

#[cold]
fn share_now() {
    if may_wait() {
        pass(true);
    }
}

/// Lets the others of the hub that can run do so once. Raises no kill and no time-out: something has
/// just been given away, which an unwinding caller would take for not done.
pub(crate) fn let_others_go_first() {
    if !may_wait() {
        return;
    }
    let Some(task) = current::get() else { return };
    task.local().frame.waits_for.set(WaitsFor::Turn);
    let local_hub = hub::local();
    let parked = match local_hub.may_run_on() {
        true => {
            let parker = task.local().parker.borrow();
            let parker = parker.as_ref().expect("a running greenlet has a parker");
            switch(&task, None, Passes(parker))
        }
        false => {
            local_hub.wake_after_poll(&task);
            park(None)
        }
    };
    if let Parked::Interrupted(Interrupt::Hook) = parked {
        raise_hook_later();
    }
}

/// Lets the other greenlets of the hub run; with `poll`, its I/O too, always.
pub(crate) fn pass(poll: bool) {
    let parked = current::with(|task| {
        let task = task?;
        task.local().frame.waits_for.set(WaitsFor::Turn);
        let local_hub = hub::local();
        let parker = task.local().parker.borrow();
        let parker = parker.as_ref().expect("a running greenlet has a parker");
        if !poll && local_hub.may_run_on() {
            return Some(switch(task, None, Passes(parker)));
        }
        local_hub.wake_coroutine_after_poll(parker);
        Some(switch(task, None, Parks(parker)))
    });
    match parked {
        Some(Parked::Interrupted(interrupt)) => raise(interrupt),
        Some(_) => {}
        None => std::thread::yield_now(),
    }
}
