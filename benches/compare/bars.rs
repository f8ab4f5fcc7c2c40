//! What the runtime has to reach, and whether it does.

use std::fmt::Write;

use crate::Results;
use crate::case::{ALL, Case, Measure};
use crate::child::{BYTES, BYTES_USED, CPU_NS, IDLE_PERCENT, NS};
use crate::report::results::Measurable;
use crate::table::{Unit, times};

/// gevent takes so many times as much, by the name that it was given.
const GEVENT: (&str, f64) = ("gevent", 10.0);

/// Those of which ours is at least the equal, and in what.
const EQUALS: &[(&str, &[&str])] = &[("tokio-multi", &["yield", "pingpong", "roundtrip"])];

/// Of a parked greenlet, in bytes.
const MOST_BYTES: f64 = 5.0 * 1024.0;

/// Of a parked process, in percent of a core.
const MOST_IDLE: f64 = 0.1;

/// A line for each bar that these results tell something of.
pub(crate) fn verdicts(results: &Results) -> String {
    let mut text = String::new();
    let mut verdict = |case: Case, what: String, met: bool| {
        let met = if met { "met" } else { "MISSED" };
        writeln!(text, "{met}: {}: {what}", case.name()).ok();
    };
    let base = results.base();
    let place = |name: &str| {
        results
            .servers()
            .find(|&server| results.name(server) == name)
    };
    for case in ALL.into_iter().filter(|&case| results.has(case)) {
        if results.rounds(case, base) == 0 {
            verdict(case, "ours does not do it here".to_owned(), false);
            continue;
        }
        let equals = EQUALS
            .iter()
            .filter(|(_, cases)| cases.contains(&case.name()));
        let ahead = std::iter::once(GEVENT).chain(equals.map(|&(name, _)| (name, 1.0)));
        if matches!(case.measure, Measure::Time | Measure::Lateness) {
            for (name, least) in ahead {
                let Some(server) = place(name) else { continue };
                // The time of sleepers is the clock's.
                let numbers: &[_] = match case.measure {
                    Measure::Time => &[(NS, "time"), (CPU_NS, "CPU time")],
                    _ => &[(CPU_NS, "CPU time")],
                };
                for (number, what) in numbers {
                    let ratio = results.ratio(case, server, number);
                    if ratio.is_finite() {
                        let what = format!("{what} of {name}, {} (at least {least})", times(ratio));
                        verdict(case, what, ratio >= least);
                    }
                }
            }
        }
        for (number, most, unit) in [
            (BYTES, MOST_BYTES, Unit::Bytes),
            (BYTES_USED, MOST_BYTES, Unit::Bytes),
            (IDLE_PERCENT, MOST_IDLE, Unit::Percent),
        ] {
            let value = results.median(case, base, number);
            if value.is_finite() {
                let what = format!(
                    "{number} {} (at most {})",
                    unit.show(value),
                    unit.show(most)
                );
                verdict(case, what, value <= most);
            }
        }
    }
    text
}
