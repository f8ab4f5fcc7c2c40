//! `map` and `imap`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use greenwood_runtime::{ThreadError, ThreadPool, spawn};

use super::{SHORT, busy};
use crate::support::{EVERYWHERE, count, deadline, eventually};

#[test]
fn map_and_imap_give_results_in_order() {
    let _deadline = deadline();
    for size in [1, 3, 10] {
        let pool = ThreadPool::new(size);
        for from in EVERYWHERE {
            let theirs = pool.clone();
            from.run(move || {
                let square = |n: u64| n * n;
                let expected: Vec<_> = (0..100).map(square).collect();
                assert_eq!(theirs.map(square, 0..100).unwrap(), expected);
                assert_eq!(theirs.map(square, []).unwrap(), []);
                for maxsize in [0, 1, 5] {
                    let ordered = theirs.imap(square, 0..100, maxsize);
                    assert!(ordered.map(Result::unwrap).eq(expected.iter().copied()));
                    let unordered = theirs.imap_unordered(square, 0..100, maxsize);
                    let mut unordered: Vec<_> = unordered.map(Result::unwrap).collect();
                    unordered.sort_unstable();
                    assert_eq!(unordered, expected);
                }
            });
        }
    }
}

#[test]
fn errors_come_at_their_items() {
    let _deadline = deadline();
    let pool = ThreadPool::new(3);
    let half = |n: u32| 100 / n;
    assert!(pool.map(half, [1, 0, 2]).unwrap_err().is_panic());
    let mut results = pool.imap(half, [1, 0, 2], 0);
    assert_eq!(results.next().unwrap().unwrap(), 100);
    assert!(results.next().unwrap().unwrap_err().is_panic());
    assert_eq!(results.next().unwrap().unwrap(), 50);
    assert!(results.next().is_none());
    let failing = (0..5).inspect(|&n| assert!(n < 2, "expected: the iterator"));
    let last = pool.imap_unordered(|n| n, failing, 0).last().unwrap();
    assert!(matches!(last, Err(ThreadError::Feeder(_))));
}

#[test]
fn dropping_an_imap_gives_up_what_has_not_begun() {
    let _deadline = deadline();
    let pool = ThreadPool::new(1);
    let (end, _job) = busy(&pool);
    let ran = Arc::new(AtomicUsize::new(0));
    let theirs = Arc::clone(&ran);
    let results = pool.imap(move |_: u32| theirs.fetch_add(1, Ordering::SeqCst), 0.., 0);
    eventually("the feeder waits", || count(&pool, "spawners") == 1);
    drop(results);
    eventually("they are gone", || pool.len() == 1);
    drop(end);
    assert!(pool.join(None));
    assert_eq!(ran.load(Ordering::SeqCst), 0);
}

#[test]
fn a_map_ends_when_its_pool_is_killed() {
    let _deadline = deadline();
    let pool = ThreadPool::new(1);
    let (end, _job) = busy(&pool);
    let theirs = pool.clone();
    let map = spawn(move || theirs.map(|n| n, 0..10));
    eventually("it waits", || count(&pool, "spawners") == 1);
    assert!(!pool.kill_timeout(SHORT));
    drop(end);
    assert!(map.join().unwrap().unwrap_err().is_cancelled());
    pool.kill();
}
