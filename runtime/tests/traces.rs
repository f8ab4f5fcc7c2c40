//! What the monitor and the statistics tell `tracing`. In a binary of its own: the subscriber is the
//! process's.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use greenwood_runtime::{Builder, Hub, HubStats, sleep, spawn};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

const SOON: Duration = Duration::from_secs(60);
const LIMIT: Duration = Duration::from_millis(20);

struct Told {
    target: String,
    level: Level,
    fields: BTreeMap<&'static str, String>,
}

impl Visit for Told {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.fields.insert(field.name(), format!("{value:?}"));
    }
}

/// Passes on what is told.
struct Listener(Mutex<Sender<Told>>);

impl Subscriber for Listener {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut told = Told {
            target: event.metadata().target().to_owned(),
            level: *event.metadata().level(),
            fields: BTreeMap::new(),
        };
        event.record(&mut told);
        self.0.lock().unwrap().send(told).ok();
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// What is told from now on.
fn listen() -> Receiver<Told> {
    let (sender, receiver) = channel();
    tracing::subscriber::set_global_default(Listener(Mutex::new(sender))).unwrap();
    receiver
}

/// The next that is told to `target`.
fn next_of(told: &Receiver<Told>, target: &str) -> Told {
    loop {
        let next = told.recv_timeout(SOON);
        let next = next.unwrap_or_else(|_| panic!("nothing was told to {target}"));
        if next.target == target {
            return next;
        }
    }
}

/// One test, as there is one subscriber.
#[test]
fn monitor_and_statistics_tell_tracing() {
    let told = listen();
    statistics_are_told(&told);
    who_holds_a_hub_is_told(&told);
}

fn statistics_are_told(told: &Receiver<Told>) {
    spawn(|| sleep(Duration::from_millis(1))).join().unwrap();
    let stats = Hub::stats();
    for hub in &stats {
        hub.trace();
    }
    for hub in &stats {
        let told = next_of(told, "greenwood_runtime::stats");
        assert_eq!(told.level, Level::INFO);
        assert_eq!(told.fields, expected(hub));
    }
}

fn expected(hub: &HubStats) -> BTreeMap<&'static str, String> {
    BTreeMap::from([
        ("message", "hub".to_owned()),
        ("hub", hub.hub.to_string()),
        ("greenlets", hub.greenlets.to_string()),
        ("starting", hub.starting.to_string()),
        ("ready", hub.ready.to_string()),
        ("spawned", hub.spawned.to_string()),
        ("switches", hub.switches.to_string()),
        ("polls", hub.polls.to_string()),
        ("timers", hub.timers.to_string()),
        ("inbox", hub.inbox.to_string()),
        ("latency_us", hub.latency.as_micros().to_string()),
        ("max_latency_us", hub.max_latency.as_micros().to_string()),
    ])
}

fn who_holds_a_hub_is_told(told: &Receiver<Told>) {
    Hub::monitor(Some(LIMIT)).unwrap();
    let release = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&release);
    let greedy = Builder::new().name("greedy").spawn(move || {
        while !flag.load(Ordering::Relaxed) {
            std::hint::spin_loop();
        }
        sleep(Duration::ZERO);
    });
    let greedy = greedy.unwrap();
    let held = format!("\"greedy\" has held hub {} for ", greedy.hub());
    let report = || loop {
        let told = next_of(told, "greenwood_runtime::monitor");
        assert_eq!(told.level, Level::WARN);
        let message = told.fields["message"].clone();
        if message.contains(&held) {
            return message;
        }
    };
    assert!(report().contains(" and still does: its thread "));
    release.store(true, Ordering::Relaxed);
    assert!(!report().contains(" and still does"));
    greedy.join().unwrap();
    Hub::monitor(None).unwrap();
}
