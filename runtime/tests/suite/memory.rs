//! Stacks and what they cost: trimming, and leaks.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use greenwood_runtime::{
    AsyncResult, Builder, Event, Hub, Queue, iwait, joinall, killall, scope, sleep, spawn,
    trim_stack, wait, with_timeout,
};

use crate::support::{any_hub, case, child_with_hubs, deadline, deadline_of, eventually, spawn_on};

/// The resident memory of the process in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

#[inline(never)]
fn use_stack() -> u8 {
    let mut used = [1_u8; 40 * 1024];
    black_box(&mut used)[4_711]
}

#[inline(never)]
fn use_nearly_all() -> u8 {
    let mut used = [1_u8; 100 * 1024];
    black_box(&mut used)[4_711]
}

#[test]
fn trimmed_stack_keeps_its_live_frames() {
    fn deep(level: usize) -> usize {
        let frame = black_box([level as u8; 3_000]);
        use_stack();
        trim_stack();
        let below = if level == 0 { 0 } else { deep(level - 1) };
        sleep(Duration::ZERO);
        trim_stack();
        assert!(black_box(frame).iter().all(|&byte| byte == level as u8));
        below + 1
    }
    let _deadline = deadline();
    let greenlets: Vec<_> = (0..20).map(|i| spawn_on(any_hub(i), || deep(15))).collect();
    for greenlet in greenlets {
        assert_eq!(greenlet.join().unwrap(), 16);
    }
    trim_stack();
}

/// The words by which `generator` tells a stack that was used up are gone after a trim: the end
/// puts them back.
#[test]
fn greenlets_end_cleanly_after_a_trim() {
    let _deadline = deadline();
    for size in [None, Some(16 * 1024), Some(256 * 1024), Some(1 << 20)] {
        for round in 0..200 {
            let mut builder = Builder::new().hub(any_hub(round));
            if let Some(size) = size {
                builder = builder.stack_size(size);
            }
            let greenlet = builder.spawn(move || {
                if size.is_none() {
                    use_nearly_all();
                }
                trim_stack();
                if round % 3 == 0 {
                    std::panic::resume_unwind(Box::new(1));
                }
                sleep(Duration::ZERO);
            });
            assert_eq!(greenlet.unwrap().join().is_err(), round % 3 == 0);
        }
    }
}

#[test]
fn parked_greenlets_take_two_pages_after_a_trim() {
    let _deadline = deadline_of(Duration::from_secs(60));
    if case().is_none() {
        for hubs in [1, 2] {
            let test = "memory::parked_greenlets_take_two_pages_after_a_trim";
            child_with_hubs(test, "x", hubs).passed();
        }
        return;
    }
    let count = 1_000;
    let park = || {
        let before = resident();
        let go = Arc::new(Event::new());
        let parked = Arc::new(AtomicUsize::new(0));
        let greenlets: Vec<_> = (0..count)
            .map(|i| {
                let (go, parked) = (Arc::clone(&go), Arc::clone(&parked));
                // A size of its own, so that no stack is one that was used before.
                let builder = Builder::new().hub(any_hub(i)).stack_size(252 * 1024);
                let greenlet = builder.spawn(move || {
                    use_stack();
                    trim_stack();
                    parked.fetch_add(1, Ordering::SeqCst);
                    go.wait();
                });
                greenlet.unwrap()
            })
            .collect();
        eventually("all are parked", || parked.load(Ordering::SeqCst) == count);
        let each = resident().saturating_sub(before) / count;
        go.set();
        assert!(joinall(&greenlets, None));
        each
    };
    park();
    let each = park();
    assert!(each < 12 * 1024, "{each}");
}

/// Rounds of everything that allocates: the memory of the process stays where it is.
#[test]
fn rounds_of_everything_leak_nothing() {
    let _deadline = deadline_of(Duration::from_secs(120));
    if case().is_none() {
        for hubs in [1, 2] {
            child_with_hubs("memory::rounds_of_everything_leak_nothing", "x", hubs).passed();
        }
        return;
    }
    let event = Arc::new(Event::new());
    let queue = Arc::new(Queue::<Vec<u8>>::new(2));
    let round = || {
        let mut greenlets = Vec::new();
        for i in 0..300 {
            let (event, queue) = (Arc::clone(&event), Arc::clone(&queue));
            greenlets.push(spawn_on(any_hub(i), move || match i % 8 {
                0 => sleep(Duration::from_secs(3_600)),
                1 => {
                    event.wait();
                }
                2 => drop(queue.put(vec![0; 1_000])),
                3 => drop(with_timeout(Duration::from_micros(50), || queue.get())),
                4 => {
                    event.wait_timeout(Duration::from_micros(50));
                }
                5 => drop(spawn(|| vec![0; 1_000])),
                6 => {
                    let lent = vec![0; 1_000];
                    scope(|s| {
                        drop(s.spawn(|| queue.put(lent.clone())));
                        s.spawn(|| iwait(&[&*event], None).next());
                    });
                }
                _ => {
                    let result = Arc::new(AsyncResult::new());
                    let greenlet = spawn(|| vec![0; 1_000]);
                    greenlet.link(result.setter());
                    greenlet.minimal_ident();
                    drop(wait(&[&*event, &*result, &greenlet], None, None));
                }
            }));
            let greenlet = &greenlets[greenlets.len() - 1];
            greenlet.link_exception(drop);
            let kept = greenlet.rawlink(drop);
            match i % 3 {
                0 => greenlet.throw(vec![0; 1_000]),
                1 => drop(greenlet.unlink(kept)),
                _ => {}
            }
            let builder = Builder::new().name(format!("later {i}")).hub(any_hub(i));
            let later = builder.spawn_later(Duration::from_secs(3_600), || ());
            greenlets.push(later.unwrap());
        }
        assert!(killall(&greenlets, None));
        while queue.get_nowait().is_ok() {}
    };
    let rounds = || {
        for _ in 0..50 {
            round();
        }
        eventually("none is left", || Hub::greenlets() == 0);
        resident()
    };
    // 30,000 greenlets: a leak of 100 bytes each would be 3 MB every time. Where they are held up,
    // more than ever may live at once, and leave room that is not given back.
    let mut before = rounds();
    let (mut growths, mut calm) = (Vec::new(), 0);
    while calm < 3 && growths.len() < 12 {
        let after = rounds();
        growths.push(after.saturating_sub(before));
        calm += usize::from(growths[growths.len() - 1] < 1 << 20);
        before = after;
    }
    assert!(calm >= 3, "{growths:?}");
}
