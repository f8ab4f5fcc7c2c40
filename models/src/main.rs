//! Models of the protocols by which the runtime's hubs, greenlets and threads reach each other,
//! checked by [loom](https://docs.rs/loom): it runs each in every order that its threads may take
//! (with at most three preemptions), and with every value that the memory model lets them see.
//!
//! The files under `runtime/src`, and one of `websocket/src`, are compiled here once more, as they
//! are, with loom's locks and atomics in the place of `std`'s (`sync`). What stands in for
//! something, because stacks and descriptors are none of loom's business, is `switch`, `task` and
//! `sys`: each greenlet has a hub for itself, and the hub's eventfd is a flag. They repeat names and
//! types of the runtime's, so that its files find what they look for.
//!
//! `cargo xtask models` runs them all, and `cargo xtask models NAME` those with that in their name.
//! With `LOOM_LOG=trace` and `LOOM_LOCATION=1` a model that fails says in which order.

// Only a part of each file is used here, and nothing of it is anybody's to use. Loom's threads are
// coroutines of one.
#![allow(dead_code, unreachable_pub, clippy::arc_with_non_send_sync)]

use std::process::ExitCode;

#[path = "../../runtime/src/async_result.rs"]
mod async_result;
#[path = "../../runtime/src/event.rs"]
mod event;
#[path = "../../runtime/src/inbox.rs"]
mod inbox;
#[path = "../../runtime/src/latch.rs"]
mod latch;
#[path = "../../runtime/src/queue/mod.rs"]
mod queue;
#[path = "../../runtime/src/semaphore.rs"]
mod semaphore;
#[path = "../../runtime/src/thread_parker.rs"]
mod thread_parker;
#[path = "../../runtime/src/wait.rs"]
mod wait;
#[path = "../../runtime/src/waitable.rs"]
mod waitable;
#[path = "../../runtime/src/waiter.rs"]
mod waiter;
#[path = "../../runtime/src/waiting.rs"]
mod waiting;

mod lock;
mod switch;
mod sync;
mod sys;
mod task;
mod websocket;

mod error {
    //! As in `runtime/src/error.rs`, without what is not needed here.

    /// Of a greenlet.
    #[derive(Debug)]
    pub struct JoinError;

    /// Of an `AsyncResult`.
    #[derive(Debug, PartialEq, Eq)]
    pub enum ResultError<E> {
        Timeout,
        Exception(E),
    }
}

mod run_info {
    //! What nobody looks at here.

    #[derive(Clone, Copy, Debug, Default)]
    pub enum WaitsFor {
        #[default]
        Turn,
        Event,
        Queue,
        Result,
        Semaphore,
        Lock,
        Condvar,
        Several,
    }
}

mod models;

fn main() -> ExitCode {
    models::run(std::env::args().nth(1).as_deref())
}
