//! Plots of the results, as SVG: which there are, and what is in them. `chart` draws.

use crate::case::{ALL, Case};
use crate::chart::{Bar, Chart, Group, Tone};
use crate::results::Results;
use crate::sample;
use crate::server::Kind;

/// Ratios beyond are cut off: the bars of what is ten times slower would hide all else.
const RATIO_CAP: f64 = 2.0;

/// The same for latencies and memory, as multiples of what ours or the base have.
const CAP: f64 = 3.0;

/// Names of files, and what belongs into them. A plot for which there are no results is left out.
pub(crate) fn all(results: &Results) -> Vec<(&'static str, String)> {
    let base = results.name(results.base());
    let cpu = ratios(
        results,
        sample::CPU_US,
        "Server's CPU time per message",
        format!("CPU time as a multiple of {base}'s: less is better; in brackets, µs per message"),
        |value| format!("{:.*}", decimals(value), value),
    );
    let rate = ratios(
        results,
        sample::PER_SECOND,
        "Messages per second, server on one core",
        format!(
            "rate as a multiple of {base}'s: more is better; in brackets, thousands per second"
        ),
        |value| format!("{:.*}", decimals(value / 1e3), value / 1e3),
    );
    let charts = [
        ("cpu.svg", cpu),
        ("rate.svg", rate),
        ("latency.svg", latency(results)),
        ("memory.svg", memory(results)),
    ];
    charts
        .into_iter()
        .filter(|(_, chart)| !chart.groups.is_empty())
        .map(|(name, chart)| (name, chart.draw()))
        .collect()
}

/// For each kind of traffic, each server's ratio to the base.
fn ratios(
    results: &Results,
    name: &str,
    title: &str,
    axis: String,
    show: impl Fn(f64) -> String,
) -> Chart {
    let traffic = ALL
        .into_iter()
        .filter(|case| matches!(case, Case::Echo(_) | Case::FanOut(_) | Case::Handshake));
    let groups = traffic.map(|case| Group {
        label: case.label(),
        bars: bars(results, |server| {
            let ratio = results.ratio(case, server, name);
            let text = format!("{ratio:.2} ({})", show(results.median(case, server, name)));
            (ratio, text)
        }),
    });
    Chart {
        title: title.to_owned(),
        subtitle: subtitle(results),
        axis,
        groups: groups.filter(|group| !group.bars.is_empty()).collect(),
        cap: RATIO_CAP,
        mark: Some(1.0),
    }
}

fn latency(results: &Results) -> Chart {
    let quantiles = [
        ("median", sample::P50_US),
        ("99 %", sample::P99_US),
        ("99.9 %", sample::P999_US),
    ];
    let groups = quantiles.map(|(label, name)| Group {
        label: label.to_owned(),
        bars: bars(results, |server| {
            let micros = results.median(Case::Half, server, name);
            let ratio = results.ratio(Case::Half, server, name);
            (micros, format!("{micros:.0} µs ({ratio:.2})"))
        }),
    });
    let base = results.name(results.base());
    absolute(
        results,
        "Latency at half of the highest rate",
        format!("µs from when a message was due; in brackets, as a multiple of {base}'s"),
        groups.into(),
    )
}

fn memory(results: &Results) -> Chart {
    let moments = [
        ("after the handshake", sample::BYTES),
        ("after 64 B each", sample::BYTES_SMALL),
        ("after 64 KiB each", sample::BYTES_LARGE),
    ];
    let idle = ALL
        .into_iter()
        .filter(|case| matches!(case, Case::Idle(_)) && results.has(*case));
    let groups = idle.flat_map(|case| {
        moments.map(|(moment, name)| Group {
            label: format!("{}, {moment}", case.label()),
            bars: bars(results, |server| {
                let kib = results.median(case, server, name) / 1024.0;
                (kib, format!("{kib:.2} KiB"))
            }),
        })
    });
    absolute(
        results,
        "Resident memory of the server per idle connection",
        "KiB, without the kernel's".to_owned(),
        groups.collect(),
    )
}

fn absolute(results: &Results, title: &str, axis: String, mut groups: Vec<Group>) -> Chart {
    groups.retain(|group| !group.bars.is_empty());
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

/// One bar for each server that has such a value; `of` gives it, and what stands beside it.
fn bars(results: &Results, of: impl Fn(usize) -> (f64, String)) -> Vec<Bar> {
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

fn subtitle(results: &Results) -> String {
    format!("{}; medians", results.machine.describe())
}

/// So many that three figures are seen.
fn decimals(value: f64) -> usize {
    match value {
        100.0.. => 0,
        10.0.. => 1,
        _ => 2,
    }
}
