//! Green threads with gevent's names: greenlets on pinned hubs, in plain blocking code.
//!
//! A greenlet is a stackful coroutine. It belongs to one *hub*, an OS thread, for life: it never
//! changes its thread, so thread-locals, `Rc` and ordinary crates behave in a greenlet as they do
//! in a thread, and [`spawn`] is a safe function. Calls of this crate that block put the
//! greenlet aside and let others run; everything else that blocks (`std::thread::sleep`, files, a
//! `std` lock that another greenlet of the hub holds) stops the whole hub. The blocking calls of
//! `may` itself (`may::coroutine::yield_now`, its channels and locks) must not be made in a greenlet:
//! they switch behind the hub's back, and the hub then takes one greenlet for another.
//!
//! Everything here works from plain OS threads too: `main` may join a greenlet, wait for an event
//! or serve for ever. [`gevent`](mod@gevent) says for every name of gevent's what it is here.
//!
//! ```
//! use greenwood_runtime::{sleep, spawn};
//! use std::time::Duration;
//!
//! let greenlets: Vec<_> = (0..100)
//!     .map(|i| {
//!         spawn(move || {
//!             sleep(Duration::from_millis(10));
//!             i
//!         })
//!     })
//!     .collect();
//! let sum: i32 = greenlets.into_iter().map(|greenlet| greenlet.join().unwrap()).sum();
//! assert_eq!(sum, 4950);
//! ```
//!
//! # Kills and time-outs
//!
//! A [kill](Greenlet::kill) and a [time-out](with_timeout) reach a greenlet in whatever call of
//! this crate it blocks. They unwind it, so destructors run. Nothing is lost by it: what was handed
//! over at that moment is delivered, and the kill is raised by the next blocking call. While a
//! greenlet unwinds, its blocking calls do not wait: they act as with a time-out of zero.
//!
//! # Limits
//!
//! Every greenlet has a stack ([`DEFAULT_STACK_SIZE`]), of which only touched pages take memory.
//! Overflowing it ends the process with a message that names the greenlet. How many may live is
//! read from the system ([`Hub::limits`]); a spawn beyond is refused.

#![deny(unsafe_code)]

#[cfg(panic = "abort")]
compile_error!("greenwood needs panic = \"unwind\": kills and time-outs unwind greenlets");
#[cfg(not(target_os = "linux"))]
compile_error!("greenwood runs on Linux only: it needs epoll, eventfd and timerfd");

mod async_result;
mod backdoor;
mod config;
mod error;
mod event;
mod fileobject;
mod greenlet;
mod hub;
mod inbox;
mod latch;
mod limits;
mod local;
mod lock;
pub mod monitor;
pub mod net;
mod panics;
mod places;
mod pool;
mod queue;
mod run_info;
mod scope;
mod seldom;
mod semaphore;
mod server;
pub mod signal;
mod stats;
pub mod subprocess;
mod switch;
mod sync;
#[allow(
    unsafe_code,
    reason = "may's calls, system calls and greenlets' stacks: nowhere else"
)]
mod sys;
mod task;
mod thread_parker;
mod threadpool;
mod timeout;
mod timer;
mod wait;
mod waitable;
mod waiter;
mod waiting;

#[doc = include_str!("../GEVENT.md")]
pub mod gevent {}

pub use async_result::AsyncResult;
pub use backdoor::BackdoorServer;
pub use config::{DEFAULT_STACK_SIZE, Hub, HubConfig, Limits, MIN_STACK_SIZE, StartError};
pub use error::{Elapsed, JoinError, Payload, ResultError, SpawnError};
pub use event::Event;
pub use fileobject::FileObject;
pub use greenlet::{
    Builder, Current, Greenlet, JoinAll, Link, current_id, getcurrent, idle, joinall, killall,
    killall_nowait, run_in_greenlet, sleep, spawn, spawn_later, spawn_local, trim_stack,
};
pub use latch::CountDownLatch;
pub use local::{AccessError, Local};
pub use lock::{
    Condvar, LockError, Mutex, MutexGuard, Once, OnceCell, RLock, RLockGuard, RwLock,
    RwLockReadGuard, RwLockWriteGuard,
};
pub use monitor::add_monitoring_function;
pub use panics::{is_interrupt, is_kill};
pub use pool::{Group, Imap, Pool, PoolError, PoolFull};
pub use queue::{
    Channel, GetError, JoinableQueue, LifoQueue, PriorityQueue, PutError, Queue, QueueIter,
    SimpleQueue,
};
pub use run_info::{
    GreenletInfo, HubInfo, RunInfo, State, WaitsFor, kill_greenlet, print_run_info, run_info,
};
pub use scope::{ScopedGreenlet, scope};
pub use semaphore::{BoundedSemaphore, Permit, ReleaseError, Semaphore};
pub use server::{DatagramServer, DatagramSocket, Detached, Listener, Seat, Spawn, StreamServer};
pub use signal::{SignalHandler, signal_handler};
pub use stats::HubStats;
pub use switch::{BeforeSwitch, before_switch};
pub use sys::scope::Scope;
pub use threadpool::{
    DEFAULT_THREADPOOL_SIZE, ThreadError, ThreadImap, ThreadPool, ThreadResult, threadpool,
};
pub use timeout::{Timeout, with_timeout, with_timeout_or};
pub use wait::{Iwait, iwait, wait};
pub use waitable::{Waitable, Watcher};
