//! What plots of results have in common.

use super::chart::{Bar, Chart, Group, Tone};
use super::results::{Kind, Measurable, Results};

/// Bars of absolute values end at this multiple of what ours or the base have.
const CAP: f64 = 3.0;

pub(crate) fn absolute<C: Measurable>(
    results: &Results<C>,
    title: &str,
    axis: String,
    groups: impl IntoIterator<Item = Group>,
) -> Chart {
    let groups = with_bars(groups);
    let tones = [Tone::Ours, Tone::Base];
    let near = groups.iter().flat_map(|group| &group.bars);
    let near = near.filter(|bar| tones.contains(&bar.tone));
    let most = near.map(|bar| bar.value).fold(0.0, f64::max);
    Chart {
        title: title.to_owned(),
        subtitle: subtitle(results),
        axis,
        groups,
        cap: if most > 0.0 {
            most * CAP
        } else {
            f64::INFINITY
        },
        mark: None,
    }
}

/// Names of files, and what belongs into them. A plot for which there are no results is left out.
pub(crate) fn drawn<const N: usize>(
    charts: [(&'static str, Chart); N],
) -> Vec<(&'static str, String)> {
    charts
        .into_iter()
        .filter(|(_, chart)| !chart.groups.is_empty())
        .map(|(name, chart)| (name, chart.draw()))
        .collect()
}

/// Those groups of which there are results.
pub(crate) fn with_bars(groups: impl IntoIterator<Item = Group>) -> Vec<Group> {
    let groups = groups.into_iter();
    groups.filter(|group| !group.bars.is_empty()).collect()
}

/// One bar for each server that has such a value; `of` gives it, and what stands beside it.
pub(crate) fn bars<C: Measurable>(
    results: &Results<C>,
    of: impl Fn(usize) -> (f64, String),
) -> Vec<Bar> {
    let mut others = 0;
    let mut bars = Vec::new();
    for server in results.servers() {
        let tone = match results.kind(server) {
            Kind::Floor => Tone::Floor,
            Kind::Parked => Tone::Parked,
            Kind::Ours => Tone::Ours,
            _ if server == results.base() => Tone::Base,
            Kind::Peer | Kind::Hubs => {
                others += 1;
                Tone::Other(others - 1)
            }
        };
        let (value, text) = of(server);
        if value.is_finite() {
            bars.push(Bar {
                name: results.name(server).to_owned(),
                tone,
                value,
                text,
            });
        }
    }
    bars
}

pub(crate) fn subtitle<C: Measurable>(results: &Results<C>) -> String {
    format!("{}; medians", results.machine.describe())
}

/// So many that three figures are seen.
pub(crate) fn decimals(value: f64) -> usize {
    match value {
        100.0.. => 0,
        10.0.. => 1,
        _ => 2,
    }
}
