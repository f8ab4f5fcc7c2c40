//! Links: what is called when a greenlet has ended.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::builder::Builder;
use crate::error::JoinError;
use crate::hub::{Body, Go};
use crate::panics::drop_caught;
use crate::switch::BeforeSwitch;
use crate::sys::current;
use crate::task::Task;

/// A link of a greenlet, to be given to [`unlink`](crate::Greenlet::unlink).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Link(u64);

/// What is to be called once the greenlet has ended.
pub(super) type Call = Box<dyn FnOnce() + Send>;

/// Copies what a link is to get of the result, before anybody may take that. None: the link does
/// not care for such an end.
pub(super) type Prepare = Box<dyn FnOnce(Option<&JoinError>) -> Option<Call> + Send>;

/// The links of one greenlet, in their order.
#[derive(Default)]
pub(crate) struct Links {
    list: VecDeque<(Link, State)>,
    next: u64,
    /// Somebody calls them, or is about to.
    calling: bool,
}

enum State {
    Waiting(Prepare),
    /// Its turn to be prepared is now.
    Preparing,
    Ready(Call),
}

impl Links {
    /// Whether somebody is to call them now, which the caller of this sees to.
    pub(crate) fn start_calling(&mut self) -> bool {
        self.calling |= !self.list.is_empty();
        self.calling
    }

    fn new_number(&mut self) -> Link {
        self.next += 1;
        Link(self.next)
    }

    fn push(&mut self, state: State) -> Link {
        let link = self.new_number();
        self.list.push_back((link, state));
        link
    }

    fn find(&self, link: Link) -> Option<usize> {
        self.list.binary_search_by_key(&link.0, |it| it.0.0).ok()
    }

    /// The first behind `last` that waits, to be prepared. Behind those that wait are only such as
    /// came when the result was there already.
    fn next_to_prepare(&mut self, last: Option<Link>) -> Option<(Link, Prepare)> {
        let at = last.map_or(0, |last| self.list.partition_point(|it| it.0.0 <= last.0));
        let (link, state) = self.list.get_mut(at)?;
        if !matches!(state, State::Waiting(_)) {
            return None;
        }
        match std::mem::replace(state, State::Preparing) {
            State::Waiting(prepare) => Some((*link, prepare)),
            _ => None,
        }
    }

    /// Puts what has been prepared where the link was, if it is still wanted; else gives it back.
    fn prepared(&mut self, link: Link, call: Option<Call>) -> Option<Call> {
        let Some(at) = self.find(link) else {
            return call;
        };
        match call {
            Some(call) => self.list[at].1 = State::Ready(call),
            None => drop(self.list.remove(at)),
        }
        None
    }

    fn next_to_call(&mut self) -> Option<Call> {
        while let Some((_, state)) = self.list.pop_front() {
            if let State::Ready(call) = state {
                return Some(call);
            }
        }
        self.calling = false;
        None
    }
}

/// Links to `task`. `result` tells whether its result is there, and if so whether it is an error.
pub(super) fn link<'a>(
    task: &Arc<Task>,
    prepare: Prepare,
    result: impl Fn() -> Option<Option<&'a JoinError>>,
) -> Link {
    let early = task.with_links(|links| match result() {
        None => Ok(links.push(State::Waiting(prepare))),
        Some(_) => Err(prepare),
    });
    let prepare = match early {
        Ok(link) => return link,
        Err(prepare) => prepare,
    };
    let call = prepare(result().flatten());
    let (link, is_first) = task.with_links(|links| {
        let Some(call) = call else {
            return (links.new_number(), false);
        };
        let link = links.push(State::Ready(call));
        // Before the end, the end itself sees to it.
        let is_first = task.has_ended() && !std::mem::replace(&mut links.calling, true);
        (link, is_first)
    });
    if is_first {
        call_elsewhere(task);
    }
    link
}

/// Takes a link back; false if it is not there (any more).
pub(super) fn unlink(task: &Task, link: Link) -> bool {
    let removed = task.if_extra(|extra| {
        let at = extra.links.find(link)?;
        extra.links.list.remove(at)
    });
    // What the closure owns is dropped without the lock.
    removed.flatten().is_some()
}

/// Takes back all links.
pub(super) fn unlink_all(task: &Task) {
    drop(task.if_extra(|extra| std::mem::take(&mut extra.links.list)));
}

pub(super) fn count(task: &Task) -> usize {
    task.if_extra(|extra| extra.links.list.len()).unwrap_or(0)
}

/// Has the links prepared: the result is in place, and nobody has taken it yet.
pub(super) fn prepare(task: &Task, error: Option<&JoinError>) {
    if task.has_returned() {
        prepare_all(task, error);
    }
}

#[cold]
fn prepare_all(task: &Task, error: Option<&JoinError>) {
    let mut last = None;
    loop {
        let next = task.if_extra(|extra| extra.links.next_to_prepare(last));
        let Some((link, prepare)) = next.flatten() else {
            return;
        };
        let call = catch_unwind(AssertUnwindSafe(|| prepare(error)));
        let call = call.unwrap_or_else(|payload| {
            drop_caught(payload);
            None
        });
        let unwanted = task.if_extra(|extra| extra.links.prepared(link, call));
        drop_caught(unwanted);
        last = Some(link);
    }
}

/// The body of the greenlet that calls the links of one that has ended.
pub(crate) struct Caller {
    pub(crate) ended: Arc<Task>,
}

impl Body for Caller {
    fn run(self: Box<Self>, go: Go, task: &Task) {
        // Who waits for the end comes after the links, but not after one that blocks.
        if let Go::Run = go
            && !self.ended.is_over()
        {
            let tell: Arc<dyn BeforeSwitch> = Arc::new(Tell(Arc::clone(&self.ended)));
            task.local().frame.before_switch.set(Some(tell));
        }
        if !call_all(&self.ended) {
            call_elsewhere(&self.ended);
        }
        if !self.ended.is_over() {
            self.ended.tell();
        }
    }
}

struct Tell(Arc<Task>);

impl BeforeSwitch for Tell {
    fn before_switch(self: Arc<Self>) {
        self.0.tell();
    }
}

/// Calls the links that are left; false if one of them has had the calling greenlet killed, which
/// is nothing to the others.
fn call_all(ended: &Task) -> bool {
    loop {
        let next = ended.if_extra(|extra| extra.links.next_to_call());
        let Some(call) = next.flatten() else {
            return true;
        };
        if let Err(payload) = catch_unwind(AssertUnwindSafe(call)) {
            drop_caught(payload);
        }
        if current::with(|task| task.is_some_and(Task::is_killed)) {
            return false;
        }
    }
}

/// Has the links called by a greenlet of their own; if there can be none, they are called here.
fn call_elsewhere(ended: &Arc<Task>) {
    let caller = Caller {
        ended: Arc::clone(ended),
    };
    let spawned = Builder::new()
        .name(format!("links of {}", ended.name()))
        .hub(ended.hub() as usize)
        .launch_with(Box::new(caller), None, ended.site());
    if spawned.is_err() {
        while !call_all(ended) {}
    }
}
