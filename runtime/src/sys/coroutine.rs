//! The four things of `may` that Greenwood uses: spawn, wait for readiness, wake, yield.
//!
//! A park is a wait on an [`IoData`] that no descriptor ever reports to: that is the cheapest
//! way of `may` to put a coroutine aside, it takes no part in cancellation or its timer thread, and
//! a wake puts the coroutine into the queue of the worker that calls, which is the coroutine's own
//! by the rule that every wake is made on the home hub.

use std::cell::Cell;
use std::fmt;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::Arc;

use may::coroutine::Builder;
use may::io::{AsIoData, CoIo, IoData, WaitIo, WaitIoWaker};

use super::home::Home;
use super::stack;
use crate::config::MIN_STACK_SIZE;

/// Parks and wakes one coroutine. Belongs to its hub: both are done on the hub's thread.
pub(crate) struct Parker(Home<Wait>);

struct Wait {
    data: IoData,
    waker: WaitIoWaker,
}

impl AsIoData for Wait {
    fn as_io_data(&self) -> &IoData {
        &self.data
    }
}

impl Parker {
    /// A parker of `hub`. `idle_fd` is a descriptor of the hub that is in no epoll set: `may`
    /// takes the descriptor out of the set when the parker is dropped.
    pub(crate) fn new(hub: u32, idle_fd: RawFd) -> Parker {
        struct Data(IoData);
        impl AsIoData for Data {
            fn as_io_data(&self) -> &IoData {
                &self.0
            }
        }
        let data = Data(IoData::new(&idle_fd));
        let waker = data.waker();
        Parker(Home::new(
            hub,
            Wait {
                data: data.0,
                waker,
            },
        ))
    }

    /// Switches away until [`unpark`](Parker::unpark); at once if that has come already.
    #[inline]
    pub(crate) fn park(&self) {
        self.0.get().wait_io();
    }

    #[inline]
    pub(crate) fn unpark(&self) {
        self.0.get().waker.wakeup();
    }
}

impl fmt::Debug for Parker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parker")
            .field("hub", &self.0.hub())
            .finish_non_exhaustive()
    }
}

/// A descriptor in the epoll set of its hub, edge-triggered for reading and writing.
///
/// Does not own the descriptor: it must be dropped *before* the descriptor is closed.
pub(crate) struct Registration {
    io: CoIo<RawFd>,
}

impl Registration {
    /// Registers `fd` with the hub `fd % hubs` and makes it non-blocking.
    pub(crate) fn new(fd: RawFd) -> std::io::Result<Registration> {
        let io = CoIo::new(fd).map_err(std::io::Error::from)?;
        Ok(Registration { io })
    }

    /// Switches away until the descriptor reports something or [`wake`](Registration::wake) is
    /// called; returns the epoll events.
    #[inline]
    pub(crate) fn wait(&self) -> usize {
        self.io.wait_io()
    }

    pub(crate) fn fd(&self) -> RawFd {
        *self.io.inner()
    }

    pub(crate) fn wake(&self) {
        // Not kept for this: it is rare that something else than the descriptor ends a wait.
        self.io.waker().wakeup();
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Registration")
            .field(self.io.inner())
            .finish()
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
    unsafe { builder.spawn_local(run) }.map(drop)
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

/// Puts the running coroutine at the end of its hub's queue.
#[inline]
pub(crate) fn yield_now() {
    may::coroutine::yield_now();
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
