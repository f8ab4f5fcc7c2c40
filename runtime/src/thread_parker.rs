//! [`ThreadParker`]: how an OS thread waits, as greenlets wait by switching.

use std::sync::PoisonError;
use std::time::Duration;

use crate::sync::{Condvar, Mutex};
use crate::sys::now_ns;
use crate::task::lock;

/// An OS thread that waits.
#[derive(Debug, Default)]
pub(crate) struct ThreadParker {
    woken: Mutex<bool>,
    signal: Condvar,
}

impl ThreadParker {
    /// Blocks the thread until it is woken or the moment has come; at once if it has been woken
    /// since it last blocked.
    pub(crate) fn park(&self, until_ns: Option<u64>) {
        let mut woken = lock(&self.woken);
        while !*woken {
            woken = match until_ns {
                None => self
                    .signal
                    .wait(woken)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let now = now_ns();
                    if now >= until {
                        break;
                    }
                    let rest = Duration::from_nanos(until - now);
                    let waited = self.signal.wait_timeout(woken, rest);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        *woken = false;
    }

    pub(crate) fn unpark(&self) {
        *lock(&self.woken) = true;
        self.signal.notify_one();
    }
}
