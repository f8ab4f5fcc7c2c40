//! The monitor: greenlets that hold their hub for too long. In processes of their own, as it watches
//! the whole process.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use greenwood_runtime::monitor::{self, Activity, Blocked};
use greenwood_runtime::{Builder, Hub, add_monitoring_function, sleep, spawn};

use crate::others::spin;
use crate::support::{
    OnDrop, any_hub, case, child, child_with_hubs, deadline, eventually, spawn_on,
};

const SOON: Duration = Duration::from_secs(20);
const LIMIT: Duration = Duration::from_millis(20);

fn reports() -> Receiver<Blocked> {
    let (sender, receiver) = channel();
    let sender = Mutex::new(sender);
    monitor::on_blocked(move |blocked| {
        sender.lock().unwrap().send(blocked.clone()).ok();
    })
    .unwrap();
    receiver
}

/// The next report of a greenlet. On a slow machine there may be others, of those that the system
/// has put aside.
fn report_of(reports: &Receiver<Blocked>, greenlet: u64) -> Blocked {
    loop {
        let report = reports.recv_timeout(SOON).expect("it is reported");
        if report.greenlet == greenlet {
            return report;
        }
    }
}

/// Holds the hub until told otherwise.
#[inline(never)]
fn a_function_that_computes(until: &AtomicBool) {
    while !until.load(Ordering::Relaxed) {
        std::hint::spin_loop();
    }
    // Where it lets go. Not as its last call, for which it would leave its place on the stack.
    sleep(Duration::ZERO);
    std::hint::black_box(until);
}

#[test]
fn who_holds_a_hub_is_reported_with_a_name_and_a_backtrace() {
    const NAME: &str = "monitor::who_holds_a_hub_is_reported_with_a_name_and_a_backtrace";
    if case().is_none() {
        for hubs in [1, 2] {
            child_with_hubs(NAME, "alone", hubs).passed();
        }
        return;
    }
    let _deadline = deadline();
    Hub::monitor(Some(LIMIT)).unwrap();
    let reports = reports();
    for i in 0..4 {
        let release = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&release);
        let builder = Builder::new().name(format!("greedy {i}")).hub(any_hub(i));
        let greedy = builder
            .spawn(move || a_function_that_computes(&flag))
            .unwrap();
        let first = report_of(&reports, greedy.id());
        assert_eq!(first.hub, greedy.hub());
        assert_eq!(first.name, greedy.name());
        assert!(first.held >= LIMIT && !first.is_over());
        // It may be put aside by the system for a moment.
        assert!(first.activity == Some(Activity::Computes), "{first}");
        assert!(
            first
                .to_string()
                .contains("and still does: its thread computes")
        );
        release.store(true, Ordering::Relaxed);
        let second = report_of(&reports, greedy.id());
        assert!(second.is_over() && second.held >= first.held);
        let text = second.to_string();
        assert!(text.contains("a_function_that_computes"), "{text}");
        greedy.join().unwrap();
    }
    assert!(reports.try_iter().all(|report| report.held >= LIMIT));
}

#[test]
fn a_system_call_that_blocks_is_told_apart() {
    const NAME: &str = "monitor::a_system_call_that_blocks_is_told_apart";
    if case().is_none() {
        // Without a line of code: by the environment.
        let environment = [("GREENWOOD_MAX_BLOCKING_MS", "20")];
        return child(NAME, "alone", &environment).passed();
    }
    let _deadline = deadline();
    let reports = reports();
    // A slow machine may put it aside before it comes to its call.
    let is_told_apart = (0..10).any(|_| {
        let (end, ended) = channel::<()>();
        let blocking = spawn(move || ended.recv().ok());
        let first = report_of(&reports, blocking.id());
        // It ends without a switch.
        end.send(()).unwrap();
        assert!(report_of(&reports, blocking.id()).is_over());
        blocking.join().unwrap();
        matches!(
            first.activity,
            Some(Activity::SystemCall(_) | Activity::Unknown)
        )
    });
    assert!(is_told_apart);
}

#[test]
fn who_lets_others_run_is_not_reported() {
    const NAME: &str = "monitor::who_lets_others_run_is_not_reported";
    if case().is_none() {
        return child(NAME, "alone", &[]).passed();
    }
    let _deadline = deadline();
    let reports = reports();
    // Not asked for yet: it is off.
    hold(2 * LIMIT);
    assert!(reports.try_recv().is_err());
    Hub::config()
        .monitor(Duration::from_millis(500))
        .start()
        .unwrap();
    // A machine that puts the process aside for as long looks just like one who holds a hub.
    assert!((0..5).any(|_| {
        others_run_and_nobody_watches();
        reports.try_iter().count() == 0
    }));
}

/// Greenlets that never hold their hub while it is watched, and one that does while it is not.
fn others_run_and_nobody_watches() {
    Hub::monitor(Some(Duration::from_millis(500))).unwrap();
    let greenlets: Vec<_> = (0..4)
        .map(|i| {
            spawn_on(any_hub(i), move || {
                let start = Instant::now();
                while start.elapsed() < Duration::from_millis(700) {
                    match i {
                        0 => sleep(Duration::ZERO),
                        1 => sleep(Duration::from_millis(600)),
                        _ => sleep(Duration::from_micros(500)),
                    }
                }
            })
        })
        .collect();
    greenlets
        .into_iter()
        .for_each(|greenlet| greenlet.join().unwrap());
    Hub::monitor(None).unwrap();
    hold(Duration::from_millis(600));
    // Who held a hub while nobody watched has no past afterwards.
    Hub::monitor(Some(Duration::from_millis(500))).unwrap();
    spawn(|| sleep(Duration::from_millis(1))).join().unwrap();
}

fn hold(time: Duration) {
    spawn(move || spin(time)).join().unwrap();
}

#[test]
fn monitoring_functions_are_called_while_all_hubs_are_blocked() {
    const NAME: &str = "monitor::monitoring_functions_are_called_while_all_hubs_are_blocked";
    if case().is_none() {
        return child(NAME, "alone", &[]).passed();
    }
    let _deadline = deadline();
    let release = Arc::new(AtomicBool::new(false));
    let blocking: Vec<_> = (0..Hub::count())
        .map(|hub| {
            let release = Arc::clone(&release);
            spawn_on(hub, move || a_function_that_computes(&release))
        })
        .collect();
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    let function = add_monitoring_function(Duration::from_millis(1), move || {
        count.fetch_add(1, Ordering::SeqCst);
        panic!("a panic that the test wants");
    })
    .unwrap();
    let (sender, receiver) = channel();
    let sender = Mutex::new(sender);
    let other = add_monitoring_function(Duration::from_millis(1), move || {
        sender.lock().unwrap().send(()).ok();
    })
    .unwrap();
    for _ in 0..5 {
        receiver.recv_timeout(SOON).unwrap();
    }
    eventually("a panic does not end it", || {
        calls.load(Ordering::SeqCst) >= 5
    });
    function.cancel();
    other.cancel();
    // One call may be under way.
    let mut left = 0;
    while receiver.recv_timeout(Duration::from_millis(50)).is_ok() {
        left += 1;
        assert!(left < 100, "it is called for ever");
    }
    release.store(true, Ordering::Relaxed);
    blocking
        .into_iter()
        .for_each(|greenlet| greenlet.join().unwrap());
}

#[test]
fn greenlets_with_small_stacks_are_reported_without_a_backtrace() {
    const NAME: &str = "monitor::greenlets_with_small_stacks_are_reported_without_a_backtrace";
    if case().is_none() {
        return child(NAME, "alone", &[]).passed();
    }
    let _deadline = deadline();
    Hub::monitor(Some(LIMIT)).unwrap();
    let reports = reports();
    let release = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&release);
    let small = Builder::new().stack_size(32 * 1024);
    let greedy = small
        .spawn(move || a_function_that_computes(&flag))
        .unwrap();
    assert!(!report_of(&reports, greedy.id()).is_over());
    release.store(true, Ordering::Relaxed);
    let second = report_of(&reports, greedy.id());
    assert!(second.is_over() && second.backtrace.is_none());
    greedy.join().unwrap();
}

#[test]
fn who_waits_for_the_greenlets_of_a_failed_scope_is_not_reported() {
    const NAME: &str = "monitor::who_waits_for_the_greenlets_of_a_failed_scope_is_not_reported";
    if case().is_none() {
        return child_with_hubs(NAME, "alone", 2).passed();
    }
    let _deadline = deadline();
    Hub::monitor(Some(LIMIT)).unwrap();
    let reports = reports();
    // A slow machine may put others aside for as long, or the monitor.
    assert!((0..5).any(|_| only_who_holds_a_hub_is_reported(&reports)));
}

fn only_who_holds_a_hub_is_reported(reports: &Receiver<Blocked>) -> bool {
    reports.try_iter().for_each(drop);
    let release = Arc::new(AtomicBool::new(false));
    let begun = Arc::new(AtomicBool::new(false));
    let (until, begins) = (Arc::clone(&release), Arc::clone(&begun));
    let failing = spawn_on(0, move || {
        let failed = std::panic::catch_unwind(|| {
            greenwood_runtime::scope(|scope| {
                let child = Builder::new().hub(1);
                let held = || {
                    begins.store(true, Ordering::SeqCst);
                    a_function_that_computes(&until);
                };
                scope.spawn_with(child, held).unwrap();
                while !begins.load(Ordering::SeqCst) {
                    sleep(Duration::ZERO);
                }
                panic!("a panic that the test wants");
            });
        });
        assert!(failed.is_err());
        // Who then holds it, is.
        spin(4 * LIMIT);
    });
    let first = reports.recv_timeout(SOON).unwrap();
    let more = reports.recv_timeout(4 * LIMIT);
    release.store(true, Ordering::SeqCst);
    failing.join().unwrap();
    let held: Vec<_> = std::iter::from_fn(|| reports.recv_timeout(4 * LIMIT).ok())
        .filter(|report| report.hub == 0)
        .collect();
    // To be seen if it is not so again and again.
    eprintln!("{first}, {more:?}, {held:?}");
    first.hub == 1
        && more.is_err()
        && !held.is_empty()
        && held.iter().all(|report| report.held < 30 * LIMIT)
}

#[test]
fn what_a_function_has_captured_may_use_the_monitor_when_it_is_dropped() {
    const NAME: &str =
        "monitor::what_a_function_has_captured_may_use_the_monitor_when_it_is_dropped";
    if case().is_none() {
        return child(NAME, "alone", &[]).passed();
    }
    let _deadline = deadline();
    let other = add_monitoring_function(Duration::from_secs(1), || ()).unwrap();
    let (sender, receiver) = channel();
    let sender = Mutex::new(sender);
    let captured = OnDrop(move || {
        other.cancel();
        sender.lock().unwrap().send(()).unwrap();
    });
    let captured = Mutex::new(captured);
    let first = add_monitoring_function(Duration::from_millis(1), move || {
        drop(captured.lock().unwrap());
    })
    .unwrap();
    first.cancel();
    receiver.recv_timeout(SOON).unwrap();
}

#[test]
fn a_function_without_an_end_of_its_period_is_not_called() {
    const NAME: &str = "monitor::a_function_without_an_end_of_its_period_is_not_called";
    if case().is_none() {
        return child(NAME, "alone", &[]).passed();
    }
    let _deadline = deadline();
    let never = add_monitoring_function(Duration::MAX, || panic!("never")).unwrap();
    let (sender, receiver) = channel();
    let sender = Mutex::new(sender);
    let other = add_monitoring_function(Duration::from_millis(1), move || {
        sender.lock().unwrap().send(()).ok();
    })
    .unwrap();
    for _ in 0..3 {
        receiver.recv_timeout(SOON).unwrap();
    }
    never.cancel();
    other.cancel();
}
