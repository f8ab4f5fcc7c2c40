//! Plots of the results, as SVG: which there are, and what is in them. `chart` draws.

use crate::case::{ALL, Case};
use crate::report::chart::{Chart, Group};
use crate::report::plot::{absolute, bars, decimals, drawn, subtitle, with_bars};
use crate::results::Results;
use crate::sample;

/// Ratios beyond are cut off: the bars of what is ten times slower would hide all else.
const RATIO_CAP: f64 = 2.0;

/// The files of [`drawn`].
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
    drawn([
        ("cpu.svg", cpu),
        ("rate.svg", rate),
        ("latency.svg", latency(results)),
        ("memory.svg", memory(results)),
    ])
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
        groups: with_bars(groups),
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
        groups,
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
        groups,
    )
}
