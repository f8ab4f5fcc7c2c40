//! Tables for people.

use std::fmt::Write;

use serde_json::{Map, Value};

use crate::case::{self, Case, Measure};
use crate::child::{
    BUSY_PERCENT, BYTES, BYTES_USED, CPU_NS, Contender, IDLE_PERCENT, LATE_MAX_US, LATE_P50_US,
    LATE_P99_US, NS,
};
use crate::options::Options;
use crate::report::plot::decimals;
use crate::report::table::Show::{Median, Percent, Ratio};
use crate::report::table::{self, Column, column};
use crate::{Result, Results};

const TIME: &[Column] = &[
    column("ns", NS, Median(1)),
    column("ratio", NS, Ratio),
    column("CPU ns", CPU_NS, Median(1)),
    column("ratio", CPU_NS, Ratio),
    column("busy", BUSY_PERCENT, Percent(0)),
];

const LATENESS: &[Column] = &[
    column("late p50 µs", LATE_P50_US, Median(0)),
    column("ratio", LATE_P50_US, Ratio),
    column("p99 µs", LATE_P99_US, Median(0)),
    column("ratio", LATE_P99_US, Ratio),
    column("max µs", LATE_MAX_US, Median(0)),
    column("CPU ns", CPU_NS, Median(0)),
    column("ratio", CPU_NS, Ratio),
];

const MEMORY: &[Column] = &[
    column("B each", BYTES, Median(0)),
    column("ratio", BYTES, Ratio),
    column("after 40 KiB", BYTES_USED, Median(0)),
    column("ratio", BYTES_USED, Ratio),
];

const IDLE: &[Column] = &[column("CPU, idle", IDLE_PERCENT, Percent(3))];

/// Of the settings: seconds of a measurement, and of an idle one; what contenders say they are.
const SECS: &str = "secs";
const IDLE_SECS: &str = "idle_secs";
const VERSIONS: &str = "versions";

pub(crate) fn settings(options: &Options, contenders: &[Contender]) -> Result<Map<String, Value>> {
    let mut versions = Map::new();
    for contender in contenders {
        versions.insert(contender.name.clone(), contender.version()?.into());
    }
    Ok(Map::from_iter([
        (
            SECS.to_owned(),
            options.common.duration.as_secs_f64().into(),
        ),
        (IDLE_SECS.to_owned(), options.idle.as_secs_f64().into()),
        (VERSIONS.to_owned(), versions.into()),
    ]))
}

/// Where and how it is measured.
pub(crate) fn heading(results: &Results) -> String {
    let setting = |name| results.settings.get(name);
    let mut heading = format!(
        "{}\nat least {} s each, medians, ratios to {}\n",
        results.machine.describe(),
        setting(SECS).and_then(Value::as_f64).unwrap_or_default(),
        results.name(results.base()),
    );
    for server in results.servers() {
        let name = results.name(server);
        let version = setting(VERSIONS).and_then(|versions| versions[name].as_str());
        writeln!(heading, "{name}: {}", version.unwrap_or("unknown")).ok();
    }
    heading
}

/// In columns, for a terminal.
pub(crate) fn table(results: &Results, case: Case) -> String {
    let columns = match case.measure {
        Measure::Time => TIME,
        Measure::Lateness => LATENESS,
        Measure::Memory => MEMORY,
        Measure::Idle => IDLE,
    };
    table::plain(results, case, case.describe, columns)
}

/// One table of all cases for a page, a column for each contender.
pub(crate) fn all(results: &Results) -> String {
    let mut text = String::from("| |");
    for server in results.servers() {
        write!(text, " {} |", results.name(server)).ok();
    }
    write!(
        text,
        "\n| --- |{}\n",
        " --- |".repeat(results.servers().count())
    )
    .ok();
    for case in case::ALL.into_iter().filter(|&case| results.has(case)) {
        for &(what, name, unit) in rows(case) {
            write!(text, "| {}{what} |", case.describe).ok();
            for server in results.servers() {
                write!(text, " {} |", cell(results, case, server, name, unit)).ok();
            }
            text.push('\n');
        }
    }
    text
}

/// What is shown of a case: the rest of its description, a number and its unit.
fn rows(case: Case) -> &'static [(&'static str, &'static str, Unit)] {
    match case.measure {
        Measure::Time => &[("", CPU_NS, Unit::Ns)],
        Measure::Lateness => &[
            (": late, p50", LATE_P50_US, Unit::Us),
            (": late, p99", LATE_P99_US, Unit::Us),
            (": CPU each", CPU_NS, Unit::Ns),
        ],
        Measure::Memory => &[
            ("", BYTES, Unit::Bytes),
            (", after 40 KiB of stack", BYTES_USED, Unit::Bytes),
        ],
        Measure::Idle => &[("", IDLE_PERCENT, Unit::Percent)],
    }
}

/// What a number is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Ns,
    Us,
    Bytes,
    Percent,
}

impl Unit {
    /// With as many figures as matter.
    pub(crate) fn show(self, value: f64) -> String {
        match self {
            Unit::Ns if value >= 1e3 => Unit::Us.show(value / 1e3),
            Unit::Ns => format!("{value:.0$} ns", decimals(value).min(1)),
            Unit::Us if value >= 1e3 => format!("{:.*} ms", decimals(value / 1e3), value / 1e3),
            Unit::Us => format!("{value:.0$} µs", decimals(value)),
            Unit::Bytes => format!("{:.2} KiB", value / 1024.0),
            Unit::Percent => format!("{value:.3} %"),
        }
    }
}

/// The median, and its ratio to ours.
fn cell(results: &Results, case: Case, server: usize, name: &str, unit: Unit) -> String {
    let median = results.median(case, server, name);
    if median.is_nan() {
        return "–".to_owned();
    }
    let text = unit.show(median);
    let ratio = results.ratio(case, server, name);
    if server == results.base() || unit == Unit::Percent || ratio.is_nan() {
        return text;
    }
    format!("{text}, {}", times(ratio))
}

/// A ratio.
pub(crate) fn times(ratio: f64) -> String {
    format!(
        "{ratio:.0$}×",
        decimals(ratio).min(if ratio < 10.0 { 2 } else { 1 })
    )
}
