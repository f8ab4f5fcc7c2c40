//! [`Task`]: what the runtime knows of one greenlet, and how anything that waits is woken.

mod frame;

use std::any::Any;
use std::fmt;
use std::panic::Location;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

pub(crate) use self::frame::{Frame, TaskLocal};
use crate::error::JoinError;
use crate::greenlet::{Ident, Links};
use crate::hub::{self, SendJob};
use crate::stats::AtomicTicks;
use crate::sys::coroutine::{ForeignParker, Parker};
use crate::sys::current;
use crate::sys::home::Home;
use crate::sys::stack::{self, StackBounds};
use crate::thread_parker::ThreadParker;
use crate::waitable::Watcher;
use crate::waiter::Waiter;

/// Locks, also when a panic has poisoned the lock: our critical sections leave the data whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Made, and not started.
const NEW: u8 = 0;
/// Its hub knows of it.
const STARTED: u8 = 1;
const RUNNING: u8 = 2;
/// Its result is there.
const ENDED: u8 = 3;
/// Everybody has been told of the end.
const TOLD: u8 = 4;

// The marks tell the greenlet's end whether it has to look at `interest` at all, which takes a lock.
// Each is set by an exchange, so of a greenlet that ends and of one that comes to wait for it, one
// sees the other.

/// Somebody has linked, or is about to.
const LINKED: u8 = 1;
/// Somebody is to be told of the end, or something else is in `interest`.
const WANTED: u8 = 2;
/// The result is there.
const RETURNED: u8 = 4;
/// The end has been told, as nobody was to be told of it.
const GONE: u8 = 8;

/// One greenlet, whatever its result's type is.
///
/// In the order in which the fields are written, here and in what it has: what each switch needs
/// comes first and lies together, in two or three cache lines. Of many greenlets that take turns
/// none is in the cache.
#[repr(C)]
pub(crate) struct Task {
    id: u64,
    stack: StackCell,
    state: AtomicU8,
    killed: AtomicBool,
    /// What others have been up to: see [`LINKED`].
    marks: AtomicU8,
    /// How many times its stack has been given back while it waited, up to a point.
    trims: AtomicU8,
    /// Since when it waits, for its own hub. Here there is room for it.
    pub(crate) since: AtomicTicks,
    local: Home<TaskLocal>,
    interest: Mutex<Interest>,
    /// The greenlet that spawned it; 0: none.
    parent: u64,
    /// Where it was spawned.
    site: &'static Location<'static>,
    name: OnceLock<Box<str>>,
}

/// Who cares for a greenlet.
#[derive(Default)]
enum Interest {
    #[default]
    Nobody,
    /// One who joins, as with most that anybody cares for.
    One(Arc<Waiter>),
    More(Box<Rare>),
}

impl Interest {
    fn rare(&mut self) -> Option<&mut Rare> {
        match self {
            Interest::More(rare) => Some(rare),
            _ => None,
        }
    }

    fn rare_or_new(&mut self) -> &mut Rare {
        if !matches!(self, Interest::More(_)) {
            let mut rare = Box::<Rare>::default();
            if let Interest::One(waiter) = std::mem::take(self) {
                rare.ends.push(End::Waiter(waiter));
            }
            *self = Interest::More(rare);
        }
        self.rare().expect("made just now, if need be")
    }
}

/// What few greenlets have.
#[derive(Default)]
struct Rare {
    /// Who is to be told of the end.
    ends: Vec<End>,
    extra: Option<Box<Extra>>,
}

/// What hardly any greenlet has.
#[derive(Default)]
pub(crate) struct Extra {
    pub(crate) links: Links,
    /// What it is killed with.
    payload: Option<Box<dyn Any + Send>>,
    /// What it will run, if it is ever started.
    unstarted: Option<SendJob>,
    minimal_ident: Option<Ident>,
}

/// Who is to learn of the end.
enum End {
    Waiter(Arc<Waiter>),
    Watcher(Watcher),
    /// Told before a keeper is.
    Early(Watcher),
    /// Weak, as the keeper has the greenlet: one that is never started would keep both.
    Keeper(Weak<dyn Keeper>),
}

/// One who keeps track of greenlets, as a group does. Called on the hub of the greenlet, between
/// two others: nothing here may block or run what is a user's.
pub(crate) trait Keeper: Send + Sync {
    /// A greenlet has come to an error. It may not be kept track of any more.
    fn failed(&self, id: u64, error: &JoinError);

    /// A greenlet is about to end; nobody else knows it yet. Whether it was kept track of.
    fn leaves(&self, id: u64) -> bool;

    /// One of which [`leaves`](Keeper::leaves) was true has ended.
    fn left(&self, id: u64);
}

impl End {
    fn is_wanted(&self) -> bool {
        match self {
            End::Waiter(waiter) => waiter.is_waiting(),
            End::Watcher(watcher) | End::Early(watcher) => watcher.is_wanted(),
            End::Keeper(keeper) => keeper.strong_count() > 0,
        }
    }
}

/// Stack bounds that the overflow handler may read at any time: written before the greenlet runs.
#[derive(Default)]
struct StackCell {
    high: AtomicUsize,
    size: AtomicU32,
    /// How much of it is in use, if it is put aside and there may be more to be given back; else 0.
    depth: AtomicU32,
}

impl StackCell {
    /// How much of it is in use when its greenlet is there; 0 if that is another stack, as a library
    /// may have put beneath the greenlet: then nobody knows how much of this one is.
    #[inline]
    fn depth_at(&self, here: usize) -> u32 {
        let depth = self.high.load(Ordering::Relaxed).wrapping_sub(here);
        let size = self.size.load(Ordering::Relaxed);
        match depth < size as usize {
            true => depth as u32,
            false => 0,
        }
    }
}

impl Task {
    /// A greenlet that is about to be started.
    pub(crate) fn new(
        name: Option<Box<str>>,
        hub: u32,
        site: &'static Location<'static>,
    ) -> Arc<Task> {
        Arc::new(Task::in_state(STARTED, name, hub, site))
    }

    /// A greenlet that somebody may start.
    pub(crate) fn unstarted(
        name: Option<Box<str>>,
        hub: u32,
        site: &'static Location<'static>,
        job: SendJob,
    ) -> Arc<Task> {
        let task = Task::in_state(NEW, name, hub, site);
        task.with_extra(|extra| extra.unstarted = Some(job));
        Arc::new(task)
    }

    fn in_state(
        state: u8,
        name: Option<Box<str>>,
        hub: u32,
        site: &'static Location<'static>,
    ) -> Task {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Task {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            name: name.map_or_else(OnceLock::new, OnceLock::from),
            state: AtomicU8::new(state),
            killed: AtomicBool::new(false),
            since: AtomicTicks::default(),
            site,
            parent: current::with(|task| task.map_or(0, Task::id)),
            marks: AtomicU8::new(0),
            trims: AtomicU8::new(0),
            interest: Mutex::default(),
            stack: StackCell::default(),
            local: Home::new(hub, TaskLocal::default()),
        }
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// The name that it was given, or one made from its number.
    pub(crate) fn name(&self) -> &str {
        self.name
            .get_or_init(|| format!("greenlet-{}", self.id).into())
    }

    /// The name if there is one yet. Does not allocate.
    pub(crate) fn known_name(&self) -> Option<&str> {
        self.name.get().map(|name| &**name)
    }

    pub(crate) fn hub(&self) -> u32 {
        self.local.hub()
    }

    /// The hub's own part.
    ///
    /// # Panics
    ///
    /// Off the hub's thread.
    #[inline]
    pub(crate) fn local(&self) -> &TaskLocal {
        self.local.get()
    }

    pub(crate) fn stack(&self) -> StackBounds {
        let high = self.stack.high.load(Ordering::Relaxed);
        let size = self.stack.size.load(Ordering::Relaxed) as usize;
        let low = high - size;
        StackBounds { low, high }
    }

    /// Notes how much of the stack is in use, by its own greenlet that is about to be put aside.
    #[inline]
    pub(crate) fn parks_here(&self) {
        let depth = self.stack.depth_at(stack::here());
        self.stack.depth.store(depth, Ordering::Relaxed);
    }

    /// Takes that back.
    #[inline]
    pub(crate) fn is_back(&self) {
        self.stack.depth.store(0, Ordering::Relaxed);
    }

    /// Whether it is put aside, and its stack has not been given back since.
    pub(crate) fn can_be_trimmed(&self) -> bool {
        self.stack.depth.load(Ordering::Relaxed) != 0
    }

    /// How many times its stack has been given back, up to a point.
    pub(crate) fn trims(&self) -> u8 {
        self.trims.load(Ordering::Relaxed)
    }

    /// Gives back what it does not use of its stack, and notes how many times that has been done.
    ///
    /// # Panics
    ///
    /// Off its hub's thread.
    pub(crate) fn trim(&self, trims: u8) {
        let depth = self.stack.depth.swap(0, Ordering::Relaxed);
        // On the hub's thread it does not run while this does.
        if self.local.is_here() && depth != 0 {
            self.trims.store(trims, Ordering::Relaxed);
            self.stack().trim_below(depth as usize);
        }
    }

    pub(crate) fn start(&self, stack: StackBounds, parker: Arc<Parker>) {
        self.stack.high.store(stack.high, Ordering::Relaxed);
        self.stack
            .size
            .store(stack.size() as u32, Ordering::Relaxed);
        *self.local().parker.borrow_mut() = Some(parker);
        self.state.store(RUNNING, Ordering::Release);
    }

    /// Takes back what it was [started](Task::start) with: nobody wakes it any more, and it waits for
    /// nothing.
    ///
    /// # Panics
    ///
    /// If it has not been started.
    pub(crate) fn take_parker(&self) -> Arc<Parker> {
        let local = self.local();
        local.waiter.take();
        let parker = local.parker.borrow_mut().take();
        parker.expect("lent by `start`")
    }

    /// Where it was spawned.
    pub(crate) fn site(&self) -> &'static Location<'static> {
        self.site
    }

    /// The number of the greenlet that spawned it.
    pub(crate) fn parent(&self) -> Option<u64> {
        (self.parent != 0).then_some(self.parent)
    }

    /// Whether its hub has been told to run it.
    pub(crate) fn is_launched(&self) -> bool {
        self.state.load(Ordering::Acquire) != NEW
    }

    pub(crate) fn has_started(&self) -> bool {
        self.state.load(Ordering::Acquire) >= RUNNING
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.state.load(Ordering::Acquire) >= ENDED
    }

    /// Whether the end has been told, also to its links.
    pub(crate) fn is_over(&self) -> bool {
        self.state.load(Ordering::Acquire) == TOLD
    }

    /// What an unstarted greenlet is to run: for the one who starts it.
    pub(crate) fn take_unstarted(&self) -> Option<SendJob> {
        if self.is_launched() {
            return None;
        }
        let mut interest = lock(&self.interest);
        let job = interest.rare()?.extra.as_mut()?.unstarted.take()?;
        self.state.store(STARTED, Ordering::Release);
        Some(job)
    }

    /// The smallest number that no other greenlet has that was asked for it.
    pub(crate) fn minimal_ident(&self) -> u32 {
        self.with_extra(|extra| extra.minimal_ident.get_or_insert_with(Ident::new).number())
    }

    /// Calls `f`, which must not block and runs no code of a user's.
    pub(crate) fn with_extra<R>(&self, f: impl FnOnce(&mut Extra) -> R) -> R {
        let mut interest = lock(&self.interest);
        self.want();
        let rare = interest.rare_or_new();
        f(rare.extra.get_or_insert_default())
    }

    /// Has the end look at `interest`, whose lock the caller holds.
    fn want(&self) {
        if self.marks.fetch_or(WANTED, Ordering::AcqRel) & GONE != 0 {
            // It has ended, and says so itself, but perhaps only now.
            self.state.store(TOLD, Ordering::Release);
        }
    }

    /// As [`with_extra`](Task::with_extra), of one who links. Either he sees the result, or what he
    /// leaves is seen after it has come.
    pub(crate) fn with_links<R>(&self, f: impl FnOnce(&mut Links) -> R) -> R {
        self.marks.fetch_or(LINKED, Ordering::AcqRel);
        self.with_extra(|extra| f(&mut extra.links))
    }

    /// Notes that the result has come; whether anybody has linked before that.
    pub(crate) fn has_returned(&self) -> bool {
        self.marks.fetch_or(RETURNED, Ordering::AcqRel) & LINKED != 0
    }

    /// As [`with_extra`](Task::with_extra), if there is anything.
    pub(crate) fn if_extra<R>(&self, f: impl FnOnce(&mut Extra) -> R) -> Option<R> {
        let mut interest = lock(&self.interest);
        Some(f(interest.rare()?.extra.as_mut()?))
    }

    /// Marks the end. The result is in place already. False if there are links, which come before
    /// everybody else is [told](Task::tell).
    pub(crate) fn end(&self) -> bool {
        let local = self.local();
        let hook = local.frame.before_switch.take();
        crate::panics::drop_caught(hook);
        if let Some(key) = local.timer.take() {
            hub::local().timers().cancel(key);
        }
        let is_unwanted = |marks| (marks & WANTED == 0).then_some(marks | GONE);
        let gone = (self.marks).fetch_update(Ordering::AcqRel, Ordering::Acquire, is_unwanted);
        if gone.is_ok() {
            self.state.store(TOLD, Ordering::Release);
            return true;
        }
        let mut interest = lock(&self.interest);
        // Whoever sees the end also sees the places that it leaves.
        let (keepers, has_links) = match interest.rare() {
            None => (Vec::new(), false),
            Some(rare) => {
                let keepers = match rare.ends.is_empty() {
                    true => Vec::new(),
                    false => self.leave(&mut rare.ends),
                };
                let extra = rare.extra.as_mut();
                let has_links = extra.is_some_and(|extra| extra.links.start_calling());
                (keepers, has_links)
            }
        };
        if has_links {
            self.state.store(ENDED, Ordering::Release);
            drop(interest);
        } else {
            self.tell_of_end(interest);
        }
        for (keeper, left) in keepers {
            if left {
                keeper.left(self.id);
            }
        }
        !has_links
    }

    /// Tells those of `ends` who are told before the end, and takes them out. Returns the keepers,
    /// and whether they are to be told after it. (Of those who are not, this may be the last handle,
    /// to be dropped without the lock.)
    fn leave(&self, ends: &mut Vec<End>) -> Vec<(Arc<dyn Keeper>, bool)> {
        for end in &*ends {
            if let End::Early(watcher) = end {
                watcher.tell();
            }
        }
        let mut keepers = Vec::new();
        ends.retain(|end| match end {
            End::Early(_) => false,
            End::Keeper(keeper) => {
                if let Some(keeper) = keeper.upgrade() {
                    let left = keeper.leaves(self.id);
                    keepers.push((keeper, left));
                }
                false
            }
            _ => true,
        });
        keepers
    }

    /// Wakes everybody who waits for the end.
    pub(crate) fn tell(&self) {
        self.tell_of_end(lock(&self.interest));
    }

    fn tell_of_end(&self, mut interest: MutexGuard<'_, Interest>) {
        let (one, ends) = match &mut *interest {
            Interest::More(rare) if rare.extra.is_some() => (None, std::mem::take(&mut rare.ends)),
            all => match std::mem::take(all) {
                Interest::Nobody => (None, Vec::new()),
                Interest::One(waiter) => (Some(waiter), Vec::new()),
                Interest::More(rare) => (None, rare.ends),
            },
        };
        self.state.store(TOLD, Ordering::Release);
        drop(interest);
        if let Some(waiter) = one {
            waiter.notify();
        }
        for end in ends {
            match end {
                End::Waiter(waiter) => {
                    waiter.notify();
                }
                End::Watcher(watcher) | End::Early(watcher) => watcher.tell(),
                // It came when the others had been told.
                End::Keeper(keeper) => {
                    if let Some(keeper) = keeper.upgrade()
                        && keeper.leaves(self.id)
                    {
                        keeper.left(self.id);
                    }
                }
            }
        }
    }

    /// Has `waiter` notified at the end; false when that is past.
    pub(crate) fn notify_at_end(&self, waiter: &Arc<Waiter>) -> bool {
        self.at_end(End::Waiter(Arc::clone(waiter)))
    }

    /// Has `watcher` told of the end; false when that is past.
    pub(crate) fn watch_end(&self, watcher: Watcher) -> bool {
        self.at_end(End::Watcher(watcher))
    }

    /// As [`watch_end`](Task::watch_end), but the watcher is told just before, and before anybody
    /// gets the place of it that a keeper gives.
    pub(crate) fn watch_end_early(&self, watcher: Watcher) -> bool {
        self.at_end(End::Early(watcher))
    }

    /// Has `keeper` told of the end; false when that is past.
    pub(crate) fn keep(&self, keeper: Weak<dyn Keeper>) -> bool {
        self.at_end(End::Keeper(keeper))
    }

    /// Tells those who keep track of it what it has come to.
    #[cold]
    pub(crate) fn tell_keepers_of(&self, error: &JoinError) {
        let keeper = |end: &End| match end {
            End::Keeper(keeper) => keeper.upgrade(),
            _ => None,
        };
        let keepers: Vec<_> = match lock(&self.interest).rare() {
            Some(rare) => rare.ends.iter().filter_map(keeper).collect(),
            None => return,
        };
        for keeper in keepers {
            keeper.failed(self.id, error);
        }
    }

    /// Has `keeper` told of nothing any more.
    pub(crate) fn forget(&self, keeper: &dyn Keeper) {
        if let Some(rare) = lock(&self.interest).rare() {
            rare.ends.retain(|end| match end {
                End::Keeper(other) => !std::ptr::addr_eq(other.as_ptr(), keeper),
                _ => true,
            });
        }
    }

    fn at_end(&self, end: End) -> bool {
        let mut interest = lock(&self.interest);
        self.want();
        if self.is_over() {
            return false;
        }
        let end = match (&*interest, end) {
            (Interest::Nobody, End::Waiter(waiter)) => {
                *interest = Interest::One(waiter);
                return true;
            }
            (_, end) => end,
        };
        let ends = &mut interest.rare_or_new().ends;
        // Those who gave up are dropped here, so that many short waits on a long greenlet take no
        // room.
        if ends.len() == ends.capacity() {
            ends.retain(End::is_wanted);
        }
        ends.push(end);
        true
    }

    #[inline]
    pub(crate) fn is_killed(&self) -> bool {
        self.killed.load(Ordering::Acquire)
    }

    pub(crate) fn mark_killed(&self) {
        self.killed.store(true, Ordering::Release);
    }

    /// Marks it as killed with `payload`; gives that back when it has been killed already.
    pub(crate) fn mark_killed_with(
        &self,
        payload: Box<dyn Any + Send>,
    ) -> Result<(), Box<dyn Any + Send>> {
        self.with_extra(|extra| {
            if self.is_killed() || self.has_ended() {
                return Err(payload);
            }
            extra.payload = Some(payload);
            self.mark_killed();
            Ok(())
        })
    }

    /// What it was killed with.
    pub(crate) fn take_payload(&self) -> Option<Box<dyn Any + Send>> {
        self.if_extra(|extra| extra.payload.take())?
    }

    /// Wakes it from whatever it waits for. On its hub's thread only.
    pub(crate) fn wake_here(&self) {
        let local = self.local();
        if let Some(endpoint) = &*local.io.borrow() {
            endpoint.wake();
        } else if let Some(parker) = &*local.parker.borrow() {
            parker.unpark();
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        let interest = self.interest.get_mut();
        if let Interest::More(rare) =
            std::mem::take(interest.unwrap_or_else(PoisonError::into_inner))
        {
            // Users' closures and payloads may be among it.
            crate::panics::drop_caught(rare);
        }
    }
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task")
            .field("id", &self.id)
            .field("name", &self.name)
            .field("hub", &self.hub())
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

/// Whom to wake.
#[derive(Clone, Debug)]
pub(crate) enum Sleeper {
    Greenlet(Arc<Task>),
    Thread(Arc<ThreadParker>),
    /// A coroutine of `may` that is no greenlet. Woken on its own hub only.
    Coroutine(Arc<ForeignParker>),
}

impl Sleeper {
    /// Wakes it, from any greenlet or thread.
    pub(crate) fn wake(&self) {
        match self {
            Sleeper::Greenlet(task) => hub::wake(task),
            Sleeper::Thread(parker) => parker.unpark(),
            Sleeper::Coroutine(parker) => parker.unpark(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stack_is_not_in_use_as_far_as_another_one_is() {
        let stack = StackCell {
            high: AtomicUsize::new(1 << 40),
            size: AtomicU32::new(64 << 10),
            depth: AtomicU32::new(0),
        };
        let high = 1 << 40;
        assert_eq!(stack.depth_at(high - 5_000), 5_000);
        for elsewhere in [high + 16, high - (64 << 10), high - (1 << 32) - 5_000, 16] {
            assert_eq!(stack.depth_at(elsewhere), 0);
        }
    }

    #[test]
    fn greenlet_keeps_its_waiter_if_nobody_else_has_it() {
        let greenlet = crate::spawn(|| {
            let first = Waiter::new();
            let place = Arc::as_ptr(&first).addr();
            assert!(first.notify());
            first.keep();
            let second = Waiter::new();
            assert_eq!(Arc::as_ptr(&second).addr(), place);
            assert!(second.is_waiting());
            let theirs = Arc::clone(&second);
            assert!(second.notify());
            second.keep();
            assert_ne!(Arc::as_ptr(&Waiter::new()).addr(), place);
            assert!(!theirs.is_waiting());
        });
        greenlet.join().unwrap();
    }

    /// With the two counts of the `Arc`, and the allocator's word: 232.
    #[test]
    fn what_each_greenlet_has_is_small() {
        assert_eq!(size_of::<Task>(), 208);
    }
}
