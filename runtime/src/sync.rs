//! The locks and atomics of the protocols by which greenlets wait for each other.
//!
//! They are `std`'s. The package `models` compiles the same files with those of loom, which tries
//! every order in which threads may run, and every value that they may see; so what is used there
//! is named here.

pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};

pub(crate) mod atomic {
    pub(crate) use std::sync::atomic::{
        AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering, fence,
    };
}
