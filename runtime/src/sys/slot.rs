//! [`Slot`]: where a result is put once, for those who may look at it and the one who takes it.

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::OnceLock;

/// A result that comes once. It may be on its way between threads although its value can't be
/// shared: who only takes it need not look at it from two threads at a time.
pub(crate) struct Slot<T, E>(OnceLock<Result<T, E>>);

// SAFETY: a shared `Slot` moves a value in (`set`), for which `T: Send` is enough, gives `&T` only
// by `get`, which asks for `T: Sync`, and `&E` by `error`, for which `E: Sync` is asked here. To
// take the value out or to drop it one must own the slot.
unsafe impl<T: Send, E: Send + Sync> Sync for Slot<T, E> {}

// What has panicked is put here as an error; a value is put whole or not at all.
impl<T, E> UnwindSafe for Slot<T, E> {}
impl<T, E> RefUnwindSafe for Slot<T, E> {}

impl<T, E> Slot<T, E> {
    pub(crate) const fn new() -> Slot<T, E> {
        Slot(OnceLock::new())
    }

    /// Puts the result; gives it back if there is one already.
    pub(crate) fn set(&self, result: Result<T, E>) -> Result<(), Result<T, E>> {
        self.0.set(result)
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.get().is_some()
    }

    /// The result, when it has come.
    pub(crate) fn get(&self) -> Option<&Result<T, E>>
    where
        T: Sync,
    {
        self.0.get()
    }

    /// The error, when it has come to that.
    pub(crate) fn error(&self) -> Option<&E> {
        self.0.get()?.as_ref().err()
    }

    pub(crate) fn into_inner(self) -> Option<Result<T, E>> {
        self.0.into_inner()
    }
}

impl<T, E> fmt::Debug for Slot<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot")
            .field("is_set", &self.is_set())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// Compiles only if the slot may be shared.
    fn shared<T: Send + Sync>(value: T) -> T {
        value
    }

    #[test]
    fn slot_carries_values_that_cannot_be_shared() {
        let slot = shared(Slot::<Cell<u8>, String>::new());
        std::thread::scope(|scope| {
            let slot = &slot;
            scope.spawn(move || slot.set(Ok(Cell::new(3))).unwrap());
        });
        assert!(slot.is_set() && slot.error().is_none());
        assert_eq!(slot.into_inner().unwrap().unwrap().get(), 3);
    }

    #[test]
    fn first_result_stays() {
        let slot = Slot::<u8, u8>::new();
        assert_eq!(slot.get(), None);
        slot.set(Err(1)).unwrap();
        assert_eq!(slot.set(Ok(2)), Err(Ok(2)));
        assert_eq!((slot.get(), slot.error()), (Some(&Err(1)), Some(&1)));
    }
}
