//! Everything that can be done to one greenlet, at the same time, from hubs and threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use greenwood_runtime::{
    Builder, CountDownLatch, Greenlet, Waitable, iwait, joinall, sleep, with_timeout,
};

use crate::support::{EVERYWHERE, OnDrop, any_hub, deadline, eventually};

const ROUNDS: usize = 900;
const BRIEF: Duration = Duration::from_micros(10);

/// What is counted of all greenlets.
#[derive(Default)]
struct Counts {
    /// Links made, less those taken back, less those called.
    links: AtomicUsize,
    closures: AtomicUsize,
}

fn link(greenlet: &Greenlet<u8>, counts: &Arc<Counts>, kind: usize) {
    counts.links.fetch_add(1, Ordering::SeqCst);
    let theirs = Arc::clone(counts);
    let called = move || {
        theirs.links.fetch_sub(1, Ordering::SeqCst);
    };
    let link = match kind % 2 {
        0 => greenlet.rawlink(move |_| called()),
        _ => greenlet.link(move |_| called()),
    };
    if kind.is_multiple_of(3) && greenlet.unlink(link) {
        counts.links.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What the `actor`-th does to the greenlet.
fn act(greenlet: &Greenlet<u8>, counts: &Arc<Counts>, actor: usize, round: usize) {
    match (round / 3 + actor * 5) % 8 {
        0 => greenlet.start().unwrap(),
        1 => greenlet.start_later(BRIEF).unwrap(),
        2 => greenlet.kill_nowait(),
        3 => greenlet.throw(String::from("thrown")),
        4 => assert!(!greenlet.join_timeout(BRIEF) || greenlet.dead()),
        5 => assert!(with_timeout(BRIEF, || greenlet.get().is_ok()).is_err() || greenlet.dead()),
        6 => {
            let ready = iwait(&[greenlet as &dyn Waitable], Some(BRIEF)).next();
            assert!(ready.is_none() || greenlet.dead());
        }
        _ => {}
    }
    link(greenlet, counts, round + actor);
}

#[test]
fn every_greenlet_ends_once_and_each_of_its_links_is_called_once() {
    let _deadline = deadline();
    let counts = Arc::new(Counts::default());
    let unstarted = |round| {
        let counts = Arc::clone(&counts);
        let closure = OnDrop(move || {
            counts.closures.fetch_add(1, Ordering::SeqCst);
        });
        let builder = Builder::new().hub(any_hub(round));
        let greenlet = builder.unstarted(move || {
            let _closure = closure;
            if round % 2 == 0 {
                sleep(BRIEF);
            }
            // Some fail.
            u8::try_from(round % 260).unwrap_or_else(|error| std::panic::panic_any(error))
        });
        greenlet.unwrap()
    };
    let greenlets: Arc<Vec<_>> = Arc::new((0..ROUNDS).map(unstarted).collect());
    let (begun, go) = (Arc::new(CountDownLatch::new(3)), CountDownLatch::new(1));
    let go = Arc::new(go);
    let actors: Vec<_> = EVERYWHERE
        .into_iter()
        .enumerate()
        .map(|(actor, from)| {
            let (greenlets, counts) = (Arc::clone(&greenlets), Arc::clone(&counts));
            let (begun, go) = (Arc::clone(&begun), Arc::clone(&go));
            from.start(move || {
                begun.count_down();
                go.wait();
                for (round, greenlet) in greenlets.iter().enumerate() {
                    act(greenlet, &counts, actor, round);
                }
            })
        })
        .collect();
    begun.wait();
    go.count_down();
    actors.into_iter().for_each(|actor| actor());
    // Those that nobody has started or killed.
    greenlets.iter().for_each(|it| it.start().unwrap());
    assert!(joinall(greenlets.iter(), None));
    assert!(greenlets.iter().all(|it| it.dead() && !it.started()));
    assert_eq!(counts.closures.load(Ordering::SeqCst), ROUNDS);
    eventually("late links are called", || {
        counts.links.load(Ordering::SeqCst) == 0 && greenlets.iter().all(|it| it.links() == 0)
    });
}
