//! [`ThreadPool`].

mod jobs;
mod maps;
mod threads;

use std::sync::{Arc, mpsc};
use std::time::Duration;

use greenwood_runtime::{Event, ThreadPool, ThreadResult};

const SHORT: Duration = Duration::from_millis(3);
const LONG: Duration = Duration::from_secs(600);

/// A job that goes on until it is told to end, by a message or by the sender's end.
fn busy(pool: &ThreadPool) -> (mpsc::Sender<()>, ThreadResult<bool>) {
    let (end, ended) = mpsc::channel();
    let told = Arc::new(Event::new());
    let begins = Arc::clone(&told);
    let job = pool.spawn(move || {
        begins.set();
        ended.recv().is_ok()
    });
    told.wait();
    (end, job)
}
