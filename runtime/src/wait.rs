//! Waiting for several things at once: gevent's `wait` and `iwait`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::switch;
use crate::waitable::{News, Waitable, Watcher};
use crate::waiter::Stop;

/// Waits until `count` of the objects are ready (none: all of them), no longer than `timeout`
/// (none: without end): gevent's `wait`. Returns the places of those that are, in the order in which
/// they became so.
///
/// Nothing is taken by it: who waits for a queue or a semaphore still has to get its item or its
/// permit, and another may be quicker.
///
/// ```
/// use greenwood_runtime::{sleep, spawn, wait, Event};
/// use std::time::Duration;
///
/// let event = Event::new();
/// let greenlet = spawn(|| sleep(Duration::from_millis(1)));
/// let ready = wait(&[&event, &greenlet], None, Some(1));
/// assert_eq!(ready, [1]);
/// ```
pub fn wait(
    objects: &[&dyn Waitable],
    timeout: Option<Duration>,
    count: Option<usize>,
) -> Vec<usize> {
    // Also if there is none of them.
    switch::check();
    let count = count.unwrap_or(objects.len());
    iwait(objects, timeout).take(count).collect()
}

/// The places of the objects that become ready, one after the other, until all are or `timeout` has
/// passed (none: without end): gevent's `iwait`.
///
/// ```
/// use greenwood_runtime::{Event, iwait, spawn};
/// use std::sync::Arc;
///
/// let go = Arc::new(Event::new());
/// let theirs = Arc::clone(&go);
/// let (slow, quick) = (spawn(move || theirs.wait()), spawn(|| "done"));
/// let mut ready = iwait(&[&slow, &quick], None);
/// assert_eq!(ready.next(), Some(1));
/// go.set();
/// assert_eq!(ready.next(), Some(0));
/// assert_eq!(ready.next(), None);
/// ```
pub fn iwait(objects: &[&dyn Waitable], timeout: Option<Duration>) -> Iwait {
    let deadline = switch::deadline(timeout);
    let news = Arc::new(News::default());
    for (index, object) in objects.iter().enumerate() {
        let watcher = Watcher::new(&news, index);
        if !object.watch(watcher.clone()) {
            watcher.tell();
        }
    }
    Iwait {
        news,
        left: objects.len(),
        deadline,
    }
}

/// The iterator of [`iwait`]. Its [`next`](Iterator::next) waits.
#[must_use = "it waits only when asked for the next"]
pub struct Iwait {
    news: Arc<News>,
    left: usize,
    deadline: Option<u64>,
}

impl Iterator for Iwait {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        switch::check();
        if self.left == 0 {
            return None;
        }
        // Before anything is taken: it may raise a kill.
        switch::share();
        let next = match self.news.try_next() {
            Some(index) => index,
            // As with a time-out of zero.
            None if !switch::may_wait() => return None,
            None => match self.news.next(self.deadline) {
                Ok(index) => index,
                Err(Stop::Deadline) => return None,
                Err(Stop::Interrupt(interrupt)) => switch::raise(interrupt),
            },
        };
        self.left -= 1;
        Some(next)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.left))
    }
}

impl Drop for Iwait {
    fn drop(&mut self) {
        self.news.end();
    }
}

impl fmt::Debug for Iwait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iwait")
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}
