//! Who runs and who waits: `run_info`, `kill_greenlet`.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use greenwood_runtime::net::{TcpListener, TcpStream};
use greenwood_runtime::{
    Builder, Event, GreenletInfo, Hub, Queue, State, WaitsFor, iwait, kill_greenlet,
    print_run_info, run_info, sleep, spawn, spawn_later,
};

use crate::support::{
    EVERYWHERE, any_hub, case, child_with_hubs, deadline, eventually, run_info_of_all, spawn_on,
    until_waits_for,
};

const LONG: Duration = Duration::from_secs(1_000);

#[track_caller]
fn find(id: u64) -> Option<GreenletInfo> {
    let all = run_info_of_all().greenlets;
    all.into_iter().find(|it| it.id == id)
}

/// Waits until the greenlet waits for that.
#[track_caller]
fn eventually_waits_for(id: u64, expected: WaitsFor) -> GreenletInfo {
    until_waits_for(id, expected);
    find(id).unwrap()
}

#[test]
fn what_a_greenlet_waits_for_is_told() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let hub = Hub::count() - 1;
            let event = Arc::new(Event::new());
            let queue = Arc::new(Queue::<()>::new(0));
            let theirs = Arc::clone(&event);
            let for_event = spawn_on(hub, move || theirs.wait());
            let theirs = Arc::clone(&queue);
            let for_queue = spawn_on(hub, move || theirs.get());
            let for_sleep = spawn_on(hub, || sleep(LONG));
            let theirs = Arc::clone(&event);
            let for_several = spawn_on(hub, move || iwait(&[&*theirs], None).next());
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let for_input = spawn_on(hub, move || drop(listener.accept()));

            let info = eventually_waits_for(for_event.id(), WaitsFor::Event);
            assert_eq!((info.hub, &*info.name), (hub, for_event.name()));
            assert!(!info.killed);
            assert!(matches!(
                info.state,
                State::Waiting {
                    descriptor: None,
                    left: None,
                    ..
                }
            ));
            eventually_waits_for(for_queue.id(), WaitsFor::Queue);
            eventually_waits_for(for_several.id(), WaitsFor::Several);
            let info = eventually_waits_for(for_sleep.id(), WaitsFor::Sleep);
            assert!(matches!(
                info.state,
                State::Waiting { left: Some(left), .. } if left <= LONG && left > LONG / 2
            ));
            let info = eventually_waits_for(for_input.id(), WaitsFor::Read);
            assert!(
                info.to_string().contains("waits for input of descriptor"),
                "{info}"
            );

            let joiner = spawn_on(hub, move || for_event.join().is_ok());
            eventually_waits_for(joiner.id(), WaitsFor::Greenlet);

            event.set();
            queue.put(()).unwrap();
            TcpStream::connect(address).unwrap();
            for_sleep.kill();
            joiner.join().unwrap();
            for_queue.join().unwrap().unwrap();
            for_several.join().unwrap();
            for_input.join().unwrap();
        });
    }
}

#[test]
fn who_asks_runs_and_who_is_to_begin_is_told() {
    let _deadline = deadline();
    let later = spawn_later(LONG, || ());
    spawn(move || {
        let me = greenwood_runtime::current_id().unwrap();
        assert_eq!(find(me).unwrap().state, State::Running);
    })
    .join()
    .unwrap();
    eventually("it is known", || find(later.id()).is_some());
    let info = find(later.id()).unwrap();
    assert!(matches!(info.state, State::Scheduled { left } if left > LONG / 2));
    later.kill();
    assert!(find(later.id()).is_none());
}

#[test]
fn who_spawned_whom_and_where_is_told() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        let release = Arc::new(Event::new());
        let theirs = Arc::clone(&release);
        let (parent, child) = from.run(move || {
            let ids = Arc::new(Queue::new(0));
            let told = Arc::clone(&ids);
            let parent = spawn(move || {
                let gate = Arc::clone(&theirs);
                let child = spawn(move || gate.wait());
                told.put(child.id()).unwrap();
                theirs.wait();
                child.join().unwrap()
            });
            (parent, ids.get().unwrap())
        });
        let info = run_info_of_all();
        let tree = info.tree();
        let place = |id| tree.iter().position(|(_, it)| it.id == id).unwrap();
        let ((depth, of_parent), (below, of_child)) =
            (tree[place(parent.id())], tree[place(child)]);
        assert_eq!(below, depth + 1);
        assert_eq!(of_child.parent, Some(parent.id()));
        assert!(of_parent.spawned_at.file().ends_with("run_info.rs"));
        assert_eq!(of_child.spawned_at.line(), of_parent.spawned_at.line() + 2);
        release.set();
        assert!(parent.join().unwrap());
    }
}

#[test]
fn how_long_it_has_waited_is_told() {
    let _deadline = deadline();
    let waiting = spawn(|| sleep(LONG));
    let since = |id| match find(id).map(|info| info.state) {
        Some(State::Waiting { since, .. }) => Some(since),
        _ => None,
    };
    let long = |since| since >= Duration::from_millis(100);
    eventually("it waits", || since(waiting.id()).is_some_and(long));
    // A wait that has just begun.
    let waking = spawn(|| {
        loop {
            sleep(Duration::from_millis(1));
        }
    });
    eventually("it begins to wait again and again", || {
        since(waking.id()).is_some_and(|since| !long(since))
    });
    assert!(since(waiting.id()).is_some_and(long));
    waiting.kill();
    waking.kill();
}

#[test]
fn greenlets_are_killed_by_their_numbers() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            // Not at the first try if the machine holds up its hub.
            let kill = |id| eventually("it is found", || kill_greenlet(id));
            let waiting = spawn(|| sleep(LONG));
            kill(waiting.id());
            assert!(waiting.join().is_err());
            let ran = Arc::new(AtomicBool::new(false));
            let flag = Arc::clone(&ran);
            let later = spawn_later(LONG, move || flag.store(true, Ordering::SeqCst));
            let id = later.id();
            kill(id);
            assert!(later.join().is_err());
            assert!(!ran.load(Ordering::SeqCst));
            assert!(!kill_greenlet(id));
            assert!(!kill_greenlet(u64::MAX));
        });
    }
}

#[test]
fn the_list_is_whole_while_greenlets_come_and_go() {
    let _deadline = deadline();
    let stop = Arc::new(AtomicBool::new(false));
    let lasting: Vec<_> = (0..200)
        .map(|i| {
            let builder = Builder::new().name(format!("lasting {i}")).hub(any_hub(i));
            builder.spawn(|| sleep(LONG)).unwrap()
        })
        .collect();
    let ids: HashSet<u64> = lasting.iter().map(|greenlet| greenlet.id()).collect();
    let churn: Vec<_> = (0..2 * Hub::count())
        .map(|i| {
            let stop = Arc::clone(&stop);
            spawn_on(any_hub(i), move || {
                while !stop.load(Ordering::Relaxed) {
                    let greenlets: Vec<_> = (0..30)
                        .map(|i| spawn(move || sleep(Duration::from_micros(i % 3 * 100))))
                        .collect();
                    greenlets
                        .into_iter()
                        .skip(3)
                        .for_each(|greenlet| greenlet.join().unwrap());
                }
            })
        })
        .collect();
    for _ in 0..100 {
        let info = run_info_of_all();
        assert!(info.greenlets.is_sorted_by(|a, b| a.id < b.id));
        let seen = info.greenlets.iter().filter(|it| ids.contains(&it.id));
        assert_eq!(seen.clone().count(), 200);
        assert!(seen.clone().all(|it| it.name.starts_with("lasting ")));
        assert_eq!(info.tree().len(), info.greenlets.len());
    }
    stop.store(true, Ordering::Relaxed);
    churn
        .into_iter()
        .for_each(|greenlet| greenlet.join().unwrap());
    lasting.iter().for_each(|greenlet| greenlet.kill());
    let left = run_info_of_all().greenlets;
    assert!(left.iter().all(|it| !ids.contains(&it.id)));
}

#[test]
fn a_hub_that_is_blocked_is_said_to_be() {
    const NAME: &str = "run_info::a_hub_that_is_blocked_is_said_to_be";
    let _deadline = deadline();
    if case().is_none() {
        let waits = "\"on hub 0\" on hub 0, waits for the end of a sleep since";
        let (mut child, mut tries) = (child_with_hubs(NAME, "alone", 2), 1);
        // The machine may hold up the other hub as well, as it prints.
        while child.status.success() && !child.stderr.contains(waits) && tries < 10 {
            (child, tries) = (child_with_hubs(NAME, "alone", 2), tries + 1);
        }
        child.passed();
        child.said("does not answer: it is blocked");
        child.said(waits);
        return;
    }
    let release = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&release);
    let blocking = spawn_on(1, move || {
        while !flag.load(Ordering::Relaxed) {
            std::hint::spin_loop();
        }
    });
    let waiting = Builder::new()
        .name("on hub 0")
        .hub(0)
        .spawn(|| sleep(LONG))
        .unwrap();
    eventually("it runs", || Hub::stats()[1].running == Some(blocking.id()));
    eventually("it waits", || Hub::stats()[0].timers > 0);
    eventually("one hub answers", || {
        let hubs = run_info().hubs;
        assert!(!hubs[1].answers);
        hubs[0].answers
    });
    print_run_info();
    assert!(!kill_greenlet(blocking.id()));
    release.store(true, Ordering::Relaxed);
    // It was asked for, and its hub knows by now.
    assert!(blocking.join().is_ok());
    waiting.kill();
}

#[test]
fn the_hubs_count_what_they_do() {
    const NAME: &str = "run_info::the_hubs_count_what_they_do";
    if case().is_none() {
        for hubs in [1, 2] {
            child_with_hubs(NAME, "alone", hubs).passed();
        }
        return;
    }
    let _deadline = deadline();
    let stats = || Hub::stats().swap_remove(0);
    assert_eq!((stats().greenlets, stats().spawned), (0, 0));
    spawn_on(0, || (0..1_000).for_each(|_| sleep(Duration::ZERO)))
        .join()
        .unwrap();
    let after = stats();
    assert_eq!(after.spawned, 1);
    // On a slow machine each sleep may let the others have their turn before it begins.
    assert!((1_001..2_002).contains(&after.switches), "{after}");
    assert!(after.polls > 0);

    let sleepers: Vec<_> = (0..50).map(|_| spawn_on(0, || sleep(LONG))).collect();
    let later = Builder::new().hub(0).spawn_later(LONG, || ()).unwrap();
    eventually("all sleep", || stats().timers == 51);
    assert_eq!((stats().greenlets, stats().starting), (50, 0));
    sleepers.iter().for_each(|greenlet| greenlet.kill());
    later.kill();
    eventually("all have ended", || {
        (stats().greenlets, stats().timers) == (0, 0)
    });
    assert_eq!(stats().spawned, 52);

    // A timer that has to wait for a greenlet that computes.
    let release = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&release);
    let late = spawn_on(0, || sleep(Duration::from_millis(1)));
    eventually("it sleeps", || stats().timers == 1 || stats().spawned == 53);
    let blocking = spawn_on(0, move || {
        while !flag.load(Ordering::Relaxed) {
            std::hint::spin_loop();
        }
    });
    eventually("it runs", || stats().running == Some(blocking.id()));
    let quick = spawn_on(0, || ());
    assert_eq!(stats().inbox, 1);
    let second = Instant::now();
    eventually("time passes", || {
        second.elapsed() > Duration::from_millis(50)
    });
    release.store(true, Ordering::Relaxed);
    blocking.join().unwrap();
    quick.join().unwrap();
    late.join().unwrap();
    spawn_on(0, || sleep(Duration::from_millis(1)))
        .join()
        .unwrap();
    // Its end is told before it is off the hub.
    eventually("nobody runs", || stats().running.is_none());
    let after = stats();
    assert_eq!((after.inbox, after.ready), (0, 0));
    assert!(
        after.latency <= after.max_latency && !after.max_latency.is_zero(),
        "{after}"
    );
    after.trace();
}
