//! Everything that a pool can do at the same time, by callers that are killed and run out of time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use greenwood_runtime::{Greenlet, JoinError, Pool, joinall, killall, sleep, spawn, with_timeout};

use crate::support::{EVERYWHERE, OnDrop, any_hub, count, deadline, eventually, spawn_on};

const SIZE: usize = 3;

/// Numbers that look random, and are the same each time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// How many calls run at the moment.
type Running = AtomicUsize;

fn work(running: &Arc<Running>, micros: u64) -> u64 {
    running.fetch_add(1, Ordering::SeqCst);
    let _over = OnDrop(|| {
        running.fetch_sub(1, Ordering::SeqCst);
    });
    sleep(Duration::from_micros(micros));
    micros
}

/// One call of the pool.
fn call(pool: &Pool, running: &Arc<Running>, numbers: &mut Numbers) {
    let limit = Duration::from_micros(numbers.below(300));
    let micros = numbers.below(60);
    let theirs = Arc::clone(running);
    let one = move || work(&theirs, micros);
    let theirs = Arc::clone(running);
    let each = move |micros| work(&theirs, micros);
    match numbers.below(12) {
        0 => drop(pool.spawn(one)),
        1 => drop(pool.spawn_timeout(limit, one)),
        2 => drop(pool.spawn_nowait(one)),
        3 => drop(pool.apply(one)),
        4 => drop(pool.apply_async(one)),
        5 => drop(pool.map(each, 0..micros / 10)),
        6 => {
            let results = pool.imap(each, 0..micros, 2);
            results.take(3).for_each(drop);
        }
        7 => {
            let results = pool.imap_unordered(each, 0..4, 0);
            results.for_each(drop);
        }
        8 => {
            let greenlet = Greenlet::new(one);
            drop(pool.start_timeout(&greenlet, limit));
            match micros % 3 {
                0 => pool.discard(&greenlet),
                1 => pool.killone_nowait(&greenlet),
                _ => false,
            };
        }
        9 => {
            let greenlet = spawn(one);
            let _ = pool.add_timeout(&greenlet, limit);
        }
        10 => drop(pool.wait_available(Some(limit))),
        _ => drop(pool.join_raise_error(Some(limit))),
    }
}

#[test]
fn no_place_is_lost_whatever_is_called_and_killed() {
    let _deadline = deadline();
    let (pool, running) = (Pool::new(SIZE), Arc::new(Running::default()));
    let callers: Vec<_> = (0..12)
        .map(|i| {
            let (pool, running) = (pool.clone(), Arc::clone(&running));
            spawn_on(any_hub(i), move || {
                let mut numbers = Numbers(0x9e37_79b9 + i as u64);
                for _ in 0..60 {
                    let limit = Duration::from_micros(numbers.below(2_000));
                    let _ = with_timeout(limit, || call(&pool, &running, &mut numbers));
                }
            })
        })
        .collect();
    let victims = |round: u64| -> Vec<Greenlet<()>> {
        (0..6)
            .map(|i| {
                let (pool, running) = (pool.clone(), Arc::clone(&running));
                spawn_on(any_hub(i), move || {
                    let mut numbers = Numbers(1 + round * 7 + i as u64);
                    loop {
                        call(&pool, &running, &mut numbers);
                    }
                })
            })
            .collect()
    };
    for round in 0..20 {
        let victims = victims(round);
        sleep(Duration::from_micros(200 * (round % 7)));
        assert!(killall(&victims, None));
        if round % 5 == 4 {
            pool.kill();
        }
    }
    assert!(joinall(&callers, None));
    // What waits with `apply_async` comes in later.
    eventually("all places are free, and nobody waits", || {
        let nobody = count(&pool, "spawners") == 0 && running.load(Ordering::SeqCst) == 0;
        nobody && (pool.len(), pool.free_count()) == (0, SIZE)
    });
    assert!(pool.join(None));
    for from in EVERYWHERE {
        let pool = pool.clone();
        from.run(move || {
            let results: Result<Vec<u64>, JoinError> = pool.map(|number| number, 0..10);
            assert_eq!(results.unwrap(), (0..10).collect::<Vec<_>>());
        });
    }
}
