//! Who of a hub has its turn next.
//!
//! `may` puts a coroutine that is woken into its worker's queue, and resumes it from the worker's
//! loop: two greenlets that wake each other switch four times in a round, up to the loop and down
//! again, twice. Here a hub has a queue of its own, and who comes to wait runs the first of it, on
//! top of its own stack, until it is its own turn: then it just returns. So two that wake each other
//! switch twice.
//!
//! Who does so is the *host*. Those that it resumes are its *guests*: they come back to it when they
//! wait, and do not host themselves. A host that is not woken itself soon gives up, and is put aside
//! as everybody else; then the queue goes on in one of the hub's own loops, where the next who waits
//! may be a host. When there is no such loop at work, one is called, the *runner*, through `may`'s own
//! queue. So nobody is left here when `may` polls.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::mem::ManuallyDrop;
use std::ptr;
use std::sync::atomic::Ordering;

use generator::Generator;
use may::io::{AsIoData, IoData, WaitIo, WaitIoWaker};

use super::current;
use super::home::this_hub;
use crate::stats;

/// How many guests a host has at most while it has not been woken itself.
const MOST_GUESTS: u32 = 2;

/// Room that is kept in the queue after a burst.
const SMALL: usize = 4_096;

/// What the flags of a descriptor's wait say when something else has ended it.
const WOKEN: usize = 0x8000_0000;

thread_local! {
    // Never dropped: a hub is for ever.
    static TURNS: ManuallyDrop<Turns> = const { ManuallyDrop::new(Turns::new()) };
}

/// Those of this thread.
#[inline(always)]
fn turns() -> &'static Turns {
    // SAFETY: they are never dropped, and their thread, a hub's, never ends. `Turns` is not `Sync`,
    // so the reference does not leave it.
    TURNS.with(|turns| unsafe { &*ptr::from_ref::<Turns>(turns) })
}

/// A coroutine that is not running, as `may` has it (`Generator::into_raw`).
type Suspended = *mut usize;

/// What the running coroutine comes back to when it waits.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Beneath {
    /// `may`'s loop, or somebody that it has resumed and that is not ours.
    May,
    /// One of the hub's own loops, which sees to the queue.
    Loop,
    Host,
    /// One that has just started it.
    Starter,
}

/// The turns of one hub.
struct Turns {
    /// Those that have been woken, each owned by its place here. Null: the host.
    queue: RefCell<VecDeque<Suspended>>,
    beneath: Cell<Beneath>,
    /// By what the host waits; null: there is none.
    host: Cell<*const IoData>,
    /// The host is in the queue.
    host_is_due: Cell<bool>,
    /// The place of the guest that comes back, if it waits in one.
    place: Cell<*const Place>,
    /// The guest that comes back is to be put at the end of the queue.
    passes: Cell<bool>,
    runner: RefCell<Option<WaitIoWaker>>,
    runner_is_called: Cell<bool>,
}

/// Where a coroutine is put aside until it is woken.
pub(super) struct Place {
    /// In no epoll set: `may` resumes nobody for it.
    data: IoData,
    /// The coroutine, if it came back to one of ours.
    aside: Cell<Suspended>,
    /// The coroutine is in `data`, as it came back to `may`.
    is_with_may: Cell<bool>,
    /// It has been woken while it ran.
    is_woken: Cell<bool>,
}

// SAFETY: what is aside is an owned coroutine, of one that stays on its hub: only there is it taken
// out, and the last handle of the place, which another thread may have, is none of it.
unsafe impl Send for Place {}

/// Has the running coroutine go back to what is beneath it, until it is resumed.
// What calls this is inlined into the wait (see `switch::park_greenlet`), and may's own part into this:
// each return behind the switch is predicted wrongly.
#[inline(never)]
fn go_back(data: &IoData) -> usize {
    // One type, so that may's own part is compiled into this, once.
    struct By<'a>(&'a IoData);
    impl AsIoData for By<'_> {
        fn as_io_data(&self) -> &IoData {
            self.0
        }
    }
    By(data).wait_io()
}

impl Place {
    pub(super) fn new(data: IoData) -> Place {
        Place {
            data,
            aside: Cell::new(ptr::null_mut()),
            is_with_may: Cell::new(false),
            is_woken: Cell::new(false),
        }
    }

    /// Puts the running coroutine aside until it is [woken](Place::wake); returns at once if it has
    /// been while it ran.
    #[inline(always)]
    pub(super) fn wait(&self) {
        if self.is_woken.replace(false) {
            return;
        }
        let turns = turns();
        if turns.host_if_any(&self.data) {
            return;
        }
        match turns.beneath.get() {
            Beneath::Loop | Beneath::Host => turns.place.set(self),
            Beneath::May | Beneath::Starter => self.is_with_may.set(true),
        }
        go_back(&self.data);
    }

    /// Has the coroutine resumed that waits here. If it runs, its next wait returns at once.
    #[inline]
    pub(super) fn wake(&self) {
        if let Some(coroutine) = self.woken() {
            turns().push(coroutine);
        }
    }

    /// As [`wake`](Place::wake), before all others that have been woken.
    pub(super) fn wake_first(&self) {
        if let Some(coroutine) = self.woken() {
            turns().push_first(coroutine);
        }
    }

    /// What is to be put into the queue when the coroutine is woken that waits here.
    #[inline(always)]
    fn woken(&self) -> Option<Suspended> {
        let turns = turns();
        if ptr::eq(turns.host.get(), &self.data) {
            let is_due = turns.host_is_due.replace(true);
            return (!is_due).then_some(ptr::null_mut());
        }
        let aside = self.aside.replace(ptr::null_mut());
        if !aside.is_null() {
            return Some(aside);
        }
        if self.is_with_may.replace(false) {
            return self.data.co.take().map(Generator::into_raw);
        }
        self.is_woken.set(true);
        None
    }

    /// Puts the running coroutine, which waits here when it does, at the end of the queue.
    #[inline(always)]
    pub(super) fn pass(&self) {
        let turns = turns();
        match turns.beneath.get() {
            Beneath::Loop | Beneath::Host => {
                turns.passes.set(true);
                go_back(&self.data);
            }
            Beneath::May => {
                turns.wake_host();
                turns.host(&self.data);
            }
            // It has just been given its turn out of order, and may as well keep it. (By may's own way to
            // yield there would be a second use of what is compiled into `go_back`, once.)
            Beneath::Starter => {}
        }
    }
}

impl Turns {
    const fn new() -> Turns {
        Turns {
            queue: RefCell::new(VecDeque::new()),
            beneath: Cell::new(Beneath::May),
            host: Cell::new(ptr::null()),
            host_is_due: Cell::new(false),
            place: Cell::new(ptr::null()),
            passes: Cell::new(false),
            runner: RefCell::new(None),
            runner_is_called: Cell::new(false),
        }
    }

    /// Puts one at the end of the queue.
    #[inline]
    fn push(&self, coroutine: Suspended) {
        let ready = {
            let mut queue = self.queue.borrow_mut();
            queue.push_back(coroutine);
            queue.len()
        };
        self.has_come(ready);
    }

    /// Puts one before all others.
    fn push_first(&self, coroutine: Suspended) {
        let ready = {
            let mut queue = self.queue.borrow_mut();
            queue.push_front(coroutine);
            queue.len()
        };
        self.has_come(ready);
    }

    /// Somebody has been put into the queue, of which there are `ready` now.
    #[inline]
    fn has_come(&self, ready: usize) {
        stats::of(this_hub()).ready(ready);
        if matches!(self.beneath.get(), Beneath::May | Beneath::Starter) {
            // Also where it is not needed: nobody knows how who runs now goes back to `may`'s loop, and
            // it is called once until that has its turn.
            self.call_runner();
        }
    }

    /// Takes the first out of the queue.
    #[inline(always)]
    fn next(&self) -> Option<Suspended> {
        let mut queue = self.queue.borrow_mut();
        let next = queue.pop_front();
        stats::of(this_hub()).ready(queue.len());
        next
    }

    #[inline]
    fn wake_host(&self) {
        if !self.host_is_due.replace(true) {
            self.push(ptr::null_mut());
        }
    }

    #[inline(never)]
    fn call_runner(&self) {
        if self.runner_is_called.get() {
            return;
        }
        if let Some(runner) = &*self.runner.borrow() {
            self.runner_is_called.set(true);
            runner.wakeup();
        }
    }

    /// [Hosts](Turns::host) if the running coroutine may do so, and anybody has been woken.
    #[inline(always)]
    fn host_if_any(&self, data: &IoData) -> bool {
        let may_host = matches!(self.beneath.get(), Beneath::May | Beneath::Loop);
        may_host && !self.queue.borrow().is_empty() && self.host(data)
    }

    /// Runs some of those that have been woken, by the running coroutine, which is about to wait by
    /// `data`. True if it has its turn then.
    #[inline(always)]
    fn host(&self, data: &IoData) -> bool {
        self.host.set(data);
        let beneath = self.beneath.replace(Beneath::Host);
        let mut guests = 0;
        let is_due = loop {
            if guests >= MOST_GUESTS && !self.host_is_due.get() {
                break false;
            }
            guests += 1;
            match self.next() {
                Some(host) if host.is_null() => break true,
                Some(guest) => self.resume(guest, data),
                None => break false,
            }
        };
        self.host.set(ptr::null());
        self.host_is_due.set(false);
        self.beneath.set(beneath);
        is_due
    }

    /// Runs all that have been woken, by one of the hub's own loops, which waits by `data`.
    fn run_all(&self, data: &IoData) {
        self.beneath.set(Beneath::Loop);
        // This stack is no greenlet's, and that of who was here last may be gone soon.
        current::leaves_stack();
        while let Some(coroutine) = self.next() {
            self.resume(coroutine, data);
        }
        let mut queue = self.queue.borrow_mut();
        if queue.capacity() > SMALL {
            *queue = VecDeque::new();
        }
    }

    /// Resumes a coroutine up to its next wait, and puts it aside. `data` is any.
    #[inline(always)]
    fn resume(&self, coroutine: Suspended, data: &IoData) {
        let mut coroutine_of_may = None;
        if false {
            // Says to the compiler of what type it is, which has no name here.
            coroutine_of_may = data.co.take();
        }
        // SAFETY: it was made by `into_raw` of a coroutine of that type, all of which are `may`'s, and
        // whoever calls this has just taken it out of the queue, which owned it.
        let coroutine = coroutine_of_may.insert(unsafe { Generator::from_raw(coroutine) });
        // Others end meanwhile, but whose stack this is stays the same.
        let left = current::leaves_stack();
        let waits = coroutine.resume();
        left.come_back();
        let Some(coroutine) = coroutine_of_may else {
            return;
        };
        let Some(waits) = waits else {
            // Only a panic ends one like this, and ours end by none: what was to be put right behind it
            // was not.
            eprintln!("greenwood: a coroutine has been ended by a panic");
            std::process::abort();
        };
        let place = self.place.replace(ptr::null());
        if !place.is_null() {
            // SAFETY: it is suspended in a method of the place, which has set this just before.
            unsafe { &*place }.aside.set(coroutine.into_raw());
        } else if self.passes.replace(false) {
            self.push(coroutine.into_raw());
        } else {
            // `may` has it go on at once if its event has come; then it is not ours that it comes
            // back to.
            let beneath = self.beneath.replace(Beneath::Starter);
            waits.subscribe(coroutine);
            self.beneath.set(beneath);
        }
    }
}

/// Waits until `may` resumes the running coroutine for an event of a descriptor, or it is
/// [woken](wake); returns the events. At once if there has been one.
#[inline]
pub(super) fn wait(data: &IoData) -> usize {
    if data.io_flag.load(Ordering::Relaxed) != 0 {
        return data.reset();
    }
    let turns = turns();
    if turns.host_if_any(data) {
        return 0;
    }
    go_back(data)
}

/// Has the coroutine that [waits](wait) for the events of a descriptor resumed when its turn comes.
/// If it runs, its next wait returns at once.
pub(super) fn wake(data: &IoData) {
    let turns = turns();
    if ptr::eq(turns.host.get(), data) {
        turns.wake_host();
    } else if let Some(coroutine) = data.co.take() {
        turns.push(coroutine.into_raw());
    } else {
        data.io_flag.fetch_or(WOKEN, Ordering::Release);
    }
}

/// As [`wait`], by one of the hub's own loops, which runs all that have been woken before.
pub(super) fn wait_in_loop(data: &IoData) {
    let turns = turns();
    if turns.beneath.get() != Beneath::Starter {
        turns.run_all(data);
        turns.beneath.set(Beneath::May);
    }
    go_back(data);
    // It sees to those that it wakes now itself.
    turns.beneath.set(Beneath::Loop);
}

/// Lets a coroutine that the calling one starts come back to it at its first wait.
pub(super) fn start<R>(start: impl FnOnce() -> R) -> R {
    struct Was(Beneath);
    impl Drop for Was {
        fn drop(&mut self) {
            turns().beneath.set(self.0);
        }
    }
    let _was = Was(turns().beneath.replace(Beneath::Starter));
    start()
}

/// The life of the hub's runner, a loop that is called when there is no other that would see to the
/// queue. It waits by `data`, and is woken by `waker`.
pub(super) fn run_for_ever(data: &IoData, waker: WaitIoWaker) -> ! {
    let turns = turns();
    turns.runner.replace(Some(waker));
    loop {
        go_back(data);
        turns.runner_is_called.set(false);
        turns.run_all(data);
        turns.beneath.set(Beneath::May);
    }
}
