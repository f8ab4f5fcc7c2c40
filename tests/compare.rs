//! The measuring program `benches/compare`: what it computes and draws, what it makes of
//! contenders, and that our own does its works.
//!
//! `cargo test` builds the examples too; with `--test compare` it does not, so that one comes after
//! a `cargo build --example runtime_works`.
#![expect(
    dead_code,
    reason = "the program itself uses what these tests leave out"
)]

#[path = "../benches/compare/bars.rs"]
mod bars;
#[path = "../benches/compare/case.rs"]
mod case;
#[path = "../benches/compare/child.rs"]
mod child;
#[path = "../benches/compare/options.rs"]
mod options;
#[path = "../benches/compare/plot.rs"]
mod plot;
#[path = "../benches/report/mod.rs"]
mod report;
#[path = "../benches/compare/table.rs"]
mod table;

use std::env;
use std::fs;
use std::path::Path;
use std::slice;
use std::time::Duration;

use case::{Case, Measure};
use child::{Cannot, Contender};
use options::Options;
use report::results::Measurable as _;
use report::sample::Sample;
use report::system::Cores;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

type Results = report::results::Results<Case>;

fn options(line: &str) -> Result<Option<Options>> {
    options::parse(line.split_whitespace().map(str::to_owned))
}

fn quick() -> Result<Options> {
    Ok(options("--secs 0.001 --idle-secs 0.05 --settle-secs 0.05")?.ok_or("nothing to do")?)
}

/// Of ours and two others, in a file as the program writes it: case, contender, number and value.
fn results(samples: &[(&str, &str, &str, f64)]) -> Results {
    let samples: Vec<_> = samples
        .iter()
        .map(|&(case, server, name, value)| {
            serde_json::json!({"case": case, "round": 0, "server": server, name: value})
        })
        .collect();
    let text = serde_json::json!({
        "machine": {"processor": "Quick & Dirty <9000>", "system": "Linux 6.18", "cores": 2},
        "secs": 0.5,
        "idle_secs": 10.0,
        "versions": {"ours": "0.1.0", "gevent": "26.9.0"},
        "servers": [
            {"name": "ours", "kind": "ours"},
            {"name": "gevent", "kind": "peer"},
            {"name": "tokio-multi", "kind": "peer"},
        ],
        "samples": samples,
    });
    let mut results = Results::default();
    if let Err(error) = results.read(&text.to_string()) {
        panic!("{error}");
    }
    results
}

/// A contender that is a script, which gets WORK COUNT THREADS SECONDS.
fn script(name: &str, text: &str) -> Result<Contender> {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("compare-{name}.sh"));
    fs::write(&file, text)?;
    Ok(Contender::peer(name, &format!("sh {}", file.display())))
}

fn measure(contender: &Contender, case: Case) -> Result<std::result::Result<Sample, Cannot>> {
    contender.measure(case, &Cores::allowed()?, &quick()?)
}

fn measured(contender: &Contender, case: Case) -> Result<Sample> {
    match measure(contender, case)? {
        Ok(sample) => Ok(sample),
        Err(Cannot(why)) => Err(why.into()),
    }
}

fn case(name: &str) -> Result<Case> {
    Ok(Case::named(name).ok_or_else(|| format!("no case {name}"))?)
}

/// The example that is our contender.
fn ours() -> Result<Contender> {
    // This is TARGET/PROFILE/deps/compare-HASH.
    let this = env::current_exe()?;
    let profile = this.ancestors().nth(2).ok_or("not built by cargo")?;
    let program = profile.join("examples/runtime_works");
    Ok(Contender::peer("ours", &program.display().to_string()))
}

#[test]
fn nothing_is_measured_when_called_as_a_test() -> Result<()> {
    assert!(options("")?.is_none());
    assert!(options("--bench end_to_end")?.is_none());
    assert!(options("--bench")?.is_some());
    assert!(options("--bench comp")?.is_some());
    Ok(())
}

#[test]
fn options_are_taken() -> Result<()> {
    let line = "--bench --peer go=some/go_runtime --cases yield,idle --rounds 7 --secs 0.25";
    let options = options(line)?.ok_or("nothing to do")?;
    assert_eq!(
        options.common.peers,
        [("go".to_owned(), "some/go_runtime".to_owned())]
    );
    let names: Vec<_> = options
        .common
        .cases
        .iter()
        .map(|case| case.name())
        .collect();
    assert_eq!(names, ["yield", "idle"]);
    assert_eq!(
        (options.common.rounds, options.common.duration),
        (7, Duration::from_millis(250))
    );
    Ok(())
}

#[test]
fn wrong_options_are_refused() {
    for (line, why) in [
        ("--cases yields", "no case \"yields\""),
        ("--peer go", "NAME=COMMAND"),
        ("--peer", "wants a value"),
        ("--rounds 0", "more than nothing"),
        ("--secs 0", "more than nothing"),
        ("--idle-secs 0", "more than nothing"),
        ("--secs -1", "negative"),
        ("--fast", "unknown option"),
    ] {
        match options(line) {
            Err(error) => assert!(error.to_string().contains(why), "{line}: {error}"),
            Ok(other) => panic!("{line} is taken: {other:?}"),
        }
    }
}

#[test]
fn our_contender_does_all_works_and_checks_them() -> Result<()> {
    assert_eq!(ours()?.version()?, env!("CARGO_PKG_VERSION"));
    let cores = Cores::allowed()?.count();
    let cases = case::ALL.into_iter().filter(|case| case.threads <= cores);
    // At the same time: sleepers sleep for seconds, however few they are.
    std::thread::scope(|scope| {
        let cases: Vec<_> = cases
            .map(|case| scope.spawn(move || does(case).map_err(|error| error.to_string())))
            .collect();
        for case in cases {
            assert_eq!(case.join().expect("it does not panic"), Ok(()));
        }
    });
    Ok(())
}

fn does(case: Case) -> Result<()> {
    let count = match case.measure {
        // Enough for each of the thousand that take turns, also in the warm-up.
        Measure::Time => 20_000,
        _ => 200,
    };
    let case = Case { count, ..case };
    let sample = measured(&ours()?, case).map_err(|error| format!("{}: {error}", case.name()))?;
    let expected: &[_] = match case.measure {
        Measure::Time => &[child::NS, child::CPU_NS],
        Measure::Lateness => &[child::LATE_P50_US, child::LATE_P99_US, child::LATE_MAX_US],
        Measure::Memory => &[child::BYTES, child::BYTES_USED],
        Measure::Idle => &[child::IDLE_PERCENT],
    };
    for name in expected {
        if sample.value(name).is_none() {
            return Err(format!("{}: no {name}: {sample:?}", case.name()).into());
        }
    }
    Ok(())
}

#[test]
fn contender_says_what_an_operation_took() -> Result<()> {
    let text = "[ $1 = yield ] && echo operations $2 && echo elapsed_ns $(($2 * 40)) && \
                echo cpu_ns $(($2 * 30))";
    let sample = measured(&script("times", text)?, case("yield")?)?;
    assert_eq!(sample.value(child::NS), Some(40.0));
    assert_eq!(sample.value(child::CPU_NS), Some(30.0));
    assert_eq!(sample.value(child::BUSY_PERCENT), Some(75.0));
    Ok(())
}

#[test]
fn contender_waits_at_each_stage() -> Result<()> {
    let text = "for stage in ready parked used; do echo stage $stage; read line || exit 1; done; \
                echo operations $2";
    let sample = measured(&script("stages", text)?, case("parked10k")?)?;
    // A shell that has grown by some pages at most, by ten thousand.
    for name in [child::BYTES, child::BYTES_USED] {
        assert!(
            sample.value(name).is_some_and(|bytes| bytes.abs() < 200.0),
            "{sample:?}"
        );
    }
    let sample = measured(&script("idle", text)?, case("idle")?)?;
    assert!(sample.value(child::IDLE_PERCENT).is_some(), "{sample:?}");
    assert!(sample.value(child::BYTES).is_none(), "{sample:?}");
    Ok(())
}

#[test]
fn contender_may_say_that_it_cannot() -> Result<()> {
    match measure(&script("cannot", "echo cannot fly today")?, case("spawn")?)? {
        Err(Cannot(why)) => assert_eq!(why, "fly today"),
        Ok(sample) => panic!("{sample:?}"),
    }
    Ok(())
}

#[test]
fn contender_that_fails_or_does_less_is_an_error() -> Result<()> {
    for (name, text, why) in [
        ("fails", "echo operations $2; exit 3", "ended"),
        ("silent", "", "NaN operations"),
        ("less", "echo operations 5", "5 operations"),
        ("talks", "echo hello there", "hello"),
        ("lost", "echo stage nowhere", "unknown stage"),
    ] {
        match measure(&script(name, text)?, case("spawn")?) {
            Err(error) => assert!(error.to_string().contains(why), "{name}: {error}"),
            Ok(other) => panic!("{name} is taken: {other:?}"),
        }
    }
    assert!(
        script("no-version", "echo operations 1")?
            .version()
            .is_err()
    );
    Ok(())
}

#[test]
fn ratios_refer_to_ours() {
    let results = results(&[
        ("yield", "ours", child::CPU_NS, 50.0),
        ("yield", "gevent", child::CPU_NS, 1500.0),
    ]);
    assert_eq!(results.name(results.base()), "ours");
    let table = table::all(&results);
    assert!(
        table.contains("| 50.0 ns | 1.50 µs, 30.0× | – |"),
        "{table}"
    );
}

#[test]
fn verdicts_tell_bars_that_are_met_from_those_that_are_missed() {
    let text = bars::verdicts(&results(&[
        ("yield", "ours", child::CPU_NS, 50.0),
        ("yield", "gevent", child::CPU_NS, 1500.0),
        ("yield", "tokio-multi", child::CPU_NS, 40.0),
        ("spawn", "ours", child::CPU_NS, 50.0),
        ("spawn", "tokio-multi", child::CPU_NS, 40.0),
        ("parked10k", "ours", child::BYTES, 5000.0),
        ("parked10k", "ours", child::BYTES_USED, 6000.0),
        ("idle", "ours", child::IDLE_PERCENT, 0.01),
        ("timers", "gevent", child::CPU_NS, 1500.0),
    ]));
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 6, "{text}");
    for (line, start) in lines.iter().zip([
        "met: yield: CPU time of gevent, 30.0×",
        "MISSED: yield: CPU time of tokio-multi, 0.80×",
        "MISSED: timers: ours does not do it here",
        "met: parked10k: bytes 4.88 KiB",
        "MISSED: parked10k: bytes_after_40_kib 5.86 KiB",
        "met: idle: idle_percent 0.010 %",
    ]) {
        assert!(line.starts_with(start), "{line} is not {start}");
    }
}

#[test]
fn results_come_back_from_their_file() -> Result<()> {
    let results = results(&[("yield", "ours", child::CPU_NS, 50.0)]);
    let mut again = Results::default();
    again.read(&results.to_json()?)?;
    assert_eq!(again.to_json()?, results.to_json()?);
    assert!(table::heading(&again).contains("gevent: 26.9.0"));
    Ok(())
}

#[test]
fn plots_are_drawn_of_all_that_was_measured() -> Result<()> {
    let mut samples = Vec::new();
    let numbers = [
        child::CPU_NS,
        child::LATE_P50_US,
        child::LATE_P99_US,
        child::BYTES,
        child::BYTES_USED,
    ];
    for case in case::ALL {
        for (i, server) in ["ours", "gevent", "tokio-multi"].into_iter().enumerate() {
            for name in numbers {
                samples.push((case.name(), server, name, 70.0 * 20f64.powi(i as i32)));
            }
        }
    }
    let plots = plot::all(&results(&samples));
    assert_eq!(plots.len(), 3);
    for (name, svg) in plots {
        let document = roxmltree::Document::parse(&svg)?;
        assert_eq!(document.root_element().tag_name().name(), "svg", "{name}");
        for word in [
            "ours",
            "gevent",
            "tokio-multi",
            "Quick &amp; Dirty",
            "less is better",
        ] {
            assert!(svg.contains(word), "{name} has no {word}");
        }
    }
    Ok(())
}

#[test]
fn committed_plots_show_the_committed_results() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = root.join("benches/plots/runtime");
    let pages = fs::read_to_string(root.join("BENCHMARKING.md"))?;
    let results = Results::from_files(slice::from_ref(&folder))?;
    let plots = plot::all(&results);
    assert!(!plots.is_empty());
    for (name, svg) in plots {
        let committed = fs::read_to_string(folder.join(name))?;
        assert!(
            committed == svg,
            "{name} is old: --from benches/plots/runtime --plots benches/plots/runtime"
        );
        let reference = format!("(benches/plots/runtime/{name})");
        assert!(
            pages.contains(&reference),
            "BENCHMARKING.md has no {reference}"
        );
    }
    // The table of the page is the one that `--markdown` prints.
    assert!(
        pages.contains(&table::all(&results)),
        "BENCHMARKING.md has another table: --from benches/plots/runtime --markdown"
    );
    assert!(
        fs::read_to_string(root.join("README.md"))?.contains("(benches/plots/runtime/time.svg)"),
        "README.md does not show the plot"
    );
    Ok(())
}
