//! All that has been measured of servers.

use crate::case::{Case, HALF};
use crate::report;
use crate::report::results::Kind;
use crate::sample;

pub(crate) type Results = report::results::Results<Case>;

/// The messages per second of the fastest WebSocket server, in the case that `half` halves.
pub(crate) fn highest_rate(results: &Results) -> f64 {
    let servers = results
        .servers()
        .filter(|&server| results.kind(server) != Kind::Floor);
    servers
        .map(|server| results.median(Case::Echo(HALF), server, sample::PER_SECOND))
        .fold(f64::NAN, f64::max)
}
