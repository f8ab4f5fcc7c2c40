//! [`Channel`].

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use greenwood_runtime::{Channel, GetError, PutError, getcurrent, sleep, spawn, with_timeout};

use crate::support::{EVERYWHERE, any_hub, deadline, eventually, spawn_on};

#[test]
fn channel_holds_nothing() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let channel = Channel::new();
            let brief = Duration::from_millis(2);
            assert_eq!(channel.put_nowait(1), Err(PutError::Full(1)));
            assert_eq!(channel.put_timeout(1, brief), Err(PutError::Full(1)));
            assert_eq!(channel.get_nowait(), Err(GetError::Empty));
            assert_eq!(channel.get_timeout(brief), Err(GetError::Empty));
            assert!(with_timeout(brief, || channel.put(1)).is_err());
            assert_eq!(channel.get_timeout(brief), Err(GetError::Empty));
            assert_eq!(channel.balance(), 0);
        });
    }
}

#[test]
fn put_returns_when_the_item_has_been_taken() {
    let _deadline = deadline();
    for putter in EVERYWHERE {
        for getter in EVERYWHERE {
            let channel = Arc::new(Channel::new());
            let returned = Arc::new(AtomicBool::new(false));
            let (theirs, told) = (Arc::clone(&channel), Arc::clone(&returned));
            let put = putter.start(move || {
                theirs.put(1).unwrap();
                told.store(true, Ordering::SeqCst);
            });
            eventually("it waits", || channel.balance() == 1);
            assert!(!returned.load(Ordering::SeqCst));
            let theirs = Arc::clone(&channel);
            assert_eq!(getter.run(move || theirs.get()), Ok(1));
            put();
            assert!(returned.load(Ordering::SeqCst));
        }
    }
}

#[test]
fn who_has_waited_goes_on_before_who_puts() {
    let _deadline = deadline();
    // Both sides in turn are the first to come.
    let order = spawn_on(0, || {
        let (channel, order) = (Arc::new(Channel::new()), Arc::new(Mutex::new(Vec::new())));
        let (theirs, note) = (Arc::clone(&channel), Arc::clone(&order));
        let putter = spawn(move || {
            let note = |what| note.lock().unwrap().push(what);
            for (before, item) in [("puts 1", "1"), ("puts 2", "2")] {
                note(before);
                theirs.put(item).unwrap();
            }
            note("has put 2");
        });
        let note = |what| order.lock().unwrap().push(what);
        note("gets");
        note(channel.get().unwrap());
        note(channel.get().unwrap());
        putter.join().unwrap();
        order.lock().unwrap().clone()
    });
    assert_eq!(
        order.join().unwrap(),
        ["gets", "puts 1", "1", "puts 2", "2", "has put 2"]
    );
    let order = spawn_on(0, || {
        let (channel, order) = (Arc::new(Channel::new()), Arc::new(Mutex::new(Vec::new())));
        let (theirs, note) = (Arc::clone(&channel), Arc::clone(&order));
        let getter = spawn(move || {
            for item in &*theirs {
                note.lock().unwrap().push(item);
            }
        });
        let note = |what| order.lock().unwrap().push(what);
        for (item, after) in [("1", "has put 1"), ("2", "has put 2")] {
            channel.put(item).unwrap();
            note(after);
        }
        channel.shutdown();
        getter.join().unwrap();
        order.lock().unwrap().clone()
    });
    assert_eq!(order.join().unwrap(), ["1", "has put 1", "2", "has put 2"]);
}

#[test]
fn put_that_has_been_taken_returns_though_a_kill_comes_meanwhile() {
    let _deadline = deadline();
    let put = spawn_on(0, || {
        let channel = Arc::new(Channel::new());
        let theirs = Arc::clone(&channel);
        let me = getcurrent().unwrap();
        let getter = spawn(move || {
            let item = theirs.get();
            me.kill_nowait();
            item
        });
        eventually("it waits", || channel.balance() == -1);
        let put = catch_unwind(AssertUnwindSafe(|| channel.put(1)));
        assert!(catch_unwind(|| sleep(Duration::ZERO)).is_err());
        assert!(getter.ready());
        put.is_ok_and(|put| put.is_ok())
    });
    assert!(put.join().unwrap());
}

#[test]
fn nowait_calls_serve_those_who_wait() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        let channel = Arc::new(Channel::new());
        let theirs = Arc::clone(&channel);
        let get = from.start(move || theirs.get());
        eventually("it waits", || channel.balance() == -1);
        assert_eq!(channel.put_nowait(1), Ok(()));
        assert_eq!(get(), Ok(1));
        let theirs = Arc::clone(&channel);
        let put = from.start(move || theirs.put(2));
        eventually("it waits", || channel.balance() == 1);
        assert_eq!(channel.get_nowait(), Ok(2));
        assert_eq!(put(), Ok(()));
    }
}

#[test]
fn both_sides_are_served_in_the_order_in_which_they_came() {
    let _deadline = deadline();
    let channel = Arc::new(Channel::new());
    let putters: Vec<_> = (0..12)
        .map(|i| {
            let theirs = Arc::clone(&channel);
            let putter = EVERYWHERE[i % 3].start(move || theirs.put(i));
            eventually("it waits", || channel.balance() == i as isize + 1);
            putter
        })
        .collect();
    assert!((0..12).all(|i| channel.get() == Ok(i)));
    assert!(putters.into_iter().all(|putter| putter().is_ok()));
    let getters: Vec<_> = (0..12)
        .map(|i| {
            let theirs = Arc::clone(&channel);
            let getter = EVERYWHERE[i % 3].start(move || theirs.get());
            eventually("it waits", || channel.balance() == -(i as isize + 1));
            getter
        })
        .collect();
    (0..12).for_each(|i| channel.put(i).unwrap());
    for (i, getter) in getters.into_iter().enumerate() {
        assert_eq!(getter(), Ok(i));
    }
}

#[test]
fn item_of_a_killed_putter_is_never_delivered() {
    let _deadline = deadline();
    let channel = Arc::new(Channel::new());
    let putters: Vec<_> = (0..3)
        .map(|i| {
            let theirs = Arc::clone(&channel);
            let putter = spawn_on(any_hub(i), move || theirs.put(i));
            eventually("it waits", || channel.balance() == i as isize + 1);
            putter
        })
        .collect();
    putters[1].kill();
    assert_eq!((channel.get(), channel.get()), (Ok(0), Ok(2)));
    assert_eq!(channel.get_nowait(), Err(GetError::Empty));
}
