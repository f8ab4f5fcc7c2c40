//! What a greenlet takes of the system while it waits: resident memory, stacks, mappings.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use greenwood_runtime::{Event, Greenlet, Hub, Queue, killall, sleep, spawn};

use crate::support::{any_hub, case, child_with_hubs, deadline_of, eventually, spawn_on};

const LIMIT: Duration = Duration::from_secs(60);

/// What a parked greenlet may take in bytes: 5 KiB, and something for what the allocator and the lists
/// of a process add that has just begun. Frames are larger in a build without optimizations, and may
/// reach further pages.
const EACH: usize = if cfg!(debug_assertions) {
    16 << 10
} else {
    (5 << 10) + 256
};

/// The resident memory of the process in bytes, without what is mapped from files: of the program
/// more and more is there as it is used.
fn resident() -> usize {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = rollup.lines().find(|line| line.starts_with("Anonymous:"));
    let kib = line.unwrap().split_whitespace().nth(1).unwrap();
    kib.parse::<usize>().unwrap() << 10
}

fn mappings() -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().count()
}

#[inline(never)]
fn use_stack() -> u8 {
    let mut used = [1_u8; 40 << 10];
    black_box(&mut used)[4_711]
}

/// What the parked greenlets wait for.
#[derive(Clone)]
struct Waits {
    event: Arc<Event>,
    queue: Arc<Queue<usize>>,
    parked: Arc<AtomicUsize>,
}

impl Waits {
    fn new() -> Waits {
        Waits {
            event: Arc::new(Event::new()),
            queue: Arc::new(Queue::new(0)),
            parked: Arc::default(),
        }
    }

    /// Waits in one of three ways.
    fn wait(&self, i: usize) {
        self.parked.fetch_add(1, Ordering::SeqCst);
        match i % 3 {
            0 => drop(self.event.wait()),
            1 => sleep(Duration::from_secs(3_600)),
            _ => drop(self.queue.get()),
        }
    }

    /// Starts so many that run `first` and wait; they are parked when this returns.
    fn park(&self, count: usize, first: fn()) -> Vec<Greenlet<()>> {
        let start = |i| {
            let waits = self.clone();
            spawn_on(any_hub(i), move || {
                first();
                waits.wait(i);
            })
        };
        let greenlets = (0..count).map(start).collect();
        eventually("all are parked", || {
            self.parked.load(Ordering::SeqCst) == count
        });
        greenlets
    }
}

/// Runs `test` once more in processes of its own, with 1 and 2 hubs.
fn in_children(test: &str) {
    for hubs in [1, 2] {
        child_with_hubs(test, "x", hubs).passed();
    }
}

#[test]
fn parked_greenlet_takes_a_page_and_its_own_data() {
    let _deadline = deadline_of(LIMIT);
    if case().is_none() {
        in_children("footprint::parked_greenlet_takes_a_page_and_its_own_data");
        return;
    }
    let count = 6_000;
    spawn(|| ()).join().unwrap();
    let before = resident();
    let greenlets = Waits::new().park(count, || ());
    let each = (resident() - before) / count;
    assert!(each <= EACH, "{each} bytes each");
    assert!(killall(&greenlets, None));
}

#[test]
fn greenlets_that_do_not_wait_share_a_stack() {
    let _deadline = deadline_of(LIMIT);
    if case().is_none() {
        in_children("footprint::greenlets_that_do_not_wait_share_a_stack");
        return;
    }
    let count = 10_000;
    let (before, most) = spawn_on(0, move || {
        let before = mappings();
        let greenlets: Vec<_> = (0..count).map(|i| spawn(move || i)).collect();
        // Those that have been spawned and have not had their turn have none.
        let most = mappings();
        for (i, greenlet) in greenlets.into_iter().enumerate() {
            assert_eq!(greenlet.join().unwrap(), i);
        }
        (before, most.max(mappings()))
    })
    .join()
    .unwrap();
    assert!(most < before + 100, "{before} mappings, then {most}");
    assert_eq!(Hub::greenlets(), 0);
}

#[test]
fn stack_of_one_who_waits_for_long_is_given_back() {
    let _deadline = deadline_of(LIMIT);
    if case().is_none() {
        in_children("footprint::stack_of_one_who_waits_for_long_is_given_back");
        return;
    }
    let count = 3_000;
    spawn(|| ()).join().unwrap();
    let before = resident();
    let each = || resident().saturating_sub(before) / count;
    let waits = Waits::new();
    let greenlets = waits.park(count, || {
        use_stack();
    });
    eventually("little of the stacks is left", || each() <= EACH);
    assert!(killall(&greenlets, None));
    eventually("none is left", || Hub::greenlets() == 0);
}

/// Goes down so many levels, calls `first`, and waits, twice.
fn wait_at(level: usize, waits: &Waits, first: fn()) {
    let frame = black_box([level as u8; 3_000]);
    if level > 0 {
        wait_at(level - 1, waits, first);
    } else {
        for _ in 0..2 {
            first();
            waits.parked.fetch_add(1, Ordering::SeqCst);
            waits.queue.get().unwrap();
        }
    }
    assert!(black_box(frame).iter().all(|&byte| byte == level as u8));
}

#[test]
fn stack_that_is_given_back_keeps_its_live_frames() {
    let _deadline = deadline_of(LIMIT);
    if case().is_none() {
        in_children("footprint::stack_that_is_given_back_keeps_its_live_frames");
        return;
    }
    let count = 320;
    spawn(|| ()).join().unwrap();
    // Has them wait twice, and calls `parked` each time.
    let wait_twice = |first: fn(), parked: &mut dyn FnMut()| {
        let waits = Waits::new();
        let start = |i| {
            let waits = waits.clone();
            spawn_on(any_hub(i), move || wait_at(i % 16, &waits, first))
        };
        let greenlets: Vec<_> = (0..count).map(start).collect();
        for round in 1..=2 {
            eventually("all are parked", || {
                waits.parked.load(Ordering::SeqCst) == round * count
            });
            parked();
            (0..count).for_each(|i| waits.queue.put(i).unwrap());
        }
        for greenlet in greenlets {
            greenlet.join().unwrap();
        }
    };
    // Those that use no more than they need take so much.
    let mut needed = 0;
    wait_twice(|| (), &mut || needed = resident());
    let use_more = || {
        use_stack();
    };
    wait_twice(use_more, &mut || {
        eventually("what is not needed is given back", || {
            resident() < needed + count * (20 << 10)
        });
    });
}

/// A hundred thousand, or as many as the system's limits allow: `limits.rs` has the refusal.
#[test]
fn a_hundred_thousand_wait_where_the_limits_allow_it() {
    let _deadline = deadline_of(LIMIT);
    if case().is_none() {
        let test = "footprint::a_hundred_thousand_wait_where_the_limits_allow_it";
        child_with_hubs(test, "x", 2).passed();
        return;
    }
    spawn(|| ()).join().unwrap();
    let count = (Hub::limits().greenlets - 500).min(100_000);
    let before = resident();
    let waits = Waits::new();
    let greenlets = waits.park(count, || ());
    assert_eq!(Hub::greenlets(), count);
    let each = (resident() - before) / count;
    assert!(each <= EACH, "{each} bytes each of {count}");
    assert!(killall(&greenlets, None));
    eventually("none is left", || Hub::greenlets() == 0);
}
