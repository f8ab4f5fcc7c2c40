//! [`Group`] and [`Pool`].

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use greenwood_runtime::{
    Builder, CountDownLatch, Event, Greenlet, Group, Hub, JoinError, Pool, PoolError, PoolFull,
    getcurrent, run_in_greenlet, sleep, spawn, with_timeout,
};

use crate::support::{
    EVERYWHERE, OnDrop, any_hub, count, deadline, eventually, spawn_on, until_waits, waiting,
};

const LONG: Duration = Duration::from_secs(600);
const SHORT: Duration = Duration::from_millis(3);

/// A member that waits for an event.
fn waiter(pool: &Pool) -> (Arc<Event>, Greenlet<bool>) {
    let event = Arc::new(Event::new());
    let theirs = Arc::clone(&event);
    (event, pool.spawn(move || theirs.wait()))
}

#[test]
fn spawn_waits_for_a_place() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        let pool = Pool::new(2);
        let (first, _) = waiter(&pool);
        let (second, _) = waiter(&pool);
        assert!(pool.full());
        assert_eq!((pool.len(), pool.free_count(), pool.size()), (2, 0, 2));
        let theirs = pool.clone();
        let third = from.start(move || theirs.spawn(|| 3).join().unwrap());
        eventually("it waits", || count(&pool, "spawners") == 1);
        first.set();
        assert_eq!(third(), 3);
        second.set();
        assert!(pool.join(None));
        assert_eq!((pool.len(), pool.free_count()), (0, 2));
    }
}

#[test]
fn places_go_to_whoever_waits_longest() {
    let _deadline = deadline();
    let pool = Pool::new(1);
    let (event, _) = waiter(&pool);
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut spawners = Vec::new();
    for i in 0..15 {
        let (pool_of_it, order) = (pool.clone(), Arc::clone(&order));
        spawners.push(EVERYWHERE[i % 3].start(move || {
            pool_of_it.spawn(move || order.lock().unwrap().push(i));
        }));
        eventually("it waits", || count(&pool, "spawners") == i + 1);
    }
    event.set();
    for spawner in spawners {
        spawner();
    }
    assert!(pool.join(None));
    assert_eq!(*order.lock().unwrap(), (0..15).collect::<Vec<_>>());
}

#[test]
fn no_more_than_the_size_run_at_a_time() {
    let _deadline = deadline();
    let pool = Pool::new(3);
    let (inside, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    // The first three have to be there together.
    let together = Arc::new(CountDownLatch::new(3));
    let spawners: Vec<_> = (0..6)
        .map(|i| {
            let (pool, inside, most) = (pool.clone(), Arc::clone(&inside), Arc::clone(&most));
            let together = Arc::clone(&together);
            EVERYWHERE[i % 3].start(move || {
                for _ in 0..50 {
                    let (inside, most) = (Arc::clone(&inside), Arc::clone(&most));
                    let together = Arc::clone(&together);
                    pool.spawn(move || {
                        most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        together.count_down();
                        together.wait();
                        sleep(Duration::from_micros(10));
                        inside.fetch_sub(1, Ordering::SeqCst);
                    });
                }
            })
        })
        .collect();
    for spawner in spawners {
        spawner();
    }
    assert!(pool.join(None));
    assert_eq!(most.load(Ordering::SeqCst), 3);
    assert_eq!(pool.free_count(), 3);
}

#[test]
fn a_place_is_free_before_anybody_learns_of_the_end() {
    let _deadline = deadline();
    let pool = Pool::new(1);
    for i in 0..1_000 {
        let builder = Builder::new().hub(any_hub(i));
        let greenlet = pool.spawn_with(builder, move || i).unwrap();
        assert_eq!(greenlet.join().unwrap(), i);
        assert_eq!((pool.len(), pool.free_count()), (0, 1));
    }
}

#[test]
fn an_empty_group_has_ended_members_only() {
    let _deadline = deadline();
    let group = Group::new();
    for i in 0..500 {
        let builder = Builder::new().hub(any_hub(i));
        let greenlet = group.spawn_with(builder, || ()).unwrap();
        assert!(group.join(None));
        assert!(greenlet.ready());
    }
}

#[test]
fn a_member_leaves_whatever_ends_it() {
    let _deadline = deadline();
    let pool = Pool::new(1);
    for hub in [0, Hub::count() - 1] {
        let on_it = || Builder::new().hub(hub);
        let panics = pool
            .spawn_with(on_it(), || std::panic::resume_unwind(Box::new("expected")))
            .unwrap();
        assert!(Greenlet::<()>::join(panics).unwrap_err().is_panic());
        assert_eq!(pool.free_count(), 1);

        let killed = pool.spawn_with(on_it(), || sleep(LONG)).unwrap();
        killed.kill();
        assert_eq!(pool.free_count(), 1);

        let timed_out = pool
            .spawn_with(on_it(), || {
                let _limit = greenwood_runtime::Timeout::start_new(Duration::ZERO);
                sleep(LONG);
            })
            .unwrap();
        assert!(timed_out.join().is_err());
        assert_eq!(pool.free_count(), 1);

        let refused = pool.spawn_with(Builder::new().hub(1_000), || ());
        assert!(matches!(refused, Err(PoolError::Spawn(_))));
        assert_eq!(pool.free_count(), 1);
    }
}

#[test]
fn a_full_pool_refuses_who_does_not_wait() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let pool = Pool::new(1);
            let other = spawn(|| sleep(LONG));
            let (event, member) = waiter(&pool);
            let full = |error| matches!(error, PoolError::Full(_));
            assert!(pool.spawn_nowait(|| ()).is_err_and(full));
            assert!(pool.spawn_timeout(SHORT, || ()).is_err_and(full));
            let full_too: Result<(), PoolFull> = pool.add(&other);
            assert!(full_too.is_err());
            assert!(pool.add_timeout(&other, SHORT).is_err());
            assert_eq!(pool.wait_available(Some(SHORT)), 0);
            assert_eq!((pool.len(), pool.free_count()), (1, 0));
            event.set();
            assert_eq!(pool.wait_available(None), 1);
            assert!(member.join().unwrap());
            assert_eq!(pool.spawn_nowait(|| 1).unwrap().join().unwrap(), 1);
            other.kill();
        });
    }
}

#[test]
fn a_pool_of_size_zero_never_has_a_place() {
    let pool = Pool::new(0);
    assert!(pool.full());
    assert_eq!(pool.free_count(), 0);
    assert_eq!(pool.wait_available(Some(SHORT)), 0);
    assert!(pool.spawn_timeout(SHORT, || ()).is_err());
    assert!(with_timeout(SHORT, || pool.spawn(|| ())).is_err());
}

#[test]
fn greenlets_are_added_and_discarded() {
    let _deadline = deadline();
    let pool = Pool::new(2);
    let sleeper = spawn(|| sleep(LONG));
    pool.add(&sleeper).unwrap();
    // Twice is once.
    pool.add(&sleeper).unwrap();
    assert!(pool.contains(&sleeper));
    assert_eq!((pool.len(), pool.free_count()), (1, 1));
    assert!(pool.discard(&sleeper));
    assert!(!pool.discard(&sleeper));
    assert_eq!((pool.len(), pool.free_count()), (0, 2));
    pool.add(&sleeper).unwrap();
    sleeper.kill();
    // Its end gives one place back, not two.
    assert_eq!((pool.len(), pool.free_count()), (0, 2));
    pool.add(&sleeper).unwrap();
    assert_eq!(pool.len(), 0);
}

#[test]
fn a_greenlet_may_be_in_several_groups() {
    let _deadline = deadline();
    let (group, pool) = (Group::new(), Pool::new(3));
    let greenlets: Vec<_> = (0..3)
        .map(|i| spawn_on(any_hub(i), || sleep(LONG)))
        .collect();
    for greenlet in &greenlets {
        group.add(greenlet).unwrap();
        pool.add(greenlet).unwrap();
    }
    let names: Vec<_> = (&group).into_iter().map(|member| member.id()).collect();
    let expected: Vec<_> = greenlets.iter().map(Greenlet::id).collect();
    assert_eq!(names, expected);
    assert!(pool.killone(&greenlets[0]));
    assert!(!pool.killone(&greenlets[0]));
    assert_eq!((group.len(), pool.len()), (2, 2));
    group.kill();
    assert!(pool.is_empty() && group.is_empty());
    assert!(!group.full());
    assert_eq!(group.wait_available(None), usize::MAX);
}

#[test]
fn join_waits_until_the_pool_is_empty() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        let pool = Pool::new(2);
        assert!(pool.join(None) && pool.join(Some(Duration::ZERO)));
        let (event, _) = waiter(&pool);
        assert!(!pool.join(Some(SHORT)));
        assert!(!pool.join(Some(Duration::ZERO)));
        let theirs = pool.clone();
        let joiner = from.start(move || theirs.join(None));
        eventually("it waits", || count(&pool, "joiners") == 1);
        event.set();
        assert!(joiner());
    }
}

#[test]
fn join_returns_the_first_error_if_asked() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        for added in [false, true] {
            let pool = Pool::new(3);
            let gate = Arc::new(Event::new());
            let waits = Arc::clone(&gate);
            let fails = move || {
                waits.wait();
                std::panic::resume_unwind(Box::new("expected"));
            };
            let member: Greenlet<()> = match added {
                false => pool.spawn(fails),
                true => spawn(fails),
            };
            pool.add(&member).unwrap();
            let (event, _) = waiter(&pool);
            let killed = pool.spawn(|| sleep(LONG));
            let theirs = pool.clone();
            let joiner = from.start(move || theirs.join_raise_error(None));
            eventually("it waits", || count(&pool, "joiners") == 1);
            // A kill is no error.
            killed.kill();
            assert!(!pool.join_raise_error(Some(SHORT)).unwrap());
            gate.set();
            assert!(member.join().unwrap_err().is_panic());
            // What failed before the call is not looked for.
            assert!(!pool.join_raise_error(Some(SHORT)).unwrap());
            event.set();
            let error = joiner().unwrap_err();
            assert!(error.to_string().ends_with("expected"), "{error}");
            assert!(pool.join_raise_error(None).unwrap());
        }
    }
}

#[test]
fn unstarted_greenlets_are_started_when_there_is_a_place() {
    let _deadline = deadline();
    let pool = Pool::new(1);
    let (event, _) = waiter(&pool);
    let second = Greenlet::new(|| 2);
    let full = pool.start_timeout(&second, SHORT);
    assert!(matches!(full, Err(PoolError::Full(_))));
    assert!(!second.started());
    let theirs = pool.clone();
    let starter = spawn(move || {
        theirs.start(&second).unwrap();
        second.join().unwrap()
    });
    eventually("it waits", || count(&pool, "spawners") == 1);
    event.set();
    assert_eq!(starter.join().unwrap(), 2);

    // A member counts from the start, also if it is never started.
    let third = Greenlet::new(|| 3);
    pool.add(&third).unwrap();
    assert_eq!(pool.free_count(), 0);
    third.kill();
    assert_eq!(pool.free_count(), 1);
    let fourth = Greenlet::new(|| 4);
    pool.add(&fourth).unwrap();
    pool.start(&fourth).unwrap();
    assert_eq!(fourth.join().unwrap(), 4);
    assert_eq!(pool.free_count(), 1);
}

#[test]
fn kill_ends_all_members_also_those_that_come_meanwhile() {
    let _deadline = deadline();
    let pool = Pool::new(3);
    let ended = Arc::new(AtomicUsize::new(0));
    let feeder = {
        let (pool, ended) = (pool.clone(), Arc::clone(&ended));
        spawn(move || {
            for i in 0..20 {
                let ended = Arc::clone(&ended);
                let count = OnDrop(move || {
                    ended.fetch_add(1, Ordering::SeqCst);
                });
                let builder = Builder::new().hub(any_hub(i));
                let spawned = pool.spawn_with(builder, move || {
                    let _count = count;
                    sleep(LONG);
                });
                spawned.unwrap();
            }
        })
    };
    eventually("they run", || pool.full());
    while !feeder.ready() {
        pool.kill();
        assert!(!pool.iter().any(|member| member.ready()));
    }
    pool.kill();
    assert_eq!(ended.load(Ordering::SeqCst), 20);
    assert!(pool.kill_timeout(Duration::ZERO));
}

#[test]
fn kill_waits_no_longer_than_asked() {
    let _deadline = deadline();
    let pool = Pool::new(1);
    let go_on = Arc::new(Event::new());
    let begun = Arc::new(Event::new());
    let (waits, told) = (Arc::clone(&go_on), Arc::clone(&begun));
    pool.spawn(move || {
        let _last = OnDrop(move || {
            // As in a greenlet that unwinds: it can't wait, so it looks.
            while !waits.is_set() {
                std::thread::yield_now();
            }
        });
        told.set();
        sleep(LONG);
    });
    begun.wait();
    assert!(!pool.kill_timeout(SHORT));
    go_on.set();
    pool.kill();
    assert!(pool.is_empty());
}

#[test]
fn a_member_that_kills_its_pool_goes_last() {
    let _deadline = deadline();
    let pool = Pool::new(3);
    let others = [waiter(&pool).1, waiter(&pool).1];
    let theirs = pool.clone();
    let killer = pool.spawn(move || theirs.kill());
    assert!(killer.join().unwrap_err().is_killed());
    for other in others {
        assert!(other.join().unwrap_err().is_killed());
    }
    assert!(pool.join(None));
}

#[test]
fn apply_returns_the_result_or_the_panic() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let pool = Pool::new(1);
            assert_eq!(pool.apply(|| ("foo", 1)).unwrap(), ("foo", 1));
            let failed = pool.apply(|| std::panic::resume_unwind(Box::new("expected")));
            let error: JoinError = Result::<(), _>::unwrap_err(failed);
            assert!(error.is_panic() && error.to_string().ends_with("expected"));
            assert_eq!(pool.free_count(), 1);
        });
    }
}

#[test]
fn apply_from_a_member_runs_in_the_member() {
    let _deadline = deadline();
    let pool = Pool::new(1);
    let theirs = pool.clone();
    let (outer, inner) = pool
        .apply(move || {
            let me = || getcurrent().unwrap().id();
            (me(), theirs.apply(me).unwrap())
        })
        .unwrap();
    assert_eq!(outer, inner);

    let theirs = pool.clone();
    let caught = pool.apply(move || theirs.apply(|| assert_eq!(1, 2, "expected")));
    assert!(caught.unwrap().unwrap_err().is_panic());

    // A kill of the member is no result of what it runs.
    let (theirs, begun) = (pool.clone(), Arc::new(Event::new()));
    let told = Arc::clone(&begun);
    let member = pool.spawn(move || {
        let result = theirs.apply(move || {
            told.set();
            sleep(LONG);
        });
        panic!("unexpected: {result:?}");
    });
    begun.wait();
    member.kill();
    assert!(member.join().unwrap_err().is_killed());
}

#[test]
fn apply_async_never_waits() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        let pool = Pool::new(1);
        let (event, _) = waiter(&pool);
        let theirs = pool.clone();
        let late = from.run(move || theirs.apply_async(|| 5));
        assert_eq!(pool.len(), 1);
        assert!(!late.join_timeout(SHORT));
        event.set();
        assert_eq!(late.join().unwrap(), 5);
        assert_eq!(pool.free_count(), 1);
        assert_eq!(pool.apply_async(|| 6).join().unwrap(), 6);

        // One that is killed while it waits for its place takes none.
        let (event, _) = waiter(&pool);
        let killed = pool.apply_async(|| 7);
        killed.kill();
        event.set();
        assert!(pool.join(None));
        assert_eq!(pool.free_count(), 1);
    }
}

#[test]
fn who_unwinds_spawns_without_a_wait() {
    let _deadline = deadline();
    let pool = Pool::new(1);
    let (event, _) = waiter(&pool);
    let ran = Arc::new(AtomicBool::new(false));
    let (theirs, runs) = (pool.clone(), Arc::clone(&ran));
    let killed = spawn(move || {
        let _last = OnDrop(move || {
            let runs = Arc::clone(&runs);
            assert!(theirs.apply(|| ()).is_err());
            assert!(theirs.spawn_timeout(LONG, || ()).is_err());
            assert!(theirs.map(|()| (), [()]).is_err());
            assert!(!theirs.join(None));
            theirs.spawn(move || runs.store(true, Ordering::SeqCst));
        });
        sleep(LONG);
    });
    until_waits(killed.id());
    killed.kill();
    assert!(killed.join().is_err());
    event.set();
    eventually("it runs", || ran.load(Ordering::SeqCst));
    assert!(pool.join(None));
}

#[test]
fn no_place_is_lost_when_those_who_wait_are_killed_or_run_out_of_time() {
    let _deadline = deadline();
    let pool = Pool::new(2);
    for round in 0..1_500_u64 {
        let events = [waiter(&pool).0, waiter(&pool).0];
        let spawners: Vec<_> = (0..5)
            .map(|i| {
                let pool = pool.clone();
                spawn_on(any_hub(i), move || match i {
                    0 => drop(pool.spawn(|| ())),
                    1 => drop(pool.spawn_timeout(Duration::from_micros(round % 60), || ())),
                    2 => drop(pool.map(|n| n, [1, 2])),
                    3 => pool.imap(|n| n, [1, 2], 1).for_each(drop),
                    _ => drop(pool.apply_async(|| ()).join()),
                })
            })
            .collect();
        let victim = &spawners[round as usize % 5];
        if round % 2 == 0 {
            sleep(Duration::ZERO);
            victim.kill_nowait();
        }
        events.iter().for_each(|event| event.set());
        if round % 2 == 1 {
            victim.kill_nowait();
        }
        assert!(greenwood_runtime::joinall(&spawners, None));
        // What a killed one has left behind may still begin.
        eventually("all places are free", || {
            pool.join(None) && pool.free_count() == 2 && count(&pool, "spawners") == 0
        });
        assert_eq!(pool.len(), 0, "round {round}");
    }
}

#[test]
fn a_killed_join_or_wait_leaves_no_trace() {
    let _deadline = deadline();
    let pool = Pool::new(1);
    let (event, _) = waiter(&pool);
    for i in 0..200 {
        let theirs = pool.clone();
        let waits = spawn_on(any_hub(i), move || match i % 2 {
            0 => theirs.join(None),
            _ => theirs.wait_available(None) > 0,
        });
        if i % 3 == 0 {
            sleep(Duration::ZERO);
        }
        waits.kill();
    }
    assert_eq!((count(&pool, "joiners"), count(&pool, "lookers")), (0, 0));
    event.set();
    assert!(pool.join(None));
}

#[test]
fn local_members_stay_on_the_callers_hub() {
    let _deadline = deadline();
    spawn(|| {
        let here = Hub::current();
        let group = Group::new();
        let count = std::rc::Rc::new(std::cell::Cell::new(0));
        for _ in 0..5 {
            let theirs = std::rc::Rc::clone(&count);
            let member = group.spawn_local(Builder::new(), move || {
                theirs.set(theirs.get() + 1);
                Hub::current()
            });
            assert_eq!(member.unwrap().join().unwrap(), here);
        }
        assert!(group.join(None));
        assert_eq!(count.get(), 5);
    })
    .join()
    .unwrap();
    let refused = Group::new().spawn_local(Builder::new(), || ());
    assert!(matches!(refused, Err(PoolError::Spawn(_))));
}

#[test]
fn the_pool_outlives_its_handles() {
    let _deadline = deadline();
    let pool = Pool::new(1);
    let (event, member) = waiter(&pool);
    drop(pool);
    event.set();
    assert!(member.join().unwrap());
}

#[test]
fn a_member_that_is_never_started_is_dropped_with_its_handle_and_its_group() {
    let _deadline = deadline();
    let drops = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&drops);
    let closure = OnDrop(move || {
        count.fetch_add(1, Ordering::SeqCst);
    });
    let greenlet = Greenlet::new(move || drop(closure));
    let (group, other) = (Group::new(), Pool::new(1));
    group.add(&greenlet).unwrap();
    other.add(&greenlet).unwrap();
    drop(greenlet);
    assert_eq!((group.len(), other.len()), (1, 1));
    drop(other);
    assert_eq!(drops.load(Ordering::SeqCst), 0);
    drop(group);
    assert_eq!(drops.load(Ordering::SeqCst), 1);
}

#[test]
fn debug_texts_say_who_waits() {
    let pool = Pool::new(1);
    assert_eq!(count(&pool, "members"), 0);
    let event = Event::new();
    assert_eq!(waiting(&event), 0);
    assert!(format!("{:?}", Group::new()).starts_with("Group"));
}

#[test]
fn members_know_where_they_were_spawned() {
    let _deadline = deadline();
    let here = || getcurrent().map(|it| (it.spawning_site().file(), it.spawning_site().line()));
    let group = Group::new();
    let short = Duration::ZERO;
    let (sites, line) = (
        [
            group.spawn(here).join().unwrap(),
            group.spawn_nowait(here).unwrap().join().unwrap(),
            group.spawn_timeout(short, here).unwrap().join().unwrap(),
            group
                .spawn_with(Builder::new(), here)
                .unwrap()
                .join()
                .unwrap(),
            group.apply(here).unwrap(),
            group.apply_async(here).join().unwrap(),
            group.map(move |()| here(), [()]).unwrap()[0],
            group
                .imap(move |()| here(), [()], 0)
                .next()
                .unwrap()
                .unwrap(),
            group
                .imap_unordered(move |()| here(), [()], 0)
                .next()
                .unwrap()
                .unwrap(),
            run_in_greenlet(here).unwrap(),
        ],
        line!(),
    );
    for (i, site) in sites.into_iter().enumerate() {
        let (file, at) = site.expect("in a greenlet");
        assert!(
            file.ends_with("pool.rs") && (line - 24..line).contains(&at),
            "{i}: {file}:{at}"
        );
    }
}
