//! What Greenwood uses of `may`: spawn, wait for readiness, and coroutines that are put aside and
//! resumed.
//!
//! A park is a wait on an [`IoData`] that no descriptor ever reports to: that is the cheapest
//! way of `may` to put a coroutine aside, and it takes no part in cancellation or its timer thread.
//! Who is woken waits for its turn in the hub's own queue ([`turns`]), by the rule that every
//! wake is made on the home hub.

use std::cell::Cell;
use std::fmt;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::Arc;

use may::coroutine::Builder;
use may::io::{AsIoData, CoIo, IoData, WaitIo};

use super::home::{Home, this_hub};
use super::stack;
use super::turns::{self, Place};
use crate::config::MIN_STACK_SIZE;

/// Parks and wakes one coroutine. Belongs to its hub: both are done on the hub's thread.
pub(crate) struct Parker(Home<Place>);

impl Parker {
    /// A parker of `hub`. `idle_fd` is a descriptor of the hub that is in no epoll set: `may`
    /// takes the descriptor out of the set when the parker is dropped.
    pub(crate) fn new(hub: u32, idle_fd: RawFd) -> Parker {
        Parker(Home::new(hub, Place::new(IoData::new(&idle_fd))))
    }

    /// Switches away until [`unpark`](Parker::unpark); at once if that has come already.
    #[inline(always)]
    pub(crate) fn park(&self) {
        self.0.get().wait();
    }

    #[inline]
    pub(crate) fn unpark(&self) {
        self.0.get().wake();
    }

    /// As [`unpark`](Parker::unpark), before all others that have been woken.
    pub(crate) fn unpark_first(&self) {
        self.0.get().wake_first();
    }

    /// Puts the running coroutine, which is the one that parks here, at the end of its hub's queue.
    #[inline(always)]
    pub(crate) fn pass(&self) {
        self.0.get().pass();
    }
}

impl fmt::Debug for Parker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parker")
            .field("hub", &self.0.hub())
            .finish_non_exhaustive()
    }
}

/// As [`Parker`], of a coroutine of `may` that is none of ours: `may` has all its turns.
pub(crate) struct ForeignParker(Home<Data>);

struct Data(IoData);

impl AsIoData for Data {
    fn as_io_data(&self) -> &IoData {
        &self.0
    }
}

impl ForeignParker {
    /// As [`Parker::new`].
    pub(crate) fn new(hub: u32, idle_fd: RawFd) -> ForeignParker {
        ForeignParker(Home::new(hub, Data(IoData::new(&idle_fd))))
    }

    pub(crate) fn park(&self) {
        self.0.get().wait_io();
    }

    pub(crate) fn unpark(&self) {
        self.0.get().waker().wakeup();
    }
}

impl fmt::Debug for ForeignParker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForeignParker")
            .field("hub", &self.0.hub())
            .finish_non_exhaustive()
    }
}

/// A descriptor in the epoll set of its hub, edge-triggered for reading and writing. Only the hub's
/// thread may wait for it and wake who waits.
///
/// Does not own the descriptor: it must be dropped *before* the descriptor is closed.
pub(crate) struct Registration(Home<CoIo<RawFd>>);

impl Registration {
    /// Registers `fd` with the calling hub, which has to be `fd % hubs`, and makes it non-blocking.
    pub(crate) fn new(fd: RawFd) -> std::io::Result<Registration> {
        let io = CoIo::new(fd).map_err(std::io::Error::from)?;
        Ok(Registration(Home::new(this_hub(), io)))
    }

    /// Switches away until the descriptor reports something or [`wake`](Registration::wake) is
    /// called; returns the epoll events.
    #[inline]
    pub(crate) fn wait(&self) -> usize {
        turns::wait(self.0.get().as_io_data())
    }

    /// As [`wait`](Registration::wait), of one of the hub's own loops.
    pub(crate) fn wait_in_loop(&self) {
        turns::wait_in_loop(self.0.get().as_io_data());
    }

    pub(crate) fn fd(&self) -> RawFd {
        *self.0.get().inner()
    }

    pub(crate) fn wake(&self) {
        turns::wake(self.0.get().as_io_data());
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration")
            .field("hub", &self.0.hub())
            .finish_non_exhaustive()
    }
}

/// Starts the first greenlet of a hub on worker `hub`; the only spawn that crosses threads.
pub(crate) fn spawn_on_worker<F>(hub: usize, name: &str, body: F) -> std::io::Result<()>
where
    F: FnOnce() + Send + 'static,
{
    let builder = Builder::new().name(name.to_owned()).id(hub);
    // SAFETY: `may` asks its callers not to use thread-locals across a switch and not to overflow
    // the stack, because it moves coroutines between threads. Greenwood's never move: they are
    // woken only by readiness of descriptors congruent to the hub and by wakes made on the
    // hub's own thread. Overflow is caught by the guard page and ends the process with a
    // message (`overflow`).
    unsafe { builder.spawn(body) }.map(drop)
}

/// Starts a coroutine on the calling hub and runs it up to its first switch.
///
/// `body` need not be `Send`: it stays on this thread.
pub(crate) fn spawn_here<F>(stack_words: usize, body: F) -> std::io::Result<()>
where
    F: FnOnce() + 'static,
{
    struct Stays<F>(F);
    // SAFETY: `Builder::spawn_local` runs the coroutine on the calling thread, a hub's, and
    // nothing ever resumes it on another one (see `spawn_on_worker`), so the closure never crosses.
    unsafe impl<F> Send for Stays<F> {}

    let stays = Stays(body);
    let builder = Builder::new().stack_size(stack_words);
    let run = move || {
        // The whole wrapper moves in: capturing its field alone would capture a closure that is not
        // Send.
        let stays = stays;
        (stays.0)();
    };
    // SAFETY: as in `spawn_on_worker`.
    turns::start(|| unsafe { builder.spawn_local(run) }).map(drop)
}

/// Starts the calling hub's runner, which has the turns of those that nobody else sees to.
/// `idle_fd`: as in [`Parker::new`].
pub(crate) fn start_runner(stack_words: usize, idle_fd: RawFd) -> std::io::Result<()> {
    spawn_here(stack_words, move || {
        let data = Data(IoData::new(&idle_fd));
        turns::run_for_ever(&data.0, data.waker())
    })
}

/// Learns what a stack is in use of below who parks (see [`stack::learn_margin`]), by a coroutine
/// that does nothing else.
pub(crate) fn learn_margin(parker: &Arc<Parker>) -> std::io::Result<()> {
    let marker = Rc::new(Cell::new(0));
    let (theirs, its) = (Rc::clone(&marker), Arc::clone(parker));
    spawn_here(MIN_STACK_SIZE / size_of::<usize>(), move || {
        theirs.set(stack::here());
        drop(theirs);
        its.park();
    })?;
    // SAFETY: the coroutine is suspended in `park`, on a stack of four pages, and has set the marker
    // to an address in its topmost page.
    unsafe { stack::learn_margin(marker.get()) };
    parker.unpark();
    Ok(())
}

/// Sets `may` up for pinned hubs; to be called before its first spawn.
pub(crate) fn configure(hubs: usize, stack_words: usize) {
    let config = may::config();
    // Stacks are kept by our own idle coroutines, so may's pool stays at its minimum: it would
    // otherwise map 1,000 at start.
    config
        .set_workers(hubs)
        .set_stack_size(stack_words)
        .set_pool_capacity(1);
    config.set_worker_pin(false);
}
