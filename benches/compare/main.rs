//! Runtimes compared: our greenlets, and any others that are given.
//!
//! ```text
//! cargo bench --bench compare
//! cargo bench --bench compare -- --peer 'go=PATH/go_runtime' --cases spawn,yield --json FILE
//! cargo bench --bench compare -- --from FOLDER --plots FOLDER
//! ```
//!
//! | option | meaning |
//! | --- | --- |
//! | `--peer NAME=COMMAND` | another runtime, any number of times; `benches/peers/README.md` has some, and says what is asked of the program |
//! | `--cases spawn,yield,…` | of those below; default all |
//! | `--rounds N` | how often each runtime is measured in each case; default 5 |
//! | `--secs S` | how long each time at least, besides the warm-up; default 0.5 |
//! | `--idle-secs S` | for how long a parked process is watched; default 10 |
//! | `--settle-secs S` | how long after a change of a parked process it is looked at; default 3 |
//! | `--json FILE` | every single measurement, for other tools and for `--from` |
//! | `--from PATH` | results of earlier runs (a file, or a folder of them; may be repeated) in place of measuring |
//! | `--markdown` | tables for a page |
//! | `--plots FOLDER` | what there is to be seen, as SVG |
//! | `--help` | this text |
//!
//! Without options it is a short run of ours alone, whose figures say no more than that it works.
//!
//! | case | what is counted |
//! | --- | --- |
//! | `spawn` | greenlets, each spawned and joined before the next |
//! | `spawn1k` | greenlets, spawned 1,000 at a time and then joined |
//! | `spawnall` | greenlets, all 100,000 spawned before the first is joined |
//! | `yield` | switches: 1,000 greenlets that call `sleep(0)` |
//! | `pingpong` | round trips: two greenlets that wake each other with two semaphores |
//! | `roundtrip` | round trips of a number through two queues |
//! | `queue` | items through a queue with room for 1,024, from one greenlet to another |
//! | `queue2` | the same from one hub to another, on two cores |
//! | `timers`, `timers30k` | 100,000 and 30,000 greenlets that sleep, due at any moment of three seconds: how late they wake, and what each costs |
//! | `parked10k`, `parked100k` | memory per parked greenlet, also after each has used 40 KiB of its stack |
//! | `idle` | processor time of a process with 10,000 parked greenlets |
//!
//! # How it measures
//!
//! Each measurement is a process of its own, bound to one core (`queue2`: to two) and with one
//! thread for greenlets. In each round each runtime is measured in turn, and the order rotates. A
//! process warms up with a tenth of a pass, and then repeats passes until its time is over; it
//! checks the result of each, and takes its own processor time, the kernel's part included.
//!
//! Given are medians over the rounds; a ratio is the median of the rounds' own ratios to ours.
//! *CPU* is what depends least on what else runs. *busy* is processor time by time: where it is not
//! near 100 %, somebody else had the core, and the times say less.
//!
//! Memory is resident memory of the process, three seconds after all greenlets were parked, less
//! what it was before the first of them; their handles count too. A contender that can't do a case
//! says why, and has no row.
#![forbid(unsafe_code)]

mod bars;
mod case;
mod child;
mod options;
mod plot;
#[expect(dead_code, reason = "end_to_end uses what this program leaves out")]
#[path = "../report/mod.rs"]
mod report;
mod table;

use std::process::ExitCode;

use case::Case;
use child::Contender;
use options::Options;
use report::program;
use report::results::{Kind, Measurable as _};
use report::system::{Cores, Machine};

/// What goes wrong here ends as a line of text.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

type Results = report::results::Results<Case>;

fn main() -> ExitCode {
    program::main("compare", include_str!("main.rs"), options::parse, run)
}

/// Measures and prints; whether all went well.
fn run(options: &Options) -> Result<bool> {
    let measure = || measure(options);
    let show = |results: &Results| show(options, results);
    let results = program::results(&options.common, measure, show, plot::all)?;
    print!("{}", bars::verdicts(&results));
    Ok(results.all_well())
}

/// What earlier runs have written.
fn show(options: &Options, results: &Results) {
    println!("{}", table::heading(results));
    if options.common.markdown {
        println!("{}", table::all(results));
        return;
    }
    for case in case::ALL {
        if results.has(case) {
            println!("{}", table::table(results, case));
        }
    }
}

fn measure(options: &Options) -> Result<Results> {
    let cores = Cores::allowed()?;
    let contenders = Contender::all(options)?;
    let names = contenders.iter().map(|contender| {
        let kind = if contender.ours {
            Kind::Ours
        } else {
            Kind::Peer
        };
        (contender.name.clone(), kind)
    });
    let settings = table::settings(options, &contenders)?;
    let mut results = Results::new(names.collect(), Machine::this(&cores), settings);
    println!("{}", table::heading(&results));
    for &case in &options.common.cases {
        if case.threads > cores.count() {
            println!("{}: there are too few cores\n", case.name());
            continue;
        }
        let mut able = vec![true; contenders.len()];
        for round in 0..options.common.rounds {
            for turn in 0..contenders.len() {
                let i = (turn + round) % contenders.len();
                if !able[i] {
                    continue;
                }
                match contenders[i].measure(case, &cores, options) {
                    Ok(Err(child::Cannot(why))) => {
                        println!("{}, {}: {why}", case.name(), contenders[i].name);
                        able[i] = false;
                    }
                    Ok(Ok(sample)) => results.add(case, round, i, Ok(sample)),
                    Err(error) => results.add(case, round, i, Err(error)),
                }
            }
        }
        println!("{}", table::table(&results, case));
    }
    if options.common.markdown {
        println!("{}", table::all(&results));
    }
    Ok(results)
}
