//! [`Once`] and [`OnceCell`]: what is to be done once, and the value that comes of it.

use std::fmt;
use std::sync::OnceLock;

use super::{LockError, NOBODY, caller};
use crate::semaphore::Semaphore;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Something that is done once, however many ask for it, who wait until it is done. Not gevent's.
///
/// It may block. If it panics, is killed or runs out of a time-out, it counts as not done, and who
/// waits longest does what it has brought itself: there is no poisoning.
///
/// ```
/// use greenwood_runtime::Once;
/// static SETUP: Once = Once::new();
/// let mut runs = 0;
/// for _ in 0..2 {
///     assert!(SETUP.call_once(|| runs += 1));
/// }
/// assert_eq!(runs, 1);
/// ```
pub struct Once {
    /// Whose turn it is to try. Open to all when it is done.
    turn: Semaphore,
    /// Who tries.
    owner: AtomicU64,
    done: AtomicBool,
}

impl Once {
    /// Something that has not been done.
    pub const fn new() -> Once {
        Once {
            turn: Semaphore::new(1),
            owner: AtomicU64::new(NOBODY),
            done: AtomicBool::new(false),
        }
    }

    /// Calls `f` unless that has been done, waiting for another who is at it. Whether it is done:
    /// false only in a greenlet that unwinds and would have to wait.
    ///
    /// When it is done, this is a load, and does not count as a blocking call.
    ///
    /// # Panics
    ///
    /// If `f` does, or calls this again: it would wait for itself.
    pub fn call_once(&self, f: impl FnOnce()) -> bool {
        if self.is_completed() {
            return true;
        }
        let me = caller();
        assert_ne!(
            self.owner.load(Ordering::Relaxed),
            me,
            "call_once was called in its own function, which would wait for itself"
        );
        if !self.turn.acquire() {
            return self.is_completed();
        }
        if self.is_completed() {
            return true;
        }
        let _attempt = Attempt(self);
        self.owner.store(me, Ordering::Relaxed);
        f();
        self.done.store(true, Ordering::Release);
        true
    }

    /// Whether it is done.
    pub fn is_completed(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }
}

/// Its end lets all go on, or the next one try.
struct Attempt<'a>(&'a Once);

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let once = self.0;
        once.owner.store(NOBODY, Ordering::Relaxed);
        if once.is_completed() {
            once.turn.open();
        } else {
            once.turn.release();
        }
    }
}

impl Default for Once {
    fn default() -> Once {
        Once::new()
    }
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Once")
            .field("completed", &self.is_completed())
            .field("turn", &self.turn)
            .finish()
    }
}

/// A value that is made once, when it is first asked for, by a function that may block: what
/// `std`'s `OnceLock` is for threads. Not gevent's.
///
/// ```
/// use greenwood_runtime::OnceCell;
/// static ADDRESS: OnceCell<String> = OnceCell::new();
/// assert_eq!(ADDRESS.get(), None);
/// let address = ADDRESS.get_or_init(|| "localhost".into())?;
/// assert_eq!(address, "localhost");
/// # Ok::<(), greenwood_runtime::LockError>(())
/// ```
pub struct OnceCell<T> {
    once: Once,
    /// Set only by whose turn it is, and so never waited for.
    value: OnceLock<T>,
}

impl<T> OnceCell<T> {
    /// A cell without a value.
    pub const fn new() -> OnceCell<T> {
        OnceCell {
            once: Once::new(),
            value: OnceLock::new(),
        }
    }

    /// The value if there is one. Never waits.
    pub fn get(&self) -> Option<&T> {
        self.value.get()
    }

    /// The value, made by `f` if there is none. Who comes while another makes it waits. If `f`
    /// panics or is killed, who waits longest makes it by its own function.
    ///
    /// # Errors
    ///
    /// [`LockError`] only in a greenlet that unwinds and would have to wait.
    ///
    /// # Panics
    ///
    /// If `f` does, or asks for the value itself.
    pub fn get_or_init(&self, f: impl FnOnce() -> T) -> Result<&T, LockError> {
        self.once.call_once(|| {
            let made = self.value.set(f());
            debug_assert!(made.is_ok(), "made once");
        });
        self.get().ok_or(LockError)
    }

    /// Sets the value, waiting for another who makes it.
    ///
    /// # Errors
    ///
    /// The given value: there is one already, or, in a greenlet that unwinds, another makes it now.
    pub fn set(&self, value: T) -> Result<(), T> {
        let mut given = Some(value);
        self.once.call_once(|| {
            if let Some(value) = given.take() {
                given = self.value.set(value).err();
            }
        });
        given.map_or(Ok(()), Err)
    }

    /// The value if there is one, without locking: nobody else can have it.
    pub fn get_mut(&mut self) -> Option<&mut T> {
        self.value.get_mut()
    }

    /// The value if there is one.
    pub fn into_inner(self) -> Option<T> {
        self.value.into_inner()
    }
}

impl<T> Default for OnceCell<T> {
    fn default() -> OnceCell<T> {
        OnceCell::new()
    }
}

impl<T> From<T> for OnceCell<T> {
    fn from(value: T) -> OnceCell<T> {
        let once = Once::new();
        once.done.store(true, Ordering::Release);
        OnceCell {
            once,
            value: OnceLock::from(value),
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for OnceCell<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_tuple("OnceCell");
        match self.get() {
            Some(value) => text.field(value),
            None => text.field(&format_args!("<unset>")),
        };
        text.finish()
    }
}
