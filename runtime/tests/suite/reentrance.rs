//! A user's code that calls back: links, destructors, `Clone` and `Ord` that use what calls them,
//! block, or panic.

use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use greenwood_runtime::{
    Builder, Event, Greenlet, Group, LifoQueue, Link, Pool, PriorityQueue, Queue, SimpleQueue,
    sleep, spawn,
};

use crate::support::{EVERYWHERE, OnDrop, any_hub, count, deadline, eventually, spawn_on};

const LONG: Duration = Duration::from_secs(600);

#[test]
fn links_may_link_and_unlink_and_drop_the_last_handle() {
    let _deadline = deadline();
    for hub in 0..2 {
        let called = Arc::new(Mutex::new(Vec::new()));
        let note = |what: &'static str| {
            let called = Arc::clone(&called);
            move || called.lock().unwrap().push(what)
        };
        let handle: Arc<Mutex<Option<Arc<Greenlet<u8>>>>> = Arc::default();
        let unlinks: Arc<OnceLock<Link>> = Arc::default();
        let go = Arc::new(Event::new());
        let told = Arc::clone(&go);
        let greenlet = Arc::new(spawn_on(any_hub(hub), move || {
            told.wait();
            1
        }));
        let over = Arc::new(Event::new());
        let (theirs, other, first, late, end) = (
            Arc::clone(&handle),
            Arc::clone(&unlinks),
            note("first"),
            note("late"),
            Arc::clone(&over),
        );
        greenlet.link(move |_| {
            first();
            // The last handle goes at the end of this.
            let greenlet = theirs.lock().unwrap().take().unwrap();
            assert!(greenlet.unlink(*other.get().unwrap()));
            greenlet.rawlink(move |_| {
                late();
                end.set();
            });
            let last = greenlet.link_value(|_| panic!("taken back at once"));
            assert!(greenlet.unlink(last));
        });
        unlinks
            .set(greenlet.link(|_| panic!("taken back")))
            .unwrap();
        greenlet.rawlink({
            let second = note("second");
            move |_| second()
        });
        *handle.lock().unwrap() = Some(greenlet);
        go.set();
        assert!(over.wait());
        assert_eq!(*called.lock().unwrap(), ["first", "second", "late"]);
    }
}

/// Its copies may panic, block, or take links back.
struct Copied(Arc<dyn Fn() + Send + Sync>);

impl Clone for Copied {
    fn clone(&self) -> Copied {
        (self.0)();
        Copied(Arc::clone(&self.0))
    }
}

#[test]
fn copies_for_links_may_block_and_panic_and_unlink() {
    let _deadline = deadline();
    let handle: Arc<OnceLock<Weak<Greenlet<Copied>>>> = Arc::default();
    let (theirs, copies) = (Arc::clone(&handle), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&copies);
    let links: Arc<OnceLock<[Link; 2]>> = Arc::default();
    let unlinks = Arc::clone(&links);
    let copied = move || {
        sleep(Duration::from_millis(1));
        let greenlet = theirs.get().unwrap().upgrade().unwrap();
        match counted.fetch_add(1, Ordering::SeqCst) {
            // While it is its own turn, and that of one behind it.
            0 => {
                for link in unlinks.get().unwrap() {
                    assert!(greenlet.unlink(*link));
                }
            }
            1 => panic!("no copy"),
            _ => {}
        }
    };
    let greenlet = Arc::new(Greenlet::new(move || Copied(Arc::new(copied))));
    handle.set(Arc::downgrade(&greenlet)).unwrap();
    let (called, count) = (Arc::new(AtomicUsize::new(0)), &|| panic!("taken back"));
    let taken_back = [greenlet.link(|_| count()), greenlet.link(|_| count())];
    links.set(taken_back).unwrap();
    greenlet.link_value(|_| panic!("its copy panics"));
    let theirs = Arc::clone(&called);
    greenlet.link_value(move |_| {
        theirs.fetch_add(1, Ordering::SeqCst);
    });
    greenlet.start().unwrap();
    assert!(greenlet.get().is_ok());
    assert_eq!(called.load(Ordering::SeqCst), 1);
    assert_eq!(copies.load(Ordering::SeqCst), 3);
    assert_eq!(greenlet.links(), 0);
}

/// Puts itself back into its queue, once.
struct Returns<Q: Put>(Weak<Q>, bool);

trait Put: Sized {
    fn put_back(&self, item: Returns<Self>);
}

impl<Q: Put> Drop for Returns<Q> {
    fn drop(&mut self) {
        sleep(Duration::from_micros(10));
        if let Some(queue) = self.0.upgrade()
            && !self.1
        {
            queue.put_back(Returns(self.0.clone(), true));
        }
    }
}

macro_rules! items_may_use_their_queue {
    ($($test:ident: $kind:ident),+ $(,)?) => {$(
        #[test]
        fn $test() {
            struct Own($kind<Returns<Own>>);
            impl Put for Own {
                fn put_back(&self, item: Returns<Own>) {
                    if let Err(refused) = self.0.put_nowait(item) {
                        drop(refused);
                    }
                }
            }
            let _deadline = deadline();
            for from in EVERYWHERE {
                from.run(|| {
                    let queue = Arc::new(Own($kind::new(2)));
                    let item = || Returns(Arc::downgrade(&queue), false);
                    // Dropped by who has got it, or has it back.
                    assert!(queue.0.put(item()).is_ok());
                    drop(queue.0.get());
                    assert_eq!(queue.0.len(), 1);
                    assert!(queue.0.put(item()).is_ok());
                    drop(queue.0.put_timeout(item(), Duration::from_millis(1)));
                    assert_eq!(queue.0.len(), 2);
                    // Dropped by the queue.
                    queue.0.shutdown(true);
                    assert_eq!(queue.0.len(), 0);
                });
            }
        }
    )+};
}

items_may_use_their_queue! {
    destructors_of_items_may_use_their_queue: Queue,
    destructors_of_items_may_use_their_simple_queue: SimpleQueue,
    destructors_of_items_may_use_their_lifo_queue: LifoQueue,
}

/// Comparing with 666 panics.
#[derive(Debug, PartialEq, Eq)]
struct Beast(u32);

impl Ord for Beast {
    fn cmp(&self, other: &Beast) -> std::cmp::Ordering {
        assert!(self.0 != 666 && other.0 != 666, "can't be compared");
        self.0.cmp(&other.0)
    }
}

impl PartialOrd for Beast {
    fn partial_cmp(&self, other: &Beast) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

#[test]
fn comparisons_that_panic_keep_nobody_waiting_at_a_priority_queue() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        // The one that can't be compared is alone, and others come behind it.
        let queue = Arc::new(PriorityQueue::with_items(3, [Beast(666)]));
        for number in [1, 2] {
            assert!(catch_unwind(AssertUnwindSafe(|| queue.put(Beast(number)))).is_err());
        }
        let putters: Vec<_> = (3..6)
            .map(|number| {
                let theirs = Arc::clone(&queue);
                from.start(move || theirs.put(Beast(number)))
            })
            .collect();
        eventually("they wait", || count(&*queue, "putters") == 3);
        let mut got = 0;
        while got < 6 {
            match catch_unwind(AssertUnwindSafe(|| {
                queue.get_timeout(Duration::from_secs(1))
            })) {
                Ok(Ok(_)) | Err(_) => got += 1,
                Ok(Err(_)) => break,
            }
        }
        putters.into_iter().for_each(|putter| putter().unwrap());
        assert!(queue.is_empty());
        queue.put(Beast(7)).unwrap();
        assert_eq!(queue.get(), Ok(Beast(7)));
    }
}

#[test]
fn payloads_may_use_their_greenlet_when_they_are_dropped() {
    struct Waits(Arc<OnceLock<Weak<Greenlet<()>>>>, Arc<AtomicUsize>);
    impl Drop for Waits {
        fn drop(&mut self) {
            if let Some(greenlet) = self.0.get().and_then(Weak::upgrade) {
                greenlet.kill_nowait();
                greenlet.throw(1);
                greenlet.join_timeout(Duration::from_millis(1));
            }
            self.1.fetch_add(1, Ordering::SeqCst);
        }
    }
    let _deadline = deadline();
    for from in EVERYWHERE {
        let (handle, drops) = (Arc::<OnceLock<_>>::default(), Arc::<AtomicUsize>::default());
        let (theirs, count) = (Arc::clone(&handle), Arc::clone(&drops));
        from.run(move || {
            let payload = || Waits(Arc::clone(&theirs), Arc::clone(&count));
            let greenlet = Arc::new(spawn(|| sleep(LONG)));
            theirs.set(Arc::downgrade(&greenlet)).unwrap();
            greenlet.throw(payload());
            // Too late, and dropped here.
            greenlet.throw(payload());
            greenlet.kill_with(payload());
            assert_eq!(count.load(Ordering::SeqCst), 2);
            drop(greenlet);
            let panics = payload();
            drop(spawn(move || panic_any(panics)));
        });
        eventually("all are dropped", || drops.load(Ordering::SeqCst) == 4);
    }
}

#[test]
fn what_a_map_owns_may_block_and_panic_as_it_is_dropped() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        let drops = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&drops);
        from.run(move || {
            let pool = Pool::new(2);
            let owned = || {
                let count = Arc::clone(&count);
                OnDrop(move || {
                    sleep(Duration::from_millis(1));
                    count.fetch_add(1, Ordering::SeqCst);
                    // In one that is killed it would end the process, as everywhere.
                    assert!(std::thread::panicking(), "a destructor");
                })
            };
            let (function, items) = (owned(), owned());
            let items = (0..).inspect(move |_| {
                let _ = &items;
            });
            let mut results = pool.imap(
                move |number: u32| {
                    let _ = &function;
                    number
                },
                items,
                3,
            );
            assert_eq!(results.next().unwrap().unwrap(), 0);
            drop(results);
            assert!(pool.join(None));
            assert_eq!(pool.map(|n: u32| n, 0..3).unwrap(), [0, 1, 2]);
        });
        eventually("both are dropped", || drops.load(Ordering::SeqCst) == 2);
    }
}

#[test]
fn a_member_may_drop_the_last_handle_of_its_group() {
    let _deadline = deadline();
    for hub in 0..2 {
        let group = Group::new();
        let (go, theirs) = (Arc::new(Event::new()), group.clone());
        let waits = Arc::clone(&go);
        let never = Greenlet::new(|| ());
        group.add(&never).unwrap();
        drop(never);
        let builder = Builder::new().hub(any_hub(hub));
        let member = group.spawn_with(builder, move || {
            waits.wait();
            drop(theirs);
            1
        });
        drop(group);
        go.set();
        assert_eq!(member.unwrap().join().unwrap(), 1);
    }
}
