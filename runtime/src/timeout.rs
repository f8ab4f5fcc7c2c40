//! Time-outs: gevent's `Timeout` and `with_timeout`.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::error::Elapsed;
use crate::switch::{self, TimeoutExpired};
use crate::sys::current;
use crate::task::{Frame, Task};

/// Makes what an expired limit raises.
type Raise = Rc<dyn Fn() -> Box<dyn Any + Send>>;

thread_local! {
    /// What the limits of this thread raise that have an exception of their own, by identity.
    static RAISES: RefCell<BTreeMap<u64, Raise>> = const { RefCell::new(BTreeMap::new()) };
}

/// The bit of an identity that says that there is an entry in `RAISES`.
const RAISES_ITS_OWN: u64 = 1;

/// Runs `f`, but no longer than `duration`: gevent's `with_timeout`.
///
/// When the time is up, the blocking call in which `f` waits (or the next that it makes) unwinds to
/// here; destructors run. Code that computes without blocking is not interrupted. Time-outs nest:
/// each ends at the call that owns it, and of several that have expired the one with the earliest
/// deadline is raised. Zero expires at the first blocking call. Works on plain threads too.
///
/// # Errors
///
/// [`Elapsed`] if the time was up first.
///
/// ```
/// use greenwood_runtime::{sleep, with_timeout};
/// use std::time::Duration;
///
/// let result = with_timeout(Duration::from_millis(5), || sleep(Duration::from_secs(60)));
/// assert!(result.is_err());
/// assert_eq!(with_timeout(Duration::from_secs(60), || 1), Ok(1));
/// ```
///
/// An error of one's own comes by `map_err`; see [`with_timeout_or`] for a value instead, and
/// [`Timeout::raising`] for what is to unwind further than to here.
pub fn with_timeout<T>(duration: Duration, f: impl FnOnce() -> T) -> Result<T, Elapsed> {
    // A `Timeout` without what makes it one that can be moved: the caller's frame stays where it is.
    let Some(deadline) = switch::deadline(Some(duration)) else {
        return Ok(f());
    };
    let id = new_id();
    switch::with_frame(|frame| frame.limit(id, deadline));
    let result = catch_unwind(AssertUnwindSafe(f));
    switch::with_frame(|frame| frame.end_limit(id));
    result.map_err(|payload| match is_expired(&*payload, id) {
        true => Elapsed,
        false => resume_unwind(payload),
    })
}

/// Runs `f`, but no longer than `duration`; returns `default` if the time was up first: gevent's
/// `with_timeout(..., timeout_value=default)`.
///
/// Otherwise as [`with_timeout`]: only this limit is caught, others pass through.
///
/// ```
/// use greenwood_runtime::{AsyncResult, with_timeout_or};
/// use std::time::Duration;
///
/// let never = AsyncResult::<i32>::new();
/// let value = with_timeout_or(Duration::from_millis(5), -1, || *never.get().unwrap());
/// assert_eq!(value, -1);
/// ```
pub fn with_timeout_or<T>(duration: Duration, default: T, f: impl FnOnce() -> T) -> T {
    with_timeout(duration, f).unwrap_or(default)
}

/// A time limit for everything that blocks, from its start until it is cancelled or dropped:
/// gevent's `Timeout`.
///
/// When it expires, a blocking call unwinds the greenlet. [`with_timeout`] catches that where it
/// belongs and is what one mostly wants; a bare `Timeout` that expires ends the greenlet, as an
/// uncaught exception ends one in gevent. Where gevent's is raised once, this one is raised by each
/// blocking call until it is cancelled or dropped: a limit that somebody swallows is not lost.
///
/// It holds in the greenlet or thread that starts it, wherever it is moved, and so is not
/// `Send`.
///
/// ```
/// use greenwood_runtime::{Timeout, sleep};
/// use std::time::Duration;
///
/// let timeout = Timeout::new(Duration::from_millis(5));
/// for _ in 0..2 {
///     timeout.start();
///     assert!(timeout.catch(|| sleep(Duration::from_secs(60))).is_err());
///     assert!(!timeout.pending());
/// }
/// ```
pub struct Timeout {
    id: u64,
    duration: Option<Duration>,
    /// Where it is in force.
    place: Cell<Option<Place>>,
    not_send: PhantomData<*const ()>,
}

/// Whose blocking calls a limit is for. It may have been moved to another greenlet of the hub.
enum Place {
    Greenlet(Arc<Task>),
    Thread,
}

impl Timeout {
    /// A limit that has not been started: gevent's `Timeout(seconds)`. With `None` it never
    /// expires; zero expires at the first blocking call.
    pub fn new(duration: impl Into<Option<Duration>>) -> Timeout {
        Timeout::with_id(duration.into(), 0)
    }

    /// A limit that raises what `exception` returns, and not itself: gevent's
    /// `Timeout(seconds, exception)`.
    ///
    /// The greenlet is unwound with it as with the payload of a panic (no message is printed), for
    /// whoever catches and downcasts it. Nobody else takes it for a time-out: [`catch`] and
    /// [`with_timeout`] let it pass, [`is_interrupt`] says no, and a greenlet that it ends has
    /// [`JoinError::Panicked`]. `exception` is called at each blocking call that is ended; it may block
    /// itself, and is not subject to this limit.
    ///
    /// [`catch`]: Timeout::catch
    /// [`is_interrupt`]: crate::is_interrupt
    /// [`JoinError::Panicked`]: crate::JoinError::Panicked
    ///
    /// ```
    /// use greenwood_runtime::{Timeout, sleep};
    /// use std::time::Duration;
    ///
    /// struct TooSlow;
    /// let payload = std::panic::catch_unwind(|| {
    ///     let timeout = Timeout::raising(Duration::from_millis(5), || TooSlow);
    ///     timeout.start();
    ///     sleep(Duration::from_secs(60));
    /// });
    /// assert!(payload.unwrap_err().is::<TooSlow>());
    /// ```
    pub fn raising<P: Any + Send>(
        duration: impl Into<Option<Duration>>,
        exception: impl Fn() -> P + 'static,
    ) -> Timeout {
        let timeout = Timeout::with_id(duration.into(), RAISES_ITS_OWN);
        let raise: Raise = Rc::new(move || Box::new(exception()));
        RAISES.with_borrow_mut(|raises| raises.insert(timeout.id, raise));
        timeout
    }

    /// A limit that has been started: gevent's `Timeout.start_new`.
    pub fn start_new(duration: impl Into<Option<Duration>>) -> Timeout {
        let timeout = Timeout::new(duration);
        timeout.start();
        timeout
    }

    fn with_id(duration: Option<Duration>, bit: u64) -> Timeout {
        Timeout {
            id: new_id() | bit,
            duration,
            place: Cell::new(None),
            not_send: PhantomData,
        }
    }

    /// Starts the limit, from now. One that is in force starts anew (gevent refuses that).
    pub fn start(&self) {
        self.cancel();
        // None also for a limit beyond the clock's range.
        let Some(deadline) = switch::deadline(self.duration) else {
            return;
        };
        let place = Place::here();
        place.with_frame(|frame| frame.limit(self.id, deadline));
        self.place.set(Some(place));
    }

    /// Runs `f` under this limit, if it has been started. The limit is over when it has ended `f`,
    /// else it stays in force.
    ///
    /// # Errors
    ///
    /// [`Elapsed`] if this limit ended it. Others pass through.
    pub fn catch<T>(&self, f: impl FnOnce() -> T) -> Result<T, Elapsed> {
        match catch_unwind(AssertUnwindSafe(f)) {
            Ok(value) => Ok(value),
            Err(payload) if self.has_raised(&*payload) => {
                self.cancel();
                Err(Elapsed)
            }
            Err(payload) => resume_unwind(payload),
        }
    }

    /// Whether a payload caught by `catch_unwind` is this limit on its way up: gevent's
    /// `error is timeout`. Not for one that [raises](Timeout::raising) something else.
    pub fn has_raised(&self, payload: &(dyn Any + Send)) -> bool {
        is_expired(payload, self.id)
    }

    /// Ends the limit before its time, also the one of another greenlet that waits under it. It can
    /// be started again.
    pub fn cancel(&self) {
        let Some(place) = self.place.take() else {
            return;
        };
        place.with_frame(|frame| frame.end_limit(self.id));
    }

    /// Whether the limit is in force: it has been started, and neither cancelled nor
    /// [caught](Timeout::catch).
    pub fn pending(&self) -> bool {
        let Some(place) = self.place.take() else {
            return false;
        };
        let pending = place.with_frame(|frame| frame.has_limit(self.id));
        self.place.set(Some(place));
        pending
    }

    /// How long it lasts from its start; none: it never expires. gevent's `seconds`.
    pub fn duration(&self) -> Option<Duration> {
        self.duration
    }
}

impl Place {
    /// Where the caller is.
    fn here() -> Place {
        match current::get() {
            Some(task) => Place::Greenlet(task),
            None => Place::Thread,
        }
    }

    fn with_frame<R>(&self, f: impl FnOnce(&Frame) -> R) -> R {
        match self {
            Place::Greenlet(task) => f(&task.local().frame),
            Place::Thread => switch::with_thread_frame(f),
        }
    }
}

/// A new identity. Each thread takes many at a time: that is cheaper than to ask for each.
fn new_id() -> u64 {
    const AT_A_TIME: u64 = 1 << 16;
    static NEXT: AtomicU64 = AtomicU64::new(AT_A_TIME);
    thread_local! {
        static LAST: Cell<u64> = const { Cell::new(0) };
    }
    let mut last = LAST.get();
    // The lowest bit is `RAISES_ITS_OWN`'s.
    if (last + 2).is_multiple_of(AT_A_TIME) || last == 0 {
        last = NEXT.fetch_add(AT_A_TIME, Ordering::Relaxed);
    }
    LAST.set(last + 2);
    last + 2
}

/// Whether that is the limit of this identity on its way up.
fn is_expired(payload: &(dyn Any + Send), id: u64) -> bool {
    (payload.downcast_ref::<TimeoutExpired>()).is_some_and(|expired| expired.0 == id)
}

/// What the limit raises if it has an exception of its own.
pub(crate) fn exception_of(id: u64) -> Option<Box<dyn Any + Send>> {
    if id & RAISES_ITS_OWN == 0 {
        return None;
    }
    // Not called under the borrow: it is a user's.
    let raise = RAISES.try_with(|raises| raises.borrow().get(&id).cloned());
    let raise = raise.ok()??;
    let _suspended = Suspended::new(id);
    Some(raise())
}

/// A limit that does not expire meanwhile: what makes its exception may block, and would be called
/// again by that, and again.
struct Suspended {
    id: u64,
    deadline: u64,
    place: Place,
}

/// A deadline that never comes.
const NEVER: u64 = u64::MAX;

impl Suspended {
    fn new(id: u64) -> Suspended {
        let place = Place::here();
        let deadline = replace_deadline(&place, id, |_| NEVER).unwrap_or(NEVER);
        Suspended {
            id,
            deadline,
            place,
        }
    }
}

impl Drop for Suspended {
    fn drop(&mut self) {
        // It may have been cancelled, or started anew.
        replace_deadline(&self.place, self.id, |deadline| match deadline {
            NEVER => self.deadline,
            anew => anew,
        });
    }
}

/// Changes the deadline of a limit, if it is in force; what it was.
fn replace_deadline(place: &Place, id: u64, change: impl FnOnce(u64) -> u64) -> Option<u64> {
    place.with_frame(|frame| {
        frame.with_timeouts(|limits| {
            let at = limits.as_slice().iter().position(|limit| limit.0 == id)?;
            let limit = &mut limits.as_mut()[at];
            let before = limit.1;
            limit.1 = change(before);
            Some(before)
        })
    })
}

impl Drop for Timeout {
    fn drop(&mut self) {
        self.cancel();
        if self.id & RAISES_ITS_OWN != 0 {
            // Gone already at the end of the thread.
            let raise = RAISES.try_with(|raises| raises.borrow_mut().remove(&self.id));
            drop(raise);
        }
    }
}

impl fmt::Debug for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timeout")
            .field("duration", &self.duration)
            .field("pending", &self.pending())
            .finish_non_exhaustive()
    }
}
