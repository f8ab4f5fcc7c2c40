//! The measuring program `benches/end_to_end`: what it computes, what it draws, and that it gets
//! along with a server.
//!
//! `cargo test` builds the examples too; with `--test benches` it does not, so that one comes after
//! a `cargo build --example floor`.
#![expect(
    dead_code,
    reason = "the program itself uses what these tests leave out"
)]

#[path = "../benches/end_to_end/case.rs"]
mod case;
#[path = "../benches/end_to_end/connection.rs"]
mod connection;
#[path = "../benches/end_to_end/handshake.rs"]
mod handshake;
#[path = "../benches/end_to_end/histogram.rs"]
mod histogram;
#[path = "../benches/end_to_end/load.rs"]
mod load;
#[path = "../benches/end_to_end/options.rs"]
mod options;
#[path = "../benches/end_to_end/paced.rs"]
mod paced;
#[path = "../benches/end_to_end/plot.rs"]
mod plot;
#[path = "../benches/report/mod.rs"]
mod report;
#[path = "../benches/end_to_end/results.rs"]
mod results;
#[path = "../benches/end_to_end/sample.rs"]
mod sample;
#[path = "../benches/end_to_end/server.rs"]
mod server;
#[path = "../benches/end_to_end/table.rs"]
mod table;

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::slice;
use std::time::Duration;

use case::{Case, HALF};
use histogram::Histogram;
use options::Options;
use paced::Pace;
use report::chart::Scale;
use report::results::{Kind, Measurable as _};
use report::system::Cores;
use results::Results;
use sample::Sample;
use server::{Server, ServerCommand};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const ECHO: Case = Case::Echo(HALF);

fn parse(line: &str) -> Result<Option<Options>> {
    options::parse(line.split_whitespace().map(str::to_owned))
}

fn options(line: &str) -> Options {
    match parse(line) {
        Ok(Some(options)) => options,
        other => panic!("{line}: {other:?}"),
    }
}

fn refused(line: &str) -> String {
    match parse(line) {
        Err(error) => error.to_string(),
        Ok(other) => panic!("{line} is taken: {other:?}"),
    }
}

/// Ours, a peer and the floor, in a file as the program writes it, with these samples:
/// case, round, server, and one number.
fn results(samples: &[(&str, usize, &str, &str, f64)]) -> Results {
    let samples: Vec<_> = samples
        .iter()
        .map(|&(case, round, server, name, value)| {
            serde_json::json!({"case": case, "round": round, "server": server, name: value})
        })
        .collect();
    let text = serde_json::json!({
        "machine": {"processor": "Quick & Dirty <9000>", "system": "Linux 6.18", "cores": 2},
        "secs": 2.0,
        "text": false,
        "servers": [
            {"name": "ours", "kind": "ours"},
            {"name": "uws", "kind": "peer"},
            {"name": "bun", "kind": "peer"},
            {"name": "floor", "kind": "floor"},
        ],
        "samples": samples,
    });
    let mut results = Results::default();
    if let Err(error) = results.read(&text.to_string()) {
        panic!("{error}");
    }
    results
}

fn ours_and_uws(name: &'static str) -> Results {
    results(&[
        ("64", 0, "ours", name, 10.0),
        ("64", 0, "uws", name, 20.0),
        ("64", 1, "ours", name, 30.0),
        ("64", 1, "uws", name, 20.0),
        ("64", 2, "ours", name, 18.0),
        ("64", 2, "uws", name, 20.0),
    ])
}

#[test]
fn quantiles_are_within_a_bucket() {
    let mut histogram = Histogram::new();
    for micros in 1..=1000 {
        histogram.add(Duration::from_micros(micros));
    }
    assert_eq!(histogram.total(), 1000);
    for (part, expected) in [
        (0.001, 1),
        (0.5, 500),
        (0.99, 990),
        (0.999, 999),
        (1.0, 1000),
    ] {
        let micros = histogram.quantile(part).as_secs_f64() * 1e6;
        let error = (micros - f64::from(expected)).abs() / f64::from(expected);
        assert!(error < 0.016, "{part}: {micros} µs, not {expected}");
    }
}

#[test]
fn quantiles_of_merged_histograms_are_those_of_all() {
    let (mut low, mut high) = (Histogram::new(), Histogram::new());
    for _ in 0..99 {
        low.add(Duration::from_nanos(50));
    }
    high.add(Duration::from_secs(1));
    low.merge(&high);
    assert_eq!(low.total(), 100);
    assert_eq!(low.quantile(0.99), Duration::from_nanos(50));
    assert!(low.quantile(1.0) > Duration::from_millis(980));
    low.clear();
    assert_eq!(low.quantile(0.5), Duration::ZERO);
}

#[test]
fn pace_keeps_the_rate() {
    const MESSAGES: u32 = 200_000;
    for rate in [10.0, 50_000.0] {
        let mut pace = Pace::new(rate);
        let total: Duration = (0..MESSAGES).map(|_| pace.interval()).sum();
        let given = f64::from(MESSAGES) / total.as_secs_f64();
        assert!(
            (given / rate - 1.0).abs() < 0.01,
            "{given} instead of {rate}"
        );
    }
}

#[test]
fn pace_is_exponential_and_the_same_each_time() {
    const MESSAGES: usize = 100_000;
    let intervals = || {
        let mut pace = Pace::new(1000.0);
        (0..MESSAGES).map(move |_| pace.interval())
    };
    assert!(intervals().eq(intervals()));
    // A part of e^-t is longer than t mean intervals.
    for t in [0.1f64, 1.0, 3.0] {
        let longer = intervals().filter(|interval| interval.as_secs_f64() > t / 1000.0);
        let part = longer.count() as f64 / MESSAGES as f64;
        assert!(
            (part - (-t).exp()).abs() < 0.005,
            "{part} are longer than {t}"
        );
    }
}

#[test]
fn nothing_is_measured_when_called_as_a_test() -> Result<()> {
    assert!(parse("")?.is_none());
    assert!(parse("--bench protocol")?.is_none());
    assert!(parse("--bench")?.is_some());
    assert!(parse("--bench end_to")?.is_some());
    Ok(())
}

#[test]
fn options_are_taken() -> Result<()> {
    let peer = "uws=some/where/uws_echo {port} --quiet=yes";
    let line = [
        "--bench",
        "--peer",
        peer,
        "--cases",
        "pipe,idle20k",
        "--rounds",
        "7",
        "--secs",
        "0.5",
        "--floor",
    ];
    let options = options::parse(line.map(str::to_owned).into_iter())?.ok_or("nothing to do")?;
    let expected = (
        "uws".to_owned(),
        "some/where/uws_echo {port} --quiet=yes".to_owned(),
    );
    assert_eq!(options.common.peers, [expected]);
    let names: Vec<_> = options
        .common
        .cases
        .iter()
        .map(|case| case.name())
        .collect();
    assert_eq!(names, ["pipe", "idle20k"]);
    assert_eq!(options.common.rounds, 7);
    assert_eq!(options.common.duration, Duration::from_millis(500));
    assert!(options.floor && !options.parked);
    Ok(())
}

#[test]
fn half_wants_the_highest_rate_first() {
    let cases = |line| options(line).common.cases;
    assert_eq!(cases("--cases half"), [ECHO, Case::Half]);
    assert_eq!(cases("--cases half,64"), [ECHO, Case::Half]);
    assert_eq!(cases("--cases 64,half"), [ECHO, Case::Half]);
    assert_eq!(cases("--cases half --rate 1000"), [Case::Half]);
}

#[test]
fn wrong_options_are_refused() {
    for (line, why) in [
        ("--cases 65", "no case \"65\""),
        ("--peer uws", "NAME=COMMAND"),
        ("--peer", "wants a value"),
        ("--rounds 0", "more than nothing"),
        ("--secs 0", "more than nothing"),
        ("--secs -1", "negative"),
        ("--rate 0", "--rate"),
        ("--rate inf", "--rate"),
        ("--hubs 1 --cases 64", "two or more"),
        ("--hubs 2 --cases idle", "not for idle"),
        ("--hubs 2 --cases 64 --floor", "itself alone"),
        ("--fast", "unknown option"),
    ] {
        let error = refused(line);
        assert!(error.contains(why), "{line}: {error}");
    }
}

#[test]
fn ratios_are_paired_by_round() {
    let results = ours_and_uws(sample::CPU_US);
    assert_eq!(results.median(ECHO, 0, sample::CPU_US), 18.0);
    assert_eq!(results.ratio(ECHO, 0, sample::CPU_US), 0.9);
    assert_eq!(results.ratio(ECHO, 1, sample::CPU_US), 1.0);
    // Not the ratio of medians where they differ, and nothing where there is nothing.
    assert!(results.ratio(ECHO, 2, sample::CPU_US).is_nan());
    assert!(results.median(Case::Half, 0, sample::CPU_US).is_nan());
}

#[test]
fn base_is_the_first_peer() {
    let results = ours_and_uws(sample::CPU_US);
    assert_eq!(results.name(results.base()), "uws");
}

#[test]
fn highest_rate_is_that_of_the_fastest_websocket_server() {
    let name = sample::PER_SECOND;
    let results = results(&[
        ("64", 0, "ours", name, 90_000.0),
        ("64", 0, "uws", name, 80_000.0),
        ("64", 0, "floor", name, 120_000.0),
        ("pipe", 0, "uws", name, 1_000_000.0),
    ]);
    assert_eq!(results::highest_rate(&results), 90_000.0);
}

#[test]
fn results_come_back_from_their_file() -> Result<()> {
    let results = ours_and_uws(sample::CPU_US);
    let mut again = Results::default();
    again.read(&results.to_json()?)?;
    assert_eq!(again.to_json()?, results.to_json()?);
    Ok(())
}

#[test]
fn case_of_a_second_file_counts_if_the_first_does_not_have_it() -> Result<()> {
    let name = sample::CPU_US;
    let mut all = ours_and_uws(name);
    let second = results(&[
        ("64", 0, "ours", name, 1000.0),
        ("half", 0, "ours", name, 1000.0),
    ]);
    all.read(&second.to_json()?)?;
    assert_eq!(all.rounds(ECHO, 0), 3);
    assert_eq!(all.rounds(Case::Half, 0), 1);
    assert_eq!(all.servers().count(), 4);
    assert_eq!(all.median(Case::Half, 0, name), 1000.0);
    Ok(())
}

#[test]
fn what_is_not_a_number_is_left_out_of_the_file() {
    let sample = Sample::default()
        .with(sample::CPU_US, f64::NAN)
        .with(sample::COUNT, 0.0);
    let back = Sample::from_json(&sample.to_json());
    assert_eq!(back.value(sample::CPU_US), None);
    assert_eq!(back.value(sample::COUNT), Some(0.0));
}

#[test]
fn files_of_other_programs_are_refused() {
    for text in [
        "",
        "{}",
        "[1]",
        r#"{"secs": 1, "text": true, "servers": [], "samples": [{}]}"#,
    ] {
        assert!(Results::default().read(text).is_err(), "{text:?} is taken");
    }
}

#[test]
fn tables_have_a_row_for_each_server_that_was_measured() {
    let table = table::table(&ours_and_uws(sample::CPU_US), ECHO);
    let rows: Vec<_> = table.lines().skip(2).collect();
    assert_eq!(rows.len(), 2, "{table}");
    assert!(
        rows[0].contains(" 18.00 ") && rows[0].contains(" 0.90 "),
        "{table}"
    );
}

#[test]
fn markdown_has_as_many_cells_in_each_row() {
    let table = table::markdown(&ours_and_uws(sample::CPU_US), ECHO);
    let rows: Vec<_> = table.lines().skip(2).collect();
    assert_eq!(rows.len(), 4, "{table}");
    for row in &rows {
        assert_eq!(
            row.matches('|').count(),
            rows[0].matches('|').count(),
            "{table}"
        );
    }
    assert!(
        rows[2].starts_with("| ours |") && rows[2].contains(" 18.00 | 0.90 |"),
        "{table}"
    );
}

#[test]
fn scale_has_round_steps() {
    for (longest, expected) in [
        (1.0, &[0.0, 0.2, 0.4, 0.6, 0.8, 1.0][..]),
        (7.3, &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0][..]),
        (130.0, &[0.0, 20.0, 40.0, 60.0, 80.0, 100.0, 120.0][..]),
    ] {
        let ticks: Vec<_> = Scale::new(longest).ticks().collect();
        let near = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-9;
        assert!(
            ticks.len() == expected.len() && ticks.iter().zip(expected).all(near),
            "{ticks:?}"
        );
    }
}

/// All plots of everything that can be in them.
fn plots() -> Vec<(&'static str, String)> {
    let mut samples = Vec::new();
    for case in case::ALL {
        for (i, server) in ["ours", "uws", "bun", "floor"].into_iter().enumerate() {
            for name in [
                sample::CPU_US,
                sample::PER_SECOND,
                sample::P50_US,
                sample::P99_US,
                sample::P999_US,
                sample::BYTES,
                sample::BYTES_SMALL,
                sample::BYTES_LARGE,
            ] {
                samples.push((case.name(), 0, server, name, 700.0 * 5f64.powi(i as i32)));
            }
        }
    }
    plot::all(&results(&samples))
}

#[test]
fn plots_are_well_formed() -> Result<()> {
    let plots = plots();
    assert_eq!(plots.len(), 4);
    for (name, svg) in plots {
        well_formed(&svg).map_err(|error| format!("{name}: {error}"))?;
    }
    Ok(())
}

/// Whether it is XML that a browser shows as a picture.
fn well_formed(svg: &str) -> Result<()> {
    let document = roxmltree::Document::parse(svg)?;
    let root = document.root_element();
    if root.tag_name().namespace() != Some("http://www.w3.org/2000/svg") {
        return Err("it is no SVG".into());
    }
    let bars = root
        .descendants()
        .filter(|node| node.tag_name().name() == "rect");
    for node in bars {
        for name in ["x", "y", "width", "height"] {
            let number: f64 = node
                .attribute(name)
                .ok_or("a bar without a place")?
                .parse()?;
            if !(0.0..=10_000.0).contains(&number) {
                return Err(format!("a bar with {name} {number}").into());
            }
        }
    }
    Ok(())
}

#[test]
fn committed_plots_show_the_committed_results() -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/plots");
    let benchmarking =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("BENCHMARKING.md"))?;
    let plots = plot::all(&Results::from_files(slice::from_ref(&folder))?);
    assert!(!plots.is_empty());
    for (name, svg) in plots {
        well_formed(&svg)?;
        let committed = fs::read_to_string(folder.join(name))?;
        assert!(
            committed == svg,
            "{name} is old: --from benches/plots --plots benches/plots"
        );
        let reference = format!("(benches/plots/{name})");
        assert!(
            benchmarking.contains(&reference),
            "BENCHMARKING.md has no {reference}"
        );
    }
    Ok(())
}

#[test]
fn plots_name_the_axis_and_all_servers() {
    for (name, svg) in plots() {
        for word in [
            "ours",
            "uws",
            "bun",
            "floor",
            "Quick &amp; Dirty &lt;9000&gt;",
        ] {
            assert!(svg.contains(word), "{name} has no {word}");
        }
        assert!(
            svg.contains("µs") || svg.contains("KiB") || svg.contains("per second"),
            "{name}"
        );
    }
}

#[test]
fn bars_that_are_cut_off_say_so() {
    let name = sample::CPU_US;
    let results = results(&[
        ("64", 0, "ours", name, 9.0),
        ("64", 0, "uws", name, 10.0),
        ("64", 0, "bun", name, 9000.0),
    ]);
    let plots = plot::all(&results);
    assert_eq!(plots.len(), 1);
    let (_, svg) = &plots[0];
    assert!(svg.contains("▸ 900.00 (9000)"), "{svg}");
    assert_eq!(svg.matches('▸').count(), 1);
}

/// The example `floor`, as a program of its own.
fn floor() -> Result<Server> {
    // This is TARGET/PROFILE/deps/benches-HASH.
    let this = env::current_exe()?;
    let profile = this.ancestors().nth(2).ok_or("not built by cargo")?;
    let command = format!("{} {{port}}", profile.join("examples/floor").display());
    let command = ServerCommand::new("floor", Kind::Floor, &command)?;
    Server::start(&command, &Cores::allowed()?)
}

fn echo(name: &str) -> Result<case::Echo> {
    match Case::named(name) {
        Some(Case::Echo(echo)) => Ok(echo),
        other => Err(format!("{other:?} is no echo").into()),
    }
}

/// Measures for longer each time until something is counted: where the machine is busy with other
/// things, nobody may have had a turn in a short time.
fn until_counted(measure: impl Fn(&Options) -> Result<Sample>) -> Result<Sample> {
    let counted = |sample: &Sample| {
        sample.value(sample::COUNT) > Some(0.0) && sample.value(sample::CPU_US) > Some(0.0)
    };
    let sample = measure(&options("--secs 0.1"))?;
    if counted(&sample) {
        return Ok(sample);
    }
    let sample = measure(&options("--secs 10"))?;
    assert!(counted(&sample), "{sample:?}");
    Ok(sample)
}

#[test]
fn echoes_are_counted_and_compared_by_any_number_of_threads() -> Result<()> {
    let server = floor()?;
    for (case, threads) in [("64", 1), ("pipe", 3), ("16k", 2), ("1m", 100)] {
        let echo = echo(case)?;
        until_counted(|options| load::measure(&server, &echo, threads, options))
            .map_err(|error| format!("{case}: {error}"))?;
    }
    Ok(())
}

#[test]
fn open_loop_sends_as_many_as_it_is_told() -> Result<()> {
    let sample = paced::measure(&floor()?, 5000.0, &options("--secs 0.4"))?;
    let count = sample.value(sample::COUNT).unwrap_or_default();
    // 2,000 are expected; chance moves that by 45.
    assert!((1800.0..2200.0).contains(&count), "{sample:?}");
    Ok(())
}

#[test]
fn handshakes_are_counted() -> Result<()> {
    let server = floor()?;
    until_counted(|options| handshake::measure(&server, options))?;
    Ok(())
}

#[test]
fn bytes_that_are_not_the_echo_are_noticed() -> Result<()> {
    let mut server = floor()?;
    // What comes back from the floor is masked, and from a WebSocket server it must not be.
    server.kind = Kind::Peer;
    for threads in [1, 2] {
        match load::measure(&server, &HALF, threads, &options("--secs 0.1")) {
            Err(error) => assert!(error.to_string().contains("the server sends"), "{error}"),
            Ok(sample) => panic!("taken for an echo: {sample:?}"),
        }
    }
    assert!(handshake::measure(&server, &options("--secs 0.1")).is_err());
    Ok(())
}

#[test]
fn server_that_has_ended_is_an_error() -> Result<()> {
    let server = floor()?;
    let id = server.process().to_string();
    assert!(
        Command::new("kill")
            .args(["-KILL", &id])
            .status()?
            .success()
    );
    let options = options("--secs 0.1");
    assert!(load::measure(&server, &HALF, 2, &options).is_err());
    assert!(paced::measure(&server, 1000.0, &options).is_err());
    assert!(handshake::measure(&server, &options).is_err());
    Ok(())
}
