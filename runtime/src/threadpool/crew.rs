//! [`Crew`]: the threads of a pool and what they have to do.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::error::ThreadError;
use crate::panics::drop_caught;
use crate::places::Places;
use crate::run_info::WaitsFor;
use crate::switch;
use crate::task::lock;
use crate::waiter::{Node, Stop, WaitList, Waiter};
use crate::waiting::wait_in;

thread_local! {
    /// The address of the crew that this thread belongs to.
    static CREW: Cell<usize> = const { Cell::new(0) };
}

/// A job, whatever its result's type is.
pub(super) trait Work: Send + Sync {
    /// Does it, unless it has been given up. What it panics with is part of its result.
    fn run(&self);

    /// Lets everybody know that it is done.
    fn tell(&self);

    /// Ends it with `error`, unless it has been given up.
    fn refuse(&self, error: ThreadError);
}

/// What the handles and the threads of a pool share.
pub(super) struct Crew {
    state: Mutex<State>,
    /// For the threads that wait for a job.
    call: Condvar,
}

struct State {
    /// One for each job that is not done: as many as threads may be, and one.
    slots: Places<Arc<Hand>>,
    maxsize: usize,
    idle_timeout: Duration,
    jobs: VecDeque<Arc<dyn Work>>,
    threads: usize,
    /// How many of them wait for a job, or have been called and not come yet.
    idle: usize,
    /// Jobs that have given up their slots and are not quite done.
    leaving: usize,
    /// They wait until all jobs are done.
    joiners: WaitList<Arc<Waiter>>,
    /// How many wait until all threads have ended.
    dismissals: usize,
    dismissers: WaitList<Arc<Waiter>>,
    /// Nobody has a handle any more.
    closed: bool,
}

/// One who waits for a slot, with the job that gets it.
struct Hand {
    waiter: Arc<Waiter>,
    job: Arc<dyn Work>,
}

impl Node for Arc<Hand> {
    fn waiter(&self) -> &Waiter {
        &self.waiter
    }
}

impl Crew {
    pub(super) fn new(maxsize: usize, idle_timeout: Duration) -> Arc<Crew> {
        Arc::new(Crew {
            state: Mutex::new(State {
                slots: Places::new(slots(maxsize)),
                maxsize,
                idle_timeout,
                jobs: VecDeque::new(),
                threads: 0,
                idle: 0,
                leaving: 0,
                joiners: WaitList::new(),
                dismissals: 0,
                dismissers: WaitList::new(),
                closed: false,
            }),
            call: Condvar::new(),
        })
    }

    /// Whether the caller is one of its threads.
    pub(super) fn is_called_by_worker(&self) -> bool {
        CREW.get() == std::ptr::from_ref(self).addr()
    }

    /// Has `job` done, waiting for a slot if the caller may wait; else beyond the bound.
    pub(super) fn submit(self: &Arc<Self>, job: Arc<dyn Work>) {
        if self.is_called_by_worker() || !self.submit_until(&job, None) {
            let mut state = lock(&self.state);
            state.slots.take_anyway();
            state.jobs.push_back(job);
            self.call_for(state);
        }
    }

    /// Has `job` done, if there is a slot.
    pub(super) fn submit_nowait(self: &Arc<Self>, job: &Arc<dyn Work>) -> bool {
        let mut state = lock(&self.state);
        let has_slot = state.slots.try_take();
        if has_slot {
            state.jobs.push_back(Arc::clone(job));
            self.call_for(state);
        }
        has_slot
    }

    /// Has `job` done, if there is a slot until `deadline`. Not if the caller unwinds and would have
    /// to wait.
    pub(super) fn submit_until(
        self: &Arc<Self>,
        job: &Arc<dyn Work>,
        deadline: Option<u64>,
    ) -> bool {
        switch::check();
        switch::share();
        let hand = {
            let mut state = lock(&self.state);
            if state.slots.try_take() {
                state.jobs.push_back(Arc::clone(job));
                self.call_for(state);
                return true;
            }
            if !switch::may_wait() {
                return false;
            }
            let hand = Arc::new(Hand {
                waiter: Waiter::new(),
                job: Arc::clone(job),
            });
            state.slots.wait(Arc::clone(&hand));
            hand
        };
        match hand.waiter.wait_for(WaitsFor::Thread, deadline) {
            // The job is among those to be done, or is done.
            Ok(()) => true,
            Err(stop) => {
                lock(&self.state).slots.abandon();
                // The hand stays in the list for a while; what the job holds must not.
                hand.job.refuse(ThreadError::Cancelled);
                match stop {
                    Stop::Deadline => false,
                    Stop::Interrupt(interrupt) => switch::raise(interrupt),
                }
            }
        }
    }

    /// Calls a thread for the last of the jobs, or starts one.
    fn call_for(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        if state.idle >= state.jobs.len() {
            self.call.notify_one();
        } else if state.threads < state.maxsize {
            state.threads += 1;
            drop(state);
            self.start_thread();
        }
    }

    /// Starts a thread that has been counted already.
    fn start_thread(self: &Arc<Self>) {
        let crew = Arc::clone(self);
        let started = thread::Builder::new()
            .name("threadpool".to_owned())
            .spawn(move || crew.work());
        if let Err(error) = started {
            self.lose_thread(error);
        }
    }

    /// No thread could be started. Jobs wait for those that there are; without any, they fail.
    #[cold]
    fn lose_thread(&self, error: io::Error) {
        let dismissers = {
            let mut state = lock(&self.state);
            state.threads -= 1;
            state.dismissed()
        };
        for dismisser in dismissers {
            dismisser.notify();
        }
        let error = Arc::new(error);
        loop {
            let jobs = {
                let mut state = lock(&self.state);
                match state.threads {
                    0 => std::mem::take(&mut state.jobs),
                    _ => return,
                }
            };
            if jobs.is_empty() {
                return;
            }
            for job in jobs {
                // Lets in another one, who has no thread either.
                self.leave();
                job.refuse(ThreadError::NoThread(Arc::clone(&error)));
                self.left();
            }
        }
    }

    fn refuse(self: &Arc<Self>, jobs: VecDeque<Arc<dyn Work>>, error: impl Fn() -> ThreadError) {
        for job in jobs {
            self.leave_from_outside();
            job.refuse(error());
            self.left();
        }
    }

    /// The life of a thread.
    fn work(self: Arc<Self>) {
        CREW.set(Arc::as_ptr(&self).addr());
        let mut state = lock(&self.state);
        while state.threads <= state.maxsize {
            if let Some(job) = state.jobs.pop_front() {
                drop(state);
                job.run();
                self.leave();
                job.tell();
                // Perhaps with its result, if nobody wants that.
                drop_caught(job);
                self.left();
                state = lock(&self.state);
                continue;
            }
            if state.closed || state.dismissals > 0 {
                break;
            }
            state.idle += 1;
            let timeout = state.idle_timeout;
            let waited = self.call.wait_timeout(state, timeout);
            let (back, waited) = waited.unwrap_or_else(PoisonError::into_inner);
            state = back;
            state.idle -= 1;
            if waited.timed_out() && state.jobs.is_empty() {
                break;
            }
        }
        state.threads -= 1;
        let dismissers = state.dismissed();
        drop(state);
        for dismisser in dismissers {
            dismisser.notify();
        }
    }

    /// A job's slot is free. Said before anybody learns that the job is done, by a thread that then
    /// looks for the next.
    fn leave(&self) {
        let next = {
            let mut state = lock(&self.state);
            state.leaving += 1;
            let next = state.slots.give_back();
            state
                .jobs
                .extend(next.iter().map(|hand| Arc::clone(&hand.job)));
            next
        };
        if let Some(next) = next {
            next.waiter.wake();
        }
    }

    /// As [`leave`](Crew::leave), by somebody else.
    fn leave_from_outside(self: &Arc<Self>) {
        self.leave();
        let state = lock(&self.state);
        if !state.jobs.is_empty() {
            self.call_for(state);
        }
    }

    /// Everybody knows that the job is done.
    fn left(&self) {
        let joiners = {
            let mut state = lock(&self.state);
            state.leaving -= 1;
            if !state.is_done() {
                return;
            }
            state.joiners.take()
        };
        for joiner in joiners {
            joiner.notify();
        }
    }

    /// Takes out a job that has been given up.
    pub(super) fn forget(self: &Arc<Self>, job: *const ()) {
        let found = {
            let mut state = lock(&self.state);
            let is_it = |other: &Arc<dyn Work>| Arc::as_ptr(other).cast::<()>() == job;
            let place = state.jobs.iter().position(is_it);
            place.and_then(|place| state.jobs.remove(place))
        };
        // Else a thread has it already, and finds that there is nothing to do.
        if found.is_some() {
            self.leave_from_outside();
            self.left();
        }
    }

    pub(super) fn set_maxsize(self: &Arc<Self>, maxsize: usize) {
        let (more, woken) = {
            let mut state = lock(&self.state);
            state.maxsize = maxsize;
            let woken = state.slots.set_limit(slots(maxsize));
            let jobs = woken.iter().map(|hand| Arc::clone(&hand.job));
            state.jobs.extend(jobs);
            let waiting = state.jobs.len().saturating_sub(state.idle);
            let more = waiting.min(maxsize.saturating_sub(state.threads));
            state.threads += more;
            (more, woken)
        };
        // Those above the maximum are to notice.
        self.call.notify_all();
        for _ in 0..more {
            self.start_thread();
        }
        for hand in woken {
            hand.waiter.wake();
        }
    }

    pub(super) fn set_idle_timeout(&self, timeout: Duration) {
        lock(&self.state).idle_timeout = timeout;
        // For those who wait already.
        self.call.notify_all();
    }

    pub(super) fn maxsize(&self) -> usize {
        lock(&self.state).maxsize
    }

    pub(super) fn threads(&self) -> usize {
        lock(&self.state).threads
    }

    pub(super) fn unfinished(&self) -> usize {
        lock(&self.state).slots.taken()
    }

    /// Nobody has a handle any more: the threads end with the last job.
    pub(super) fn close(self: &Arc<Self>) {
        let stuck = {
            let mut state = lock(&self.state);
            state.closed = true;
            match state.maxsize {
                // Nobody can let them begin any more.
                0 => std::mem::take(&mut state.jobs),
                _ => VecDeque::new(),
            }
        };
        self.call.notify_all();
        self.refuse(stuck, || ThreadError::Cancelled);
    }

    /// Waits until all jobs are done; false if `deadline` came first, or the caller unwinds and
    /// would have to wait.
    pub(super) fn wait_done(&self, deadline: Option<u64>) -> bool {
        self.wait(deadline, State::is_done, |state| &mut state.joiners)
    }

    /// Gives up the jobs that have not begun, and has all threads end; whether they have.
    pub(super) fn dismiss(self: &Arc<Self>, deadline: Option<u64>) -> bool {
        let jobs = {
            let mut state = lock(&self.state);
            state.dismissals += 1;
            std::mem::take(&mut state.jobs)
        };
        let _dismissal = Dismissal(self);
        self.refuse(jobs, || ThreadError::Cancelled);
        self.call.notify_all();
        if self.is_called_by_worker() {
            return false;
        }
        let is_over = |state: &State| state.threads == 0;
        self.wait(deadline, is_over, |state| &mut state.dismissers)
    }

    fn wait(
        &self,
        deadline: Option<u64>,
        is_so: impl Fn(&State) -> bool,
        list: impl Fn(&mut State) -> &mut WaitList<Arc<Waiter>>,
    ) -> bool {
        switch::share();
        wait_in(
            &self.state,
            WaitsFor::Thread,
            deadline,
            |state| is_so(state),
            list,
        )
    }
}

/// Threads end as long as it is there.
struct Dismissal<'a>(&'a Crew);

impl Drop for Dismissal<'_> {
    fn drop(&mut self) {
        lock(&self.0.state).dismissals -= 1;
    }
}

impl State {
    fn is_done(&self) -> bool {
        self.slots.taken() == 0 && self.leaving == 0
    }

    /// Those who wait until all threads have ended, once they have.
    fn dismissed(&mut self) -> VecDeque<Arc<Waiter>> {
        match self.threads {
            0 => self.dismissers.take(),
            _ => VecDeque::new(),
        }
    }
}

/// How many jobs there may be: gevent lets one wait too, so that a thread that is done finds the
/// next.
fn slots(maxsize: usize) -> usize {
    maxsize.saturating_add(1)
}

impl fmt::Debug for Crew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = {
            let state = lock(&self.state);
            [
                ("len", state.slots.taken()),
                ("size", state.threads),
                ("maxsize", state.maxsize),
                ("idle", state.idle),
                ("spawners", state.slots.waiting()),
            ]
        };
        let mut text = f.debug_struct("ThreadPool");
        for (name, number) in &fields {
            text.field(name, number);
        }
        text.finish_non_exhaustive()
    }
}
