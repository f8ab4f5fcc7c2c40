//! [`RwLock`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::Duration;

use greenwood_runtime::{Event, RwLock, RwLockWriteGuard, joinall, sleep, with_timeout};

use super::in_unwinding;
use crate::support::{EVERYWHERE, any_hub, deadline, eventually, spawn_on, until_waits, waiting};

const BRIEF: Duration = Duration::from_millis(2);

#[test]
fn many_read_together_and_one_writes_alone() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        let lock = Arc::new(RwLock::new(1));
        let reads = (lock.read().unwrap(), lock.read().unwrap());
        let theirs = Arc::clone(&lock);
        from.run(move || {
            assert_eq!(*theirs.read().unwrap(), 1);
            assert!(theirs.try_write().is_err());
            assert!(theirs.write_timeout(BRIEF).is_err());
            assert!(with_timeout(BRIEF, || theirs.write().is_ok()).is_err());
            // Writers that gave up do not keep readers out.
            assert!(theirs.try_read().is_ok());
        });
        drop(reads);
        let mut write = lock.write().unwrap();
        *write += 1;
        let theirs = Arc::clone(&lock);
        from.run(move || {
            assert!(theirs.try_read().is_err());
            assert!(theirs.read_timeout(BRIEF).is_err());
            assert!(theirs.try_write().is_err());
        });
        drop(write);
        assert_eq!(*lock.read().unwrap(), 2);
    }
}

#[test]
fn who_waits_comes_in_in_the_order_of_coming_and_readers_together() {
    let _deadline = deadline();
    let lock = Arc::new(RwLock::new(String::new()));
    let first = lock.write().unwrap();
    let waiters: Vec<_> = "wrrwwrw"
        .chars()
        .enumerate()
        .map(|(i, kind)| {
            let theirs = Arc::clone(&lock);
            let waiter = EVERYWHERE[i % 3].start(move || match kind {
                'w' => {
                    let mut text = theirs.write().unwrap();
                    text.push(char::from(b'0' + i as u8));
                    text.clone()
                }
                _ => theirs.read().unwrap().clone(),
            });
            eventually("the next one waits", || waiting(&*lock) == i + 1);
            waiter
        })
        .collect();
    drop(first);
    let seen: Vec<_> = waiters.into_iter().map(|waiter| waiter()).collect();
    assert_eq!(seen, ["0", "0", "0", "03", "034", "034", "0346"]);
}

#[test]
fn readers_that_never_cease_do_not_keep_a_writer_out_nor_writers_a_reader() {
    let _deadline = deadline();
    for write in [false, true] {
        let lock = Arc::new(RwLock::new(0));
        let over = Arc::new(AtomicBool::new(false));
        let crowd: Vec<_> = (0..6)
            .map(|i| {
                let (lock, over) = (Arc::clone(&lock), Arc::clone(&over));
                spawn_on(any_hub(i), move || {
                    while !over.load(Ordering::SeqCst) {
                        if write {
                            let _guard = lock.write().unwrap();
                            sleep(Duration::ZERO);
                        } else {
                            let _guard = lock.read().unwrap();
                            sleep(Duration::ZERO);
                        }
                    }
                })
            })
            .collect();
        for from in EVERYWHERE {
            let theirs = Arc::clone(&lock);
            from.run(move || {
                for _ in 0..20 {
                    if write {
                        drop(theirs.read().unwrap());
                    } else {
                        *theirs.write().unwrap() += 1;
                    }
                }
            });
        }
        over.store(true, Ordering::SeqCst);
        assert!(joinall(&crowd, None));
    }
}

/// Readers come behind a writer that waits no longer than `limit`, or until it is killed; whether
/// it was still there when they all waited.
fn readers_come_in_behind_a_writer(limit: Option<Duration>) -> bool {
    let lock = Arc::new(RwLock::new(0));
    let read = lock.read().unwrap();
    let theirs = Arc::clone(&lock);
    let writer = spawn_on(0, move || match limit {
        Some(limit) => theirs.write_timeout(limit).is_ok(),
        None => theirs.write().is_ok(),
    });
    let waits = |count| {
        eventually("they wait", || waiting(&*lock) == count || writer.ready());
        !writer.ready()
    };
    let first = waits(1);
    let readers: Vec<_> = EVERYWHERE
        .into_iter()
        .map(|from| {
            let theirs = Arc::clone(&lock);
            from.start(move || *theirs.read().unwrap())
        })
        .collect();
    let all = first && waits(4);
    if limit.is_none() {
        writer.kill();
    }
    readers
        .into_iter()
        .for_each(|reader| assert_eq!(reader(), 0));
    assert!(!writer.join().unwrap_or(false));
    drop(read);
    assert!(lock.try_write().is_ok());
    all
}

#[test]
fn readers_behind_a_writer_that_gives_up_come_in() {
    let _deadline = deadline();
    assert!(readers_come_in_behind_a_writer(None));
    // As long as it takes the readers to come, on this machine.
    let mut limit = Duration::from_millis(10);
    while !readers_come_in_behind_a_writer(Some(limit)) {
        limit *= 2;
    }
}

#[test]
fn writer_goes_on_as_a_reader_and_lets_in_those_behind() {
    let _deadline = deadline();
    let lock = Arc::new(RwLock::new(0));
    let mut write = lock.write().unwrap();
    let start = |kind: usize| {
        let (theirs, waits) = (Arc::clone(&lock), waiting(&*lock));
        let waiter = spawn_on(any_hub(kind), move || match kind {
            0 => *theirs.read().unwrap(),
            _ => {
                *theirs.write().unwrap() += 1;
                100
            }
        });
        eventually("it waits", || waiting(&*lock) == waits + 1);
        waiter
    };
    let (reader, writer) = (start(0), start(1));
    *write = 7;
    let read = RwLockWriteGuard::downgrade(write);
    assert_eq!(reader.join().unwrap(), 7);
    assert_eq!(waiting(&*lock), 1);
    assert_eq!(*read, 7);
    drop(read);
    assert_eq!(writer.join().unwrap(), 100);
    assert_eq!(*lock.read().unwrap(), 8);
}

#[test]
fn holder_that_panics_or_is_killed_leaves_the_value_to_the_next() {
    let _deadline = deadline();
    for round in 0..4 {
        let (write, killed) = (round % 2 == 0, round / 2 == 0);
        let (lock, panics) = (Arc::new(RwLock::new(3)), Arc::new(Event::new()));
        let (theirs, told) = (Arc::clone(&lock), Arc::clone(&panics));
        let holder = spawn_on(any_hub(round), move || {
            let _guards = if write {
                (Some(theirs.write().unwrap()), None)
            } else {
                (None, Some(theirs.read().unwrap()))
            };
            told.wait();
            panic!("with the lock");
        });
        until_waits(holder.id());
        let theirs = Arc::clone(&lock);
        let next = spawn_on(any_hub(round + 1), move || *theirs.write().unwrap());
        until_waits(next.id());
        if killed {
            holder.kill();
        } else {
            panics.set();
        }
        assert_eq!(next.join().unwrap(), 3);
        assert_eq!(holder.join().unwrap_err().is_killed(), killed);
    }
}

#[test]
fn lock_does_not_wait_in_a_greenlet_that_unwinds() {
    let _deadline = deadline();
    let lock = Arc::new(RwLock::new(0));
    let read = lock.read().unwrap();
    let theirs = Arc::clone(&lock);
    let answers = in_unwinding(0, move || (theirs.read().is_ok(), theirs.write().is_ok()));
    assert_eq!(answers, (true, false));
    drop(read);
    let write = lock.write().unwrap();
    let theirs = Arc::clone(&lock);
    assert!(in_unwinding(0, move || theirs.read().is_err()));
    drop(write);
    assert!(lock.try_write().is_ok());
}

#[test]
fn readers_and_writers_exclude_each_other_under_fire() {
    let _deadline = deadline();
    let lock = Arc::new(RwLock::new(0_u64));
    // Readers inside, or minus one for a writer.
    let inside = Arc::new(AtomicI32::new(0));
    for round in 0..1_000_u64 {
        let greenlets: Vec<_> = (0..6)
            .map(|i| {
                let (lock, inside) = (Arc::clone(&lock), Arc::clone(&inside));
                let limit = Duration::from_micros((round * 7 + i) % 60);
                spawn_on(any_hub(i as usize), move || {
                    if (round + i) % 3 == 0 {
                        let guard = match i % 2 {
                            0 => lock.write(),
                            _ => lock.write_timeout(limit),
                        };
                        if let Ok(mut guard) = guard {
                            assert_eq!(inside.swap(-1, Ordering::SeqCst), 0);
                            *guard += 1;
                            assert_eq!(inside.swap(0, Ordering::SeqCst), -1);
                        }
                    } else {
                        let guard = match i % 2 {
                            0 => lock.read(),
                            _ => lock.read_timeout(limit),
                        };
                        if guard.is_ok() {
                            assert!(inside.fetch_add(1, Ordering::SeqCst) >= 0);
                            assert!(inside.fetch_sub(1, Ordering::SeqCst) > 0);
                        }
                    }
                })
            })
            .collect();
        greenlets[(round % 6) as usize].kill_nowait();
        assert!(joinall(&greenlets, None));
        for greenlet in greenlets {
            assert!(
                greenlet
                    .join()
                    .map_or_else(|error| error.is_killed(), |()| true)
            );
        }
        assert!(lock.try_write().is_ok(), "round {round}");
    }
    assert_eq!(waiting(&*lock), 0);
}

#[test]
fn value_can_be_unsized_and_printed_and_had_without_locking() {
    let mut lock = RwLock::from([1, 2]);
    lock.get_mut()[0] = 3;
    let slice: &RwLock<[i32]> = &lock;
    assert_eq!(slice.read().unwrap().len(), 2);
    let write = lock.write().unwrap();
    assert!(format!("{lock:?}").contains("<locked>"));
    drop(write);
    assert!(format!("{lock:?}").starts_with("RwLock { value: [3, 2],"));
    assert_eq!(RwLock::<u32>::default().into_inner(), 0);
}
