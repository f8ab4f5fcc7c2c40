//! The coroutines of a hub, and the greenlets that wait for one.
//!
//! A greenlet gets a coroutine, and with it a stack, when its turn comes and not when it is spawned:
//! of a thousand that end without a wait, all run on one stack. As long as there are coroutines
//! left over, each greenlet has one called, so that its turn comes in order with those of others
//! that have been woken. When there are none, those that have been called go on with the next, and
//! if they come to wait, the *opener* (a coroutine of the hub's own) makes another.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use super::{Body, Go, HubLocal, Job, words};
use crate::error::SpawnError;
use crate::greenlet::Caller;
use crate::panics::drop_caught;
use crate::sys::coroutine::{self, Parker};
use crate::sys::current;
use crate::sys::stack::{self, StackBounds};
use crate::task::Task;
use crate::{limits, local, panics, switch};

/// How many coroutines a hub keeps for the next greenlets, each with its stack.
const IDLE_COROUTINES: usize = 256;

/// How many hooks, each set by the one before, run at a greenlet's end.
const MAX_LAST_HOOKS: usize = 100;

/// Room that is kept in a list after a burst.
const SMALL: usize = 4_096;

/// What a hub knows of its coroutines, by their parkers.
#[derive(Default)]
pub(super) struct Coroutines {
    /// Greenlets that wait for their first turn.
    starting: RefCell<VecDeque<Starting>>,
    /// Those with a stack of their own, and whose it is.
    apart: RefCell<Vec<(Arc<Parker>, Starting)>>,
    /// Coroutines that wait to be called.
    idle: RefCell<Vec<Arc<Parker>>>,
    /// Coroutines that have been called to run the first of `starting`, in the order of their turns.
    called: RefCell<VecDeque<Arc<Parker>>>,
    opener: OnceCell<Arc<Parker>>,
    /// The opener has been woken.
    opens: Cell<bool>,
    /// How many of `starting` are to begin one behind the other, as their turn has come: not each in
    /// a round of its own through all who can run.
    due: Cell<usize>,
    /// Where in its first page the next coroutine is to begin.
    colour: Cell<u8>,
}

/// A greenlet that waits for its first turn.
struct Starting {
    task: Arc<Task>,
    body: Box<dyn Body>,
}

impl HubLocal {
    /// Has a greenlet run when its turn comes.
    pub(crate) fn start(&'static self, task: Arc<Task>, job: Job) {
        self.counters.accepted();
        let stack_size = job.stack_size.unwrap_or(self.stack_size);
        let body = job.body;
        let starting = Starting { task, body };
        if stack_size != self.stack_size {
            self.start_apart(starting, stack_size);
            return;
        }
        self.coroutines.starting.borrow_mut().push_back(starting);
        let idle = self.coroutines.idle.borrow_mut().pop();
        match idle {
            Some(coroutine) => self.call(coroutine),
            None => self.ensure_called(Parker::unpark),
        }
    }

    fn start_apart(&'static self, starting: Starting, stack_size: usize) {
        match self.open_coroutine(stack_size, Self::run_one) {
            Ok(coroutine) => {
                let entry = (Arc::clone(&coroutine), starting);
                self.coroutines.apart.borrow_mut().push(entry);
                self.wake_in_turn(&coroutine);
            }
            Err(error) => self.refuse(starting, error),
        }
    }

    /// Has a coroutine run the first greenlet that waits for its first turn.
    fn call(&self, coroutine: Arc<Parker>) {
        self.wake_in_turn(&coroutine);
        self.coroutines.called.borrow_mut().push_back(coroutine);
    }

    /// As [`call`](HubLocal::call), by the opener, whose turn it is.
    fn call_first(&self, coroutine: Arc<Parker>) {
        match self.may_run_on() {
            true => coroutine.unpark_first(),
            false => self.wake_coroutine_after_poll(&coroutine),
        }
        self.coroutines.called.borrow_mut().push_back(coroutine);
    }

    /// Greenlets that spawn greenlets for ever must not stop all I/O either.
    fn wake_in_turn(&self, coroutine: &Arc<Parker>) {
        match self.may_run_on() {
            true => coroutine.unpark(),
            false => self.wake_coroutine_after_poll(coroutine),
        }
    }

    /// Sees to it that somebody comes for the greenlets that wait for their first turn.
    fn ensure_called(&self, unpark: impl FnOnce(&Parker)) {
        let coroutines = &self.coroutines;
        if coroutines.called.borrow().is_empty() && !coroutines.opens.replace(true) {
            let opener = coroutines.opener.get();
            unpark(opener.expect("there since the hub began"));
        }
    }

    /// Starts the opener.
    pub(super) fn start_opener(&'static self) -> std::io::Result<()> {
        let parker = self.new_parker();
        self.coroutines.opener.set(Arc::clone(&parker)).ok();
        coroutine::spawn_here(words(self.stack_size), move || self.open_for_ever(&parker))
    }

    /// The life of the opener.
    fn open_for_ever(&'static self, parker: &Parker) {
        loop {
            self.in_loop.set(false);
            parker.park();
            self.in_loop.set(true);
            self.coroutines.opens.set(false);
            while self.coroutines.called.borrow().is_empty() {
                let idle = self.coroutines.idle.borrow_mut().pop();
                let has_starting = !self.coroutines.starting.borrow().is_empty();
                match idle {
                    Some(coroutine) if has_starting => self.call_first(coroutine),
                    Some(coroutine) => self.coroutines.idle.borrow_mut().push(coroutine),
                    None if has_starting => self.open_one(),
                    None => {}
                }
                if !has_starting {
                    break;
                }
            }
        }
    }

    /// Makes a coroutine for the first greenlet that waits, or refuses that.
    fn open_one(&'static self) {
        match self.open_coroutine(self.stack_size, Self::run_many) {
            Ok(coroutine) => self.call_first(coroutine),
            Err(error) => {
                let first = self.coroutines.starting.borrow_mut().pop_front();
                if let Some(first) = first {
                    self.refuse(first, error);
                }
            }
        }
    }

    pub(super) fn new_parker(&self) -> Arc<Parker> {
        Arc::new(Parker::new(self.id, self.idle_fd.as_raw_fd()))
    }

    /// Makes a coroutine that lives `life`, and runs it up to its first park.
    fn open_coroutine(
        &'static self,
        stack_size: usize,
        life: fn(&'static HubLocal, Arc<Parker>, StackBounds),
    ) -> Result<Arc<Parker>, SpawnError> {
        limits::check_stack()?;
        let parker = self.new_parker();
        let colour = self.coroutines.colour.get();
        self.coroutines.colour.set(colour.wrapping_add(1));
        let body = {
            let parker = Arc::clone(&parker);
            move || {
                let stack = StackBounds::of_this_coroutine(stack_size);
                // The sentinel is all that is in it, and is not looked at before the end.
                stack.drop_lowest_page();
                let _counted = limits::Stack::new();
                stack::coloured(colour, || life(self, parker, stack));
                stack.restore_sentinel();
            }
        };
        // The coroutine runs here up to its first park, in place of the greenlet that spawns it.
        let _aside = current::aside();
        // generator panics when the system has no memory or no mappings left.
        let spawned = panics::quietly(|| coroutine::spawn_here(words(stack_size), body));
        let source = match spawned {
            Ok(Ok(())) => return Ok(parker),
            Ok(Err(source)) => Some(source),
            Err(_) => None,
        };
        // The mappings may be the reason: the next spawns are to know at once.
        if limits::alive() <= limits::allowed() {
            limits::recount();
        }
        Err(SpawnError::stack(stack_size, source))
    }

    /// Ends a greenlet for which there is no coroutine.
    fn refuse(&self, starting: Starting, error: SpawnError) {
        let Starting { task, body } = starting;
        self.counters.refused();
        // No coroutine, so the closure is dropped here, and must not be able to block.
        let _aside = current::aside();
        body.run(Go::Refused(error), &task);
        limits::release();
        if !task.end() {
            let ended = Arc::clone(&task);
            Box::new(Caller { ended }).run(Go::Killed, &task);
        }
    }

    /// The life of a coroutine that is kept.
    fn run_many(&'static self, mut parker: Arc<Parker>, stack: StackBounds) {
        loop {
            parker.park();
            // It may have been woken for the greenlet that it ran before.
            let Some(ticket) = self.ticket_of(&parker) else {
                continue;
            };
            let mut next = self.next_to_start();
            while let Some(starting) = next {
                parker = self.run_greenlet(starting, parker, stack);
                next = self.next_left_over();
            }
            let mut idle = self.coroutines.idle.borrow_mut();
            if idle.len() >= IDLE_COROUTINES {
                return;
            }
            idle.push(ticket);
        }
    }

    /// The life of a coroutine with a stack size of its own.
    fn run_one(&'static self, parker: Arc<Parker>, stack: StackBounds) {
        loop {
            parker.park();
            let starting = {
                let mut apart = self.coroutines.apart.borrow_mut();
                let mine = apart.iter().position(|it| Arc::ptr_eq(&it.0, &parker));
                mine.map(|at| apart.remove(at).1)
            };
            if let Some(starting) = starting {
                self.run_greenlet(starting, parker, stack);
                return;
            }
        }
    }

    /// What says that the coroutine has been called.
    fn ticket_of(&self, coroutine: &Arc<Parker>) -> Option<Arc<Parker>> {
        let mut called = self.coroutines.called.borrow_mut();
        // Nearly always the first: they have their turns in the order in which they were called.
        let at = called.iter().position(|it| Arc::ptr_eq(it, coroutine))?;
        called.remove(at)
    }

    fn next_to_start(&self) -> Option<Starting> {
        let mut starting = self.coroutines.starting.borrow_mut();
        let next = starting.pop_front();
        if !starting.is_empty() {
            // For the case that this one comes to wait. Those that were there when the turn of the
            // first came follow at once; who has been spawned since waits as everybody else.
            let due = match self.coroutines.due.get() {
                0 => starting.len(),
                due => due - 1,
            };
            self.coroutines.due.set(due);
            self.ensure_called(match due {
                0 => Parker::unpark,
                _ => Parker::unpark_first,
            });
        } else {
            self.coroutines.due.set(0);
            if starting.capacity() > SMALL {
                *starting = VecDeque::new();
            }
        }
        next
    }

    /// The next to start for a coroutine that has just run a greenlet, if there are more than have
    /// been called for.
    fn next_left_over(&self) -> Option<Starting> {
        let called = self.coroutines.called.borrow().len();
        if self.coroutines.starting.borrow().len() <= called {
            return None;
        }
        if self.may_run_on() {
            return self.next_to_start();
        }
        // The opener has it go on after a poll.
        self.ensure_called(Parker::unpark);
        None
    }

    /// The greenlets that wait for their first turn.
    pub(crate) fn starting(&self) -> Vec<Arc<Task>> {
        let starting = self.coroutines.starting.borrow();
        let apart = self.coroutines.apart.borrow();
        let apart = apart.iter().map(|(_, it)| it);
        let all = starting.iter().chain(apart);
        all.map(|it| Arc::clone(&it.task)).collect()
    }

    /// Runs a greenlet to its end. The parker is lent to it.
    fn run_greenlet(
        &self,
        Starting { task, body }: Starting,
        parker: Arc<Parker>,
        stack: StackBounds,
    ) -> Arc<Parker> {
        task.start(stack, parker);
        current::start(&task);
        self.counters.begun();
        switch::has_its_turn(&task);
        self.roster.during(&task, || self.run_body(&task, body));
        switch::switched_away(&task);
        self.counters.ended();
        current::end();
        limits::release();
        let parker = task.take_parker();
        match task.end() {
            true => parker,
            false => self.call_links(&task, parker, stack),
        }
    }

    fn run_body(&self, task: &Arc<Task>, body: Box<dyn Body>) {
        let go = match task.is_killed() {
            true => Go::Killed,
            false => Go::Run,
        };
        body.run(go, task);
        let has_locals = &task.local().frame.has_locals;
        if has_locals.get() {
            local::drop_values(task);
        }
        // A hook may leave another one, up to a point. What a user owns is dropped while this is a
        // greenlet, where it may block.
        for _ in 0..MAX_LAST_HOOKS {
            if let Err(payload) = switch::run_hook(task) {
                drop_caught(payload);
            }
            if !switch::has_hook(task) {
                break;
            }
        }
        if has_locals.get() {
            local::forget(task);
        }
    }

    /// Has the links of a greenlet called that has just ended, by another one on the same stack: so
    /// there is always room for it.
    #[cold]
    #[inline(never)]
    fn call_links(
        &self,
        ended: &Arc<Task>,
        parker: Arc<Parker>,
        stack: StackBounds,
    ) -> Arc<Parker> {
        let name = format!("links of {}", ended.name()).into();
        let task = Task::new(Some(name), self.id, ended.site());
        let ended = Arc::clone(ended);
        limits::reserve_anyway();
        self.counters.accepted();
        let body = Box::new(Caller { ended });
        self.run_greenlet(Starting { task, body }, parker, stack)
    }
}
