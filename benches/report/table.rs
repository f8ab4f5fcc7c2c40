//! Tables for people: a row for each server, with columns that the program chooses.

use std::fmt::Write;

use super::results::{Measurable, Results};

/// One column of a table.
pub(crate) struct Column {
    title: &'static str,
    /// Which number of a sample.
    name: &'static str,
    show: Show,
}

pub(crate) enum Show {
    /// The median, with so many decimals.
    Median(usize),
    /// The same as a percentage.
    Percent(usize),
    /// The ratio to the base.
    Ratio,
}

pub(crate) const fn column(title: &'static str, name: &'static str, show: Show) -> Column {
    Column { title, name, show }
}

/// Room for a server's name, and what separates columns.
const NAME: usize = 10;
const GAP: usize = 2;

/// Narrower columns are hard to read.
const NARROWEST: usize = 8;

/// In columns, for a terminal.
pub(crate) fn plain<C: Measurable>(
    results: &Results<C>,
    case: C,
    title: &str,
    columns: &[Column],
) -> String {
    let width = |column: &Column| column.title.chars().count().max(NARROWEST) + GAP;
    let mut table = format!("{title}\n  {:<NAME$}", "server");
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
pub(crate) fn markdown<C: Measurable>(
    results: &Results<C>,
    case: C,
    title: &str,
    columns: &[Column],
) -> String {
    let mut table = format!("{title}:\n\n| server |");
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

fn measured<C: Measurable>(results: &Results<C>, case: C) -> impl Iterator<Item = usize> {
    let servers = results.servers();
    servers.filter(move |&server| results.rounds(case, server) > 0)
}

impl Column {
    fn cell<C: Measurable>(&self, results: &Results<C>, case: C, server: usize) -> String {
        let median = || results.median(case, server, self.name);
        match self.show {
            Show::Median(decimals) => format!("{:.decimals$}", median()),
            Show::Percent(decimals) => format!("{:.decimals$}%", median()),
            Show::Ratio => format!("{:.2}", results.ratio(case, server, self.name)),
        }
    }
}
