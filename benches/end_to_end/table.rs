//! Tables for people.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::case::Case;
use crate::report::results::Kind;
use crate::report::table::Show::{Median, Percent, Ratio};
use crate::report::table::{self, Column, column};
use crate::results::Results;
use crate::sample;

const TRAFFIC: &[Column] = &[
    column("messages/s", sample::PER_SECOND, Median(0)),
    column("ratio", sample::PER_SECOND, Ratio),
    column("CPU µs", sample::CPU_US, Median(2)),
    column("ratio", sample::CPU_US, Ratio),
    column("p50 µs", sample::P50_US, Median(1)),
    column("p99 µs", sample::P99_US, Median(1)),
    column("load", sample::GENERATOR_PERCENT, Percent(0)),
    column("waited", sample::WAITED_PERCENT, Percent(1)),
];

const PACED: &[Column] = &[
    column("messages/s", sample::PER_SECOND, Median(0)),
    column("p50 µs", sample::P50_US, Median(1)),
    column("p99 µs", sample::P99_US, Median(1)),
    column("ratio", sample::P99_US, Ratio),
    column("p99.9 µs", sample::P999_US, Median(1)),
    column("late p99", sample::LATE_P99_US, Median(1)),
    column("CPU µs", sample::CPU_US, Median(2)),
    column("ratio", sample::CPU_US, Ratio),
    column("server", sample::SERVER_PERCENT, Percent(0)),
    column("waited", sample::WAITED_PERCENT, Percent(1)),
];

const HANDSHAKES: &[Column] = &[
    column("handshakes/s", sample::PER_SECOND, Median(0)),
    column("ratio", sample::PER_SECOND, Ratio),
    column("CPU µs", sample::CPU_US, Median(2)),
    column("ratio", sample::CPU_US, Ratio),
    column("p50 µs", sample::P50_US, Median(1)),
    column("p99 µs", sample::P99_US, Median(1)),
    column("load", sample::GENERATOR_PERCENT, Percent(0)),
    column("waited", sample::WAITED_PERCENT, Percent(1)),
];

const IDLE: &[Column] = &[
    column("connections", sample::CONNECTIONS, Median(0)),
    column("B each", sample::BYTES, Median(0)),
    column("ratio", sample::BYTES, Ratio),
    column("after 64 B", sample::BYTES_SMALL, Median(0)),
    column("after 64 KiB", sample::BYTES_LARGE, Median(0)),
    column("CPU, idle", sample::IDLE_PERCENT, Percent(3)),
];

const HUBS: &[Column] = &[
    column("messages/s", sample::PER_SECOND, Median(0)),
    column("ratio", sample::PER_SECOND, Ratio),
    column("CPU µs", sample::CPU_US, Median(2)),
    column("ratio", sample::CPU_US, Ratio),
    column("capacity/s", sample::CAPACITY, Median(0)),
    column("ratio", sample::CAPACITY, Ratio),
    column("server", sample::SERVER_PERCENT, Percent(0)),
    column("load", sample::GENERATOR_PERCENT, Percent(0)),
    column("waited", sample::WAITED_PERCENT, Percent(1)),
];

/// Of the settings: seconds of a measurement, and whether messages were text.
const SECS: &str = "secs";
const TEXT: &str = "text";

pub(crate) fn settings(duration: Duration, text: bool) -> Map<String, Value> {
    let secs = duration.as_secs_f64().into();
    Map::from_iter([(SECS.to_owned(), secs), (TEXT.to_owned(), text.into())])
}

/// Where and how it is measured.
pub(crate) fn heading(results: &Results) -> String {
    let setting = |name| results.settings.get(name);
    let kind = match setting(TEXT).and_then(Value::as_bool) {
        Some(true) => "text",
        _ => "binary",
    };
    format!(
        "{}\n{kind} messages, {} s each, medians, ratios to {}\n",
        results.machine.describe(),
        setting(SECS).and_then(Value::as_f64).unwrap_or_default(),
        results.name(results.base()),
    )
}

/// In columns, for a terminal.
pub(crate) fn table(results: &Results, case: Case) -> String {
    table::plain(results, case, &case.describe(), columns(results, case))
}

/// The same for a page.
pub(crate) fn markdown(results: &Results, case: Case) -> String {
    table::markdown(results, case, &case.label(), columns(results, case))
}

fn columns(results: &Results, case: Case) -> &'static [Column] {
    match case {
        Case::Echo(_) if results.kind(results.base()) == Kind::Hubs => HUBS,
        Case::Echo(_) | Case::FanOut(_) => TRAFFIC,
        Case::Half => PACED,
        Case::Handshake => HANDSHAKES,
        Case::Idle(_) => IDLE,
    }
}
