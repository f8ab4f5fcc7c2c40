//! [`local!`](crate::local): values that belong to a greenlet, gevent's `local`.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::mem::ManuallyDrop;
use std::rc::Rc;

use crate::panics::drop_caught;
use crate::sys::current;
use crate::task::Task;

/// Declares greenlet-local values, as [`std::thread_local!`] declares a thread's: gevent's `local`.
///
/// Each greenlet has a value of its own, made by the expression when it is first asked for. Outside
/// greenlets it is the OS thread's, also in a [`ThreadPool`](crate::ThreadPool)'s job, whose value
/// is there for the thread's next job. See [`Local`].
///
/// ```
/// use greenwood_runtime::{local, spawn};
/// use std::cell::{Cell, RefCell};
///
/// local! {
///     static REQUESTS: Cell<u32> = Cell::new(0);
///     /// Who is served.
///     pub static USER: RefCell<String> = RefCell::default();
/// }
///
/// REQUESTS.set(7);
/// spawn(|| {
///     assert_eq!(REQUESTS.get(), 0);
///     USER.with_borrow_mut(|user| user.push_str("ada"));
/// })
/// .join()
/// .unwrap();
/// assert_eq!(REQUESTS.get(), 7);
/// assert_eq!(USER.take(), "");
/// ```
#[macro_export]
macro_rules! local {
    () => {};
    ($(#[$attribute:meta])* $visibility:vis static $name:ident: $type:ty = $init:expr; $($rest:tt)*) => {
        $crate::local!($(#[$attribute])* $visibility static $name: $type = $init);
        $crate::local!($($rest)*);
    };
    ($(#[$attribute:meta])* $visibility:vis static $name:ident: $type:ty = $init:expr) => {
        $(#[$attribute])*
        $visibility static $name: $crate::Local<$type> = {
            fn init() -> $type {
                $init
            }
            $crate::Local::__new(init)
        };
    };
}

/// A greenlet-local value, declared by [`local!`](crate::local): what [`std::thread::LocalKey`] is
/// to a thread.
///
/// The value need be neither `Send` nor `Sync`: it is made, used and dropped on one hub. A greenlet
/// that uses none pays nothing for it; a use costs some 10 ns, and more with each further value
/// that the greenlet has.
///
/// # When values are dropped
///
/// At the greenlet's end, however it comes, before anybody learns of it: last made, first dropped.
/// This happens inside the greenlet, so destructors may block, and what they panic with goes no
/// further. In a greenlet that was killed, blocking calls raise the kill again, in destructors too.
/// A thread's values are dropped when it ends.
///
/// A destructor may use the values that are still there, and make ones that are not there yet. What
/// has been dropped, or is being dropped, can't be had any more: [`try_with`](Local::try_with)
/// returns an error then, and the other methods panic.
pub struct Local<T: 'static> {
    init: fn() -> T,
}

/// A greenlet-local value that has been dropped, or is being dropped. From
/// [`Local::try_with`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct AccessError;

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the greenlet-local value has been dropped: its greenlet or thread ends")
    }
}

impl std::error::Error for AccessError {}

impl<T: 'static> Local<T> {
    #[doc(hidden)]
    pub const fn __new(init: fn() -> T) -> Local<T> {
        Local { init }
    }

    /// Calls `f` with the calling greenlet's value, which is made first if need be.
    ///
    /// Both may block. If making the value asks for it again, the inner one stays.
    ///
    /// # Panics
    ///
    /// If the value has been dropped.
    pub fn with<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        match self.try_with(f) {
            Ok(result) => result,
            Err(error) => panic!("{error}"),
        }
    }

    /// As [`with`](Local::with).
    ///
    /// # Errors
    ///
    /// [`AccessError`] if the value has been dropped.
    pub fn try_with<R>(&'static self, f: impl FnOnce(&T) -> R) -> Result<R, AccessError> {
        let value = match self.find()? {
            Some(value) => value,
            None => self.insert((self.init)())?.0,
        };
        Ok(f(of_type(&value)))
    }

    /// Sets the value to `value` if there is none yet, else hands `value` to `replace`.
    fn set_or(&'static self, value: T, replace: impl FnOnce(&T, T)) {
        let found = match self.find() {
            Ok(Some(found)) => Ok((found, Some(value))),
            Ok(None) => self.insert(value),
            Err(error) => Err(error),
        };
        match found {
            Ok((found, Some(value))) => replace(of_type(&found), value),
            Ok((_, None)) => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn key(&'static self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    fn find(&'static self) -> Result<Option<Rc<dyn Any>>, AccessError> {
        with_values(|values| values.find(self.key()))
    }

    /// Enters a value. If there is one by now, that one stays, and the new one is given back.
    fn insert(&'static self, value: T) -> Result<(Rc<dyn Any>, Option<T>), AccessError> {
        if let Some(found) = self.find()? {
            return Ok((found, Some(value)));
        }
        let value: Rc<dyn Any> = Rc::new(value);
        let entry = (self.key(), Some(Rc::clone(&value)));
        with_values(|values| values.entries.push(entry));
        Ok((value, None))
    }
}

fn of_type<T: 'static>(value: &Rc<dyn Any>) -> &T {
    value
        .downcast_ref()
        .expect("an address has one static, which has one type")
}

impl<T: 'static> Local<Cell<T>> {
    /// A copy of the value.
    ///
    /// # Panics
    ///
    /// If it has been dropped.
    pub fn get(&'static self) -> T
    where
        T: Copy,
    {
        self.with(Cell::get)
    }

    /// Sets the value. If there is none yet, it is not made first.
    ///
    /// # Panics
    ///
    /// If it has been dropped.
    pub fn set(&'static self, value: T) {
        self.set_or(Cell::new(value), |cell, value| cell.set(value.into_inner()));
    }

    /// Takes the value, and leaves the default in its place.
    ///
    /// # Panics
    ///
    /// If it has been dropped.
    pub fn take(&'static self) -> T
    where
        T: Default,
    {
        self.with(Cell::take)
    }

    /// Sets the value and returns the one before.
    ///
    /// # Panics
    ///
    /// If it has been dropped.
    pub fn replace(&'static self, value: T) -> T {
        self.with(|cell| cell.replace(value))
    }
}

impl<T: 'static> Local<RefCell<T>> {
    /// Calls `f` with the borrowed value.
    ///
    /// # Panics
    ///
    /// If it has been dropped, or is mutably borrowed.
    pub fn with_borrow<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        self.with(|cell| f(&cell.borrow()))
    }

    /// Calls `f` with the mutably borrowed value.
    ///
    /// # Panics
    ///
    /// If it has been dropped, or is borrowed.
    pub fn with_borrow_mut<R>(&'static self, f: impl FnOnce(&mut T) -> R) -> R {
        self.with(|cell| f(&mut cell.borrow_mut()))
    }

    /// Sets the value. If there is none yet, it is not made first.
    ///
    /// # Panics
    ///
    /// If it has been dropped, or is borrowed.
    pub fn set(&'static self, value: T) {
        self.set_or(RefCell::new(value), |cell, value| {
            cell.replace(value.into_inner());
        });
    }

    /// Takes the value, and leaves the default in its place.
    ///
    /// # Panics
    ///
    /// If it has been dropped, or is borrowed.
    pub fn take(&'static self) -> T
    where
        T: Default,
    {
        self.with(RefCell::take)
    }

    /// Sets the value and returns the one before.
    ///
    /// # Panics
    ///
    /// If it has been dropped, or is borrowed.
    pub fn replace(&'static self, value: T) -> T {
        self.with(|cell| cell.replace(value))
    }
}

impl<T: 'static> fmt::Debug for Local<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local").finish_non_exhaustive()
    }
}

/// The values of one greenlet or thread, in the order in which they were made: the address of the
/// static, and the value unless it has been dropped. They are few, so a search takes no time.
#[derive(Default)]
struct Values {
    entries: Vec<(usize, Option<Rc<dyn Any>>)>,
    /// Nobody would drop what is made now.
    over: bool,
}

impl Values {
    const fn new() -> Values {
        Values {
            entries: Vec::new(),
            over: false,
        }
    }

    fn find(&self, key: usize) -> Result<Option<Rc<dyn Any>>, AccessError> {
        match self.entries.iter().find(|entry| entry.0 == key) {
            Some((_, Some(value))) => Ok(Some(Rc::clone(value))),
            Some((_, None)) => Err(AccessError),
            None if self.over => Err(AccessError),
            None => Ok(None),
        }
    }

    /// Takes out the last that there is. Its entry stays, so that it is not made again.
    fn pop(&mut self) -> Option<Rc<dyn Any>> {
        self.entries.iter_mut().rev().find_map(|it| it.1.take())
    }
}

/// Numbers of greenlets need no protection against an attacker.
#[derive(Default)]
struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        // Spreads the low bits over the high ones, which a hash table looks at too.
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

type OfGreenlets = HashMap<u64, Values, BuildHasherDefault<NumberHasher>>;

thread_local! {
    /// The values of this hub's greenlets that have any, by their numbers. Not in the task: they
    /// are not `Send`, and those who have none shall not have room for them. Hubs never end, so
    /// neither does the map.
    static OF_GREENLETS: ManuallyDrop<RefCell<OfGreenlets>> = const {
        ManuallyDrop::new(RefCell::new(HashMap::with_hasher(BuildHasherDefault::new())))
    };
    /// The thread's own. Dropped by `THREAD_END`, so that destructors find them.
    static OF_THREAD: ManuallyDrop<RefCell<Values>> =
        const { ManuallyDrop::new(RefCell::new(Values::new())) };
    static THREAD_END: ThreadEnd = const { ThreadEnd };
}

/// Drops the thread's values when it ends.
struct ThreadEnd;

impl Drop for ThreadEnd {
    fn drop(&mut self) {
        drop_all(|| with_values_of_thread(Values::pop));
        with_values_of_thread(|values| {
            values.entries = Vec::new();
            values.over = true;
        });
    }
}

/// Drops the values of the greenlet that runs, which is about to end. Some may be made again later,
/// by what else runs at its end: see [`forget`].
#[cold]
pub(crate) fn drop_values(task: &Task) {
    drop_all(|| with_values_of(task, Values::pop));
}

/// Drops what was made since, and the room for it.
#[cold]
pub(crate) fn forget(task: &Task) {
    drop_values(task);
    OF_GREENLETS.with(|all| all.borrow_mut().remove(&task.id()));
}

fn drop_all(mut pop: impl FnMut() -> Option<Rc<dyn Any>>) {
    // Ends, as each static's value is made once at most.
    while let Some(value) = pop() {
        drop_caught(value);
    }
}

/// Calls `f`, which runs nothing of a user's, with the values of who calls.
fn with_values<R>(f: impl FnOnce(&mut Values) -> R) -> R {
    current::with(|task| match task {
        Some(task) => {
            task.local().frame.has_locals.set(true);
            with_values_of(task, f)
        }
        None => {
            // Fails only while the thread ends: then somebody is there to drop them, or knows that
            // it is over.
            THREAD_END.try_with(|_| ()).ok();
            with_values_of_thread(f)
        }
    })
}

fn with_values_of<R>(task: &Task, f: impl FnOnce(&mut Values) -> R) -> R {
    OF_GREENLETS.with(|all| f(all.borrow_mut().entry(task.id()).or_default()))
}

fn with_values_of_thread<R>(f: impl FnOnce(&mut Values) -> R) -> R {
    OF_THREAD.with(|values| f(&mut values.borrow_mut()))
}
