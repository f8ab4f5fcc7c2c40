//! What may go to another thread, and what may not.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use greenwood_runtime::{
    AsyncResult, BoundedSemaphore, Channel, Condvar, CountDownLatch, Current, Event, Greenlet,
    Group, Imap, Iwait, JoinAll, JoinError, LifoQueue, Local, Mutex, MutexGuard, Once, OnceCell,
    Payload, Permit, Pool, PriorityQueue, Queue, QueueIter, RLock, RLockGuard, RwLock,
    RwLockReadGuard, RwLockWriteGuard, Scope, ScopedGreenlet, Semaphore, SimpleQueue, Timeout,
};

/// Not `Send`, and not `Sync` either.
type Stays = Rc<()>;
/// `Send`, and not `Sync`.
type Moves = Cell<u8>;

macro_rules! are {
    ($bound:path: $($type:ty),+ $(,)?) => {
        $({
            fn has<T: $bound>() {}
            has::<$type>();
        })+
    };
}

/// Does not compile if one of the types has the trait: there would be two ways to infer `_`.
macro_rules! are_not {
    ($bound:path: $($type:ty),+ $(,)?) => {
        $({
            trait Ambiguous<A> {
                fn has() {}
            }
            impl<T: ?Sized> Ambiguous<()> for T {}
            struct Has;
            impl<T: ?Sized + $bound> Ambiguous<Has> for T {}
            <$type as Ambiguous<_>>::has();
        })+
    };
}

#[test]
fn what_is_shared_need_not_be_copied_or_locked() {
    are!(Send: Event, CountDownLatch, Semaphore, BoundedSemaphore, RLock, Condvar, Once, Group, Pool);
    are!(Sync: Event, CountDownLatch, Semaphore, BoundedSemaphore, RLock, Condvar, Once, Group, Pool);
    are!(Send: Current, JoinError, Payload, Iwait, Permit<'_>);
    are!(Sync: Current, JoinError, Payload, Iwait, Permit<'_>, Local<Stays>);
    // A lock or a queue makes a value shareable that only moves.
    are!(Sync: Mutex<Moves>, Queue<Moves>, SimpleQueue<Moves>, LifoQueue<Moves>);
    are!(Sync: PriorityQueue<Moves>, Channel<Moves>, Greenlet<Moves>);
    are!(Send: Greenlet<Moves>, Imap<Moves>, AsyncResult<Moves>, OnceCell<Moves>, RwLock<Moves>);
    are!(Sync: AsyncResult<u8>, OnceCell<u8>, RwLock<u8>, MutexGuard<'_, u8>);
    are!(Sync: Scope<'_, '_>);
    are!(Send: JoinAll<'_, Moves>, ScopedGreenlet<'_, Moves>);
}

#[test]
fn what_belongs_to_one_hub_cannot_leave_it() {
    are_not!(Send: Greenlet<Stays>, &Greenlet<Stays>, ScopedGreenlet<'_, Stays>, Imap<Stays>);
    are_not!(Send: JoinAll<'_, Stays>, Timeout, &Timeout);
    are_not!(Send: Queue<Stays>, &Queue<Stays>, SimpleQueue<Stays>, LifoQueue<Stays>);
    are_not!(Send: PriorityQueue<Stays>, Channel<Stays>, QueueIter<'_, Stays>);
    are_not!(Send: Mutex<Stays>, &Mutex<Stays>, RwLock<Stays>, OnceCell<Stays>);
    are_not!(Send: AsyncResult<Stays>, AsyncResult<u8, Stays>, Arc<AsyncResult<Moves>>);
    // Sharing these would share the value.
    are_not!(Sync: RwLock<Moves>, OnceCell<Moves>, AsyncResult<Moves>, AsyncResult<u8, Moves>);
    are_not!(Sync: MutexGuard<'_, Moves>, RwLockReadGuard<'_, Moves>, RwLockWriteGuard<'_, Moves>);
    // A guard is given back where it was taken.
    are_not!(Send: MutexGuard<'_, u8>, RwLockReadGuard<'_, u8>, RwLockWriteGuard<'_, u8>);
    are_not!(Send: RLockGuard<'_>, &RLockGuard<'_>);
}
