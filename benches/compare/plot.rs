//! Plots of the results, as SVG: which there are, and what is in them.

use crate::Results;
use crate::case::{ALL, Case, Measure};
use crate::child::{BYTES, BYTES_USED, CPU_NS, LATE_P50_US, LATE_P99_US};
use crate::report::chart::{Chart, Group};
use crate::report::plot::{absolute, bars, drawn, subtitle, with_bars};
use crate::table::{Unit, times};

/// Ratios beyond are cut off: the bars of what is fifty times slower would hide all else.
const RATIO_CAP: f64 = 5.0;

/// The files of [`drawn`].
pub(crate) fn all(results: &Results) -> Vec<(&'static str, String)> {
    drawn([
        ("time.svg", time(results)),
        ("timers.svg", timers(results)),
        ("memory.svg", memory(results)),
    ])
}

/// Processor time of each kind of operation, as multiples of ours.
fn time(results: &Results) -> Chart {
    let cases = ALL.into_iter().filter(|case| case.measure == Measure::Time);
    let groups = cases.map(|case| Group {
        label: case.label.to_owned(),
        bars: bars(results, |server| {
            let ratio = results.ratio(case, server, CPU_NS);
            let median = Unit::Ns.show(results.median(case, server, CPU_NS));
            (ratio, format!("{} ({median})", times(ratio)))
        }),
    });
    Chart {
        title: "CPU time of what a runtime does".to_owned(),
        subtitle: subtitle(results),
        axis: "CPU time as a multiple of ours: less is better; in brackets, per operation"
            .to_owned(),
        groups: with_bars(groups),
        cap: RATIO_CAP,
        mark: Some(1.0),
    }
}

fn timers(results: &Results) -> Chart {
    let numbers = [("late, median", LATE_P50_US), ("late, 99 %", LATE_P99_US)];
    let groups = of(results, Measure::Lateness, &numbers, 1.0, Unit::Us);
    absolute(
        results,
        "How late sleeping greenlets wake",
        "µs after they were due: less is better".to_owned(),
        groups,
    )
}

fn memory(results: &Results) -> Chart {
    let numbers = [("", BYTES), ("after 40 KiB of stack", BYTES_USED)];
    let groups = of(results, Measure::Memory, &numbers, 1024.0, Unit::Bytes);
    absolute(
        results,
        "Resident memory of a parked greenlet",
        "KiB: less is better".to_owned(),
        groups,
    )
}

/// Groups of these numbers for all cases of this kind, in units of `one`.
fn of(
    results: &Results,
    measure: Measure,
    numbers: &[(&str, &str)],
    one: f64,
    unit: Unit,
) -> Vec<Group> {
    let cases = ALL.into_iter().filter(|case| case.measure == measure);
    let groups = cases.flat_map(|case: Case| {
        numbers.iter().map(move |(what, name)| Group {
            label: format!("{}, {what}", case.label)
                .trim_end_matches(", ")
                .to_owned(),
            bars: bars(results, |server| {
                let median = results.median(case, server, name);
                (median / one, unit.show(median))
            }),
        })
    });
    groups.collect()
}
