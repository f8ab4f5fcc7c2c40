//! [`Roster`]: the greenlets that a hub runs, without a handle for each.

use std::cell::RefCell;
use std::ptr;
use std::sync::Arc;

use crate::task::Task;

/// Room that is kept when nobody is left.
const SMALL: usize = 1_024;

/// Who has begun and not ended. It belongs to the hub's thread.
pub(crate) struct Roster(RefCell<Places>);

struct Places {
    /// Null where nobody is.
    tasks: Vec<*const Task>,
    free: Vec<u32>,
}

impl Roster {
    pub(crate) const fn new() -> Roster {
        Roster(RefCell::new(Places {
            tasks: Vec::new(),
            free: Vec::new(),
        }))
    }

    /// Has `task` in the roster while `f` runs.
    #[inline]
    pub(crate) fn during<R>(&self, task: &Arc<Task>, f: impl FnOnce() -> R) -> R {
        struct Entered<'a>(&'a Roster, u32);
        impl Drop for Entered<'_> {
            fn drop(&mut self) {
                self.0.leave(self.1);
            }
        }
        let _entered = Entered(self, self.enter(Arc::as_ptr(task)));
        f()
    }

    fn enter(&self, task: *const Task) -> u32 {
        let mut places = self.0.borrow_mut();
        if let Some(place) = places.free.pop() {
            places.tasks[place as usize] = task;
            return place;
        }
        places.tasks.push(task);
        (places.tasks.len() - 1) as u32
    }

    fn leave(&self, place: u32) {
        let mut places = self.0.borrow_mut();
        places.tasks[place as usize] = ptr::null();
        places.free.push(place);
        // A burst must not keep its room for ever.
        if places.tasks.len() > SMALL && places.free.len() == places.tasks.len() {
            places.tasks = Vec::new();
            places.free = Vec::new();
        }
    }

    /// Calls `f` with one after the other from a place on, as long as it says true. Returns where to
    /// go on, if it has not. `f` must not begin or end a greenlet.
    pub(crate) fn visit(&self, from: usize, mut f: impl FnMut(&Task) -> bool) -> Option<usize> {
        let places = self.0.borrow();
        for (place, &task) in places.tasks.iter().enumerate().skip(from) {
            // SAFETY: as in `all`: one that is not null is alive, as long as it is in the roster; and
            // nobody leaves it meanwhile, as it is borrowed.
            let task = unsafe { task.as_ref() };
            if task.is_some_and(|task| !f(task)) {
                return Some(place + 1);
            }
        }
        None
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<Arc<Task>> {
        let handle = |&task: &*const Task| {
            if task.is_null() {
                return None;
            }
            // SAFETY: it is in the roster, so the call of `during` that entered it has not
            // returned, and borrows an `Arc` of the task, of which this is the pointer.
            unsafe {
                Arc::increment_strong_count(task);
                Some(Arc::from_raw(task))
            }
        };
        self.0.borrow().tasks.iter().filter_map(handle).collect()
    }
}
