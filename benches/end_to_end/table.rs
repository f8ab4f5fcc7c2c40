//! Tables for people.

use std::fmt::Write;

use crate::case::Case;
use crate::results::Results;
use crate::sample;
use crate::server::Kind;

/// One column of a table.
struct Column {
    title: &'static str,
    /// Which number of a sample.
    name: &'static str,
    show: Show,
}

enum Show {
    /// The median, with so many decimals.
    Median(usize),
    /// The same as a percentage.
    Percent(usize),
    /// The ratio to the base.
    Ratio,
}

use Show::{Median, Percent, Ratio};

const fn column(title: &'static str, name: &'static str, show: Show) -> Column {
    Column { title, name, show }
}

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

/// Room for a server's name, and what separates columns.
const NAME: usize = 10;
const GAP: usize = 2;

/// Narrower columns are hard to read.
const NARROWEST: usize = 8;

/// Where and how it is measured.
pub(crate) fn heading(results: &Results) -> String {
    let kind = if results.text { "text" } else { "binary" };
    format!(
        "{}\n{kind} messages, {} s each, medians, ratios to {}\n",
        results.machine.describe(),
        results.secs,
        results.name(results.base()),
    )
}

/// In columns, for a terminal.
pub(crate) fn table(results: &Results, case: Case) -> String {
    let columns = columns(results, case);
    let width = |column: &Column| column.title.chars().count().max(NARROWEST) + GAP;
    let mut table = format!("{}\n  {:<NAME$}", case.describe(), "server");
    for column in columns {
        write!(table, "{:>1$}", column.title, width(column)).ok();
    }
    table.push('\n');
    for server in measured(results, case) {
        write!(table, "  {:<NAME$}", results.name(server)).ok();
        for column in columns {
            let cell = column.cell(results, case, server);
            write!(table, "{cell:>0$}", width(column)).ok();
        }
        table.push('\n');
    }
    table
}

/// The same for a page.
pub(crate) fn markdown(results: &Results, case: Case) -> String {
    let columns = columns(results, case);
    let mut table = format!("{}:\n\n| server |", case.label());
    for column in columns {
        write!(table, " {} |", column.title).ok();
    }
    write!(table, "\n| --- |{}\n", " --- |".repeat(columns.len())).ok();
    for server in measured(results, case) {
        write!(table, "| {} |", results.name(server)).ok();
        for column in columns {
            write!(table, " {} |", column.cell(results, case, server)).ok();
        }
        table.push('\n');
    }
    table
}

fn measured(results: &Results, case: Case) -> impl Iterator<Item = usize> {
    let servers = results.servers();
    servers.filter(move |&server| results.rounds(case, server) > 0)
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

impl Column {
    fn cell(&self, results: &Results, case: Case, server: usize) -> String {
        let median = || results.median(case, server, self.name);
        match self.show {
            Median(decimals) => format!("{:.decimals$}", median()),
            Percent(decimals) => format!("{:.decimals$}%", median()),
            Ratio => format!("{:.2}", results.ratio(case, server, self.name)),
        }
    }
}
