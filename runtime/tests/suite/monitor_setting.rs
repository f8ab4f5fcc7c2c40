//! `GREENWOOD_MAX_BLOCKING_MS`.

use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use greenwood_runtime::{Builder, Hub, monitor};

use crate::support::{case, child, deadline};

/// A greenlet that holds its hub long enough to be seen.
fn hold(name: &str) {
    let holder = Builder::new().name(name).spawn(|| {
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(50) {
            std::hint::spin_loop();
        }
    });
    holder.unwrap().join().unwrap();
}

#[test]
fn monitor_of_zero_milliseconds_is_none() {
    let _deadline = deadline();
    if case().is_none() {
        let test = "monitor_setting::monitor_of_zero_milliseconds_is_none";
        return child(test, "x", &[("GREENWOOD_MAX_BLOCKING_MS", "0")]).passed();
    }
    let (tell, told) = channel();
    let tell = Mutex::new(tell);
    monitor::on_blocked(move |blocked| {
        tell.lock().unwrap().send(blocked.name.clone()).ok();
    })
    .unwrap();
    hold("before");
    Hub::monitor(Some(Duration::from_millis(1))).unwrap();
    // Until it is seen: the monitor's own thread may be held up as well.
    loop {
        hold("after");
        if let Ok(name) = told.try_recv() {
            assert_eq!(name, "after");
            return;
        }
    }
}
