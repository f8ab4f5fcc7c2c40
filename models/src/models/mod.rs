//! The models: what must hold, however the threads run.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

mod hubs;
mod locks;
mod queues;
mod receptions;
mod waits;

/// A name that says what holds, and the model.
type Model = (&'static str, fn());

/// Runs those with `filter` in their name. The first that fails ends the process.
pub(crate) fn run(filter: Option<&str>) -> ExitCode {
    let all = [
        hubs::MODELS,
        waits::MODELS,
        locks::MODELS,
        queues::MODELS,
        receptions::MODELS,
    ]
    .concat();
    let chosen: Vec<_> = all
        .into_iter()
        .filter(|(name, _)| filter.is_none_or(|filter| name.contains(filter)))
        .collect();
    if chosen.is_empty() {
        eprintln!("there is no such model");
        return ExitCode::FAILURE;
    }
    for (name, model) in chosen {
        eprint!("model {name} ... ");
        let (began, runs) = (Instant::now(), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&runs);
        let mut builder = loom::model::Builder::new();
        // What loom's authors have found to be enough for nearly all faults; it can be raised by
        // LOOM_MAX_PREEMPTIONS.
        builder.preemption_bound.get_or_insert(3);
        builder.check(move || {
            count.fetch_add(1, Ordering::Relaxed);
            model();
        });
        let (runs, took) = (runs.load(Ordering::Relaxed), began.elapsed());
        eprintln!("ok, {runs} orders, {:.1} s", took.as_secs_f64());
    }
    ExitCode::SUCCESS
}

/// A number that is guarded by nothing. Whoever is not told of the last change by what is modelled
/// may see an old one.
#[derive(Clone, Default)]
struct Told(Arc<loom::sync::atomic::AtomicU32>);

impl Told {
    fn set(&self, value: u32) {
        self.0.store(value, Ordering::Relaxed);
    }

    fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}
