//! Semaphores, locks, conditions, and what is done once.

use std::sync::Arc;
use std::time::Duration;

use greenwood_runtime::{
    BoundedSemaphore, Condvar, Event, Greenlet, Mutex, Once, OnceCell, RLock, RwLock, Semaphore,
};

use super::{Call, LONG, Row, play, row};
use crate::support::{any_hub, spawn_on, waiting};

#[test]
fn semaphores() {
    play("matrix::locks::semaphores", || {
        let semaphore = |name, call: Call<Semaphore>| {
            row(
                name,
                || Semaphore::new(0),
                call,
                Semaphore::release,
                |semaphore, got| {
                    assert_eq!(semaphore.counter(), usize::from(!got));
                    assert_eq!(waiting(semaphore), 0);
                },
            )
        };
        let bounded = |name, call: Call<BoundedSemaphore>| {
            row(
                name,
                || {
                    let semaphore = BoundedSemaphore::new(1);
                    assert!(semaphore.try_acquire());
                    semaphore
                },
                call,
                |semaphore| semaphore.release().unwrap(),
                |semaphore, got| assert_eq!(semaphore.counter(), usize::from(!got)),
            )
        };
        vec![
            semaphore("Semaphore acquire", |semaphore, limit| match limit {
                Some(limit) => semaphore.acquire_timeout(limit),
                None => semaphore.acquire(),
            }),
            semaphore("Semaphore permit", |semaphore, limit| {
                let permit = match limit {
                    Some(limit) => semaphore.permit_timeout(limit),
                    None => semaphore.permit(),
                };
                permit.map(|permit| permit.forget()).is_ok()
            }),
            // It is not taken by waiting, nor by who lets go of it.
            row(
                "Semaphore wait",
                || Semaphore::new(0),
                |semaphore, limit| match limit {
                    Some(limit) => semaphore.wait_timeout(limit) == 1,
                    None => semaphore.wait() == 1,
                },
                Semaphore::release,
                |semaphore, _| assert_eq!(semaphore.counter(), 1),
            ),
            row(
                "Semaphore permit, given back",
                || Semaphore::new(0),
                |semaphore, limit| semaphore.permit_timeout(limit.unwrap_or(LONG)).is_ok(),
                Semaphore::release,
                |semaphore, _| assert_eq!(semaphore.counter(), 1),
            ),
            bounded("BoundedSemaphore acquire", |semaphore, limit| match limit {
                Some(limit) => semaphore.acquire_timeout(limit),
                None => semaphore.acquire(),
            }),
            bounded("BoundedSemaphore permit", |semaphore, limit| {
                let permit = match limit {
                    Some(limit) => semaphore.permit_timeout(limit),
                    None => semaphore.permit(),
                };
                permit.map(|permit| permit.forget()).is_ok()
            }),
        ]
    });
}

/// A lock that a greenlet holds until it is told to let go of it.
struct Held<L> {
    lock: Arc<L>,
    end: Arc<Event>,
    holder: Greenlet<()>,
}

/// `hold` takes the lock, and then says so and waits by what it is given.
fn held<L: Send + Sync + 'static>(lock: L, hold: fn(&L, &dyn Fn())) -> Held<L> {
    let lock = Arc::new(lock);
    let (begun, end) = (Arc::new(Event::new()), Arc::new(Event::new()));
    let (theirs, ready, over) = (Arc::clone(&lock), Arc::clone(&begun), Arc::clone(&end));
    let holder = spawn_on(any_hub(1), move || {
        hold(&theirs, &|| {
            ready.set();
            over.wait();
        });
    });
    begun.wait();
    Held { lock, end, holder }
}

impl<L> Held<L> {
    fn release(&self) {
        self.end.set();
    }

    fn released(&self) -> &L {
        assert!(self.holder.join_timeout(LONG));
        &self.lock
    }
}

/// Rows of locks. Who gets one adds to its value.
fn locks() -> Vec<Row> {
    vec![
        row(
            "Mutex lock",
            || {
                held(Mutex::new(0), |lock, wait| {
                    let _guard = lock.lock().unwrap();
                    wait();
                })
            },
            |it, limit| {
                let guard = match limit {
                    Some(limit) => it.lock.lock_timeout(limit),
                    None => it.lock.lock(),
                };
                guard.map(|mut value| *value += 1).is_ok()
            },
            Held::release,
            |it, got| assert_eq!(*it.released().try_lock().unwrap(), i32::from(got)),
        ),
        row(
            "RLock lock",
            || {
                held(RLock::new(), |lock, wait| {
                    let _guard = (lock.lock().unwrap(), lock.lock().unwrap());
                    wait();
                })
            },
            |it, limit| {
                let guard = match limit {
                    Some(limit) => it.lock.lock_timeout(limit),
                    None => it.lock.lock(),
                };
                guard.is_ok() && it.lock.is_owned()
            },
            Held::release,
            |it, _| assert!(it.released().try_acquire()),
        ),
        row(
            "RLock acquire",
            || {
                held(RLock::new(), |lock, wait| {
                    let _guard = lock.lock().unwrap();
                    wait();
                })
            },
            |it, limit| {
                let acquired = match limit {
                    Some(limit) => it.lock.acquire_timeout(limit),
                    None => it.lock.acquire(),
                };
                if acquired {
                    it.lock.release();
                }
                acquired
            },
            Held::release,
            |it, _| assert!(it.released().try_acquire()),
        ),
        row(
            "RwLock read",
            || {
                held(RwLock::new(0), |lock, wait| {
                    let mut guard = lock.write().unwrap();
                    wait();
                    *guard = 7;
                })
            },
            |it, limit| {
                let guard = match limit {
                    Some(limit) => it.lock.read_timeout(limit),
                    None => it.lock.read(),
                };
                guard.is_ok_and(|value| *value == 7)
            },
            Held::release,
            |it, _| assert_eq!(*it.released().try_write().unwrap(), 7),
        ),
        row(
            "RwLock write",
            || {
                held(RwLock::new(0), |lock, wait| {
                    let _guard = (lock.read().unwrap(), lock.try_read().unwrap());
                    wait();
                })
            },
            |it, limit| {
                let guard = match limit {
                    Some(limit) => it.lock.write_timeout(limit),
                    None => it.lock.write(),
                };
                guard.map(|mut value| *value += 1).is_ok()
            },
            Held::release,
            |it, got| assert_eq!(*it.released().try_write().unwrap(), i32::from(got)),
        ),
    ]
}

#[test]
fn mutexes_and_others() {
    play("matrix::locks::mutexes_and_others", locks);
}

#[test]
fn conditions_and_what_is_done_once() {
    play("matrix::locks::conditions_and_what_is_done_once", || {
        let condvar = |name, call: Call<(Mutex<bool>, Condvar)>| {
            row(
                name,
                || (Mutex::new(false), Condvar::new()),
                call,
                |(mutex, changed)| {
                    *mutex.lock().unwrap() = true;
                    changed.notify_one();
                },
                |(mutex, changed), _| {
                    assert!(*mutex.try_lock().unwrap());
                    assert_eq!(waiting(changed), 0);
                },
            )
        };
        vec![
            condvar("Condvar wait", |(mutex, changed), _| {
                let mut guard = mutex.lock().unwrap();
                while !*guard {
                    guard = changed.wait(guard).0;
                }
                true
            })
            .without_limit(),
            condvar("Condvar wait_while", |(mutex, changed), limit| {
                let guard = mutex.lock().unwrap();
                match limit {
                    Some(limit) => changed.wait_timeout_while(guard, limit, |set| !*set).1,
                    None => changed.wait_while(guard, |set| !*set).1,
                }
            }),
            // One who is there gets the notification, or the next one does.
            row(
                "Condvar wait_timeout",
                || (Mutex::new(()), Condvar::new()),
                |(mutex, changed), limit| {
                    let guard = mutex.lock().unwrap();
                    let (_guard, notified) = changed.wait_timeout(guard, limit.unwrap_or(BRIEF));
                    notified
                },
                |(_, changed)| changed.notify_all(),
                |(mutex, changed), _| {
                    assert!(mutex.try_lock().is_ok());
                    assert_eq!(waiting(changed), 0);
                },
            ),
            row(
                "Once call_once",
                || {
                    held(Once::new(), |once, wait| {
                        once.call_once(wait);
                    })
                },
                |it, _| it.lock.call_once(|| unreachable!("another is at it")),
                Held::release,
                |it, _| assert!(it.released().is_completed()),
            )
            .without_limit(),
            row(
                "OnceCell get_or_init",
                || {
                    held(OnceCell::new(), |cell, wait| {
                        let made = cell.get_or_init(|| {
                            wait();
                            7
                        });
                        assert_eq!(made, Ok(&7));
                    })
                },
                |it, _| it.lock.get_or_init(|| unreachable!("another is at it")) == Ok(&7),
                Held::release,
                |it, _| assert_eq!(it.released().get(), Some(&7)),
            )
            .without_limit(),
        ]
    });
}

/// For a wait that would else be without an end if it begins after the notification.
const BRIEF: Duration = Duration::from_millis(1);
