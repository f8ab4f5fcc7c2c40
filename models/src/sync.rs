//! Loom's locks and atomics, by the names of `runtime/src/sync.rs`.
//!
//! Loom's can't be made in a `const fn`, as the runtime's are, and so are made here when they are
//! first used. If two threads may use one of these first, the model has to do so before.

use std::fmt;
use std::sync::{LockResult, OnceLock, PoisonError};

pub(crate) use loom::sync::{Condvar, MutexGuard};

/// `std`'s, by loom.
pub(crate) struct Mutex<T> {
    first: std::sync::Mutex<Option<T>>,
    made: OnceLock<loom::sync::Mutex<T>>,
}

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Mutex<T> {
        Mutex {
            first: std::sync::Mutex::new(Some(value)),
            made: OnceLock::new(),
        }
    }

    pub(crate) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        let made = self.made.get_or_init(|| {
            let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
            loom::sync::Mutex::new(first.take().expect("made once"))
        });
        made.lock()
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Mutex<T> {
        Mutex::new(T::default())
    }
}

impl<T> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mutex").finish_non_exhaustive()
    }
}

pub(crate) mod atomic {
    use std::cell::Cell;
    use std::fmt;
    use std::sync::OnceLock;

    pub(crate) use loom::sync::atomic::fence;
    pub(crate) use std::sync::atomic::Ordering;

    macro_rules! atomic {
        ($name:ident, $value:ty) => {
            /// `std`'s, by loom.
            pub(crate) struct $name {
                first: $value,
                made: OnceLock<loom::sync::atomic::$name>,
            }

            impl $name {
                const fn unmade(value: $value) -> $name {
                    $name {
                        first: value,
                        made: OnceLock::new(),
                    }
                }

                fn made_now(value: $value) -> $name {
                    let atomic = $name::unmade(value);
                    atomic.made();
                    atomic
                }

                fn made(&self) -> &loom::sync::atomic::$name {
                    self.made
                        .get_or_init(|| loom::sync::atomic::$name::new(self.first))
                }

                pub(crate) fn load(&self, order: Ordering) -> $value {
                    reads(order);
                    self.made().load(order)
                }

                pub(crate) fn store(&self, value: $value, order: Ordering) {
                    writes(order);
                    self.made().store(value, order);
                }

                pub(crate) fn swap(&self, value: $value, order: Ordering) -> $value {
                    reads(order);
                    writes(order);
                    self.made().swap(value, order)
                }

                pub(crate) fn compare_exchange(
                    &self,
                    current: $value,
                    new: $value,
                    success: Ordering,
                    failure: Ordering,
                ) -> Result<$value, $value> {
                    reads(success);
                    writes(success);
                    self.made().compare_exchange(current, new, success, failure)
                }

                pub(crate) fn fetch_update(
                    &self,
                    set_order: Ordering,
                    fetch_order: Ordering,
                    f: impl FnMut($value) -> Option<$value>,
                ) -> Result<$value, $value> {
                    reads(set_order);
                    writes(set_order);
                    self.made().fetch_update(set_order, fetch_order, f)
                }
            }

            impl Default for $name {
                /// Made at once.
                fn default() -> $name {
                    $name::made_now(<$value>::default())
                }
            }

            impl fmt::Debug for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.debug_struct(stringify!($name)).finish_non_exhaustive()
                }
            }
        };
    }

    loom::thread_local! {
        /// The thread's last write was one of those that are in the one order of all.
        static IN_ORDER: Cell<bool> = Cell::new(false);
    }

    /// Before a read. Loom takes `SeqCst` for `AcqRel`, but knows fences: one between a write and
    /// the read behind it does what it does if both are in the one order of all, and only then.
    fn reads(order: Ordering) {
        if order == Ordering::SeqCst && IN_ORDER.with(Cell::get) {
            fence(order);
        }
    }

    /// Before a write.
    fn writes(order: Ordering) {
        IN_ORDER.with(|it| it.set(order == Ordering::SeqCst));
    }

    atomic!(AtomicBool, bool);
    atomic!(AtomicU8, u8);
    atomic!(AtomicU64, u64);
    atomic!(AtomicUsize, usize);

    macro_rules! in_constants {
        ($name:ident, $value:ty) => {
            impl $name {
                pub(crate) const fn new(value: $value) -> $name {
                    $name::unmade(value)
                }
            }
        };
    }

    in_constants!(AtomicBool, bool);
    in_constants!(AtomicU64, u64);
    in_constants!(AtomicUsize, usize);

    impl AtomicU8 {
        /// Made at once: none is in a constant.
        pub(crate) fn new(value: u8) -> AtomicU8 {
            AtomicU8::made_now(value)
        }
    }
}
