//! Echo servers compared over loopback: ours, and any others that are given.
//!
//! ```text
//! cargo bench --bench end_to_end
//! cargo bench --bench end_to_end -- --peer 'uws=PATH/uws_echo {port}' --rounds 5 --secs 2 --json FILE
//! ```
//!
//! | option | meaning |
//! | --- | --- |
//! | `--peer NAME=COMMAND` | another server, any number of times; `{port}` in the command becomes a free port. `benches/peers/README.md` has some |
//! | `--ours COMMAND` | our own, in place of the example `echo_bench` on one hub |
//! | `--cases 64,pipe,…` | of those below; default all |
//! | `--rounds N` | how often each server is measured in each case; default 5 |
//! | `--secs S` | how long each time, besides the warm-up; default 2 |
//! | `--text` | text messages instead of binary ones |
//! | `--json FILE` | every single measurement, for other tools |
//!
//! Without options it is a short run of ours alone, whose figures say no more than that it works.
//!
//! | case | what |
//! | --- | --- |
//! | `64` | 100 connections, 64 B, one message at a time each |
//! | `pipe` | 100 connections, 64 B, 16 messages outstanding each |
//! | `16k` | 100 connections, 16 KiB, one at a time each |
//! | `1m` | 8 connections, 1 MiB, one at a time each |
//! | `fanout` | 5,000 connections to `/fanout`, where what one says goes to all; 64 B, one message at a time |
//! | `fanout1k` | the same with 1 KiB |
//! | `idle` | 5,000 connections that say nothing: resident memory per connection, and the processor time of the whole process |
//!
//! # How it measures
//!
//! The servers run all the while, and in each round each is measured in turn; the order rotates.
//! They are bound to one core and the generator to another. The generator is a closed loop: each
//! connection has as many messages outstanding as the case says, and sends the next one when an
//! echo has come back whole. All bytes of all echoes are compared with what was sent.
//!
//! Given are medians over the rounds; a ratio is the median of the rounds' own ratios to the first
//! peer. Of the columns, *CPU* is the server's processor time per message, system calls included,
//! and depends least on the generator and on what else runs. *load* is how busy the generator was:
//! near 100 % it was the bottleneck, and messages per second say little. *waited* is how long the
//! two had to wait for their cores because of others: over a few percent, measure again. Latencies
//! are those under this full load.
//!
//! In `fanout` a message is what one of the connections gets: a publication is 5,000 of them. The next
//! is sent when all have got the last. A peer that does not know `/fanout` fails there:
//! `--cases` chooses. Latencies are those from the sending to each of the arrivals.
//!
//! `idle` takes a fresh server each time, which has served one connection before. Memory of the
//! kernel (socket buffers) is not counted.
#![forbid(unsafe_code)]

mod case;
mod connection;
mod fanout;
mod histogram;
mod idle;
mod load;
mod options;
mod report;
mod server;
mod system;

use std::process::ExitCode;

use case::Case;
use options::{Asked, Options};
use report::Results;
use server::Server;

/// What goes wrong here ends as a line of text.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let options = match options::parse(std::env::args().skip(1)) {
        Ok(Asked::Run(options)) => options,
        Ok(Asked::Nothing) => return ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("end_to_end: {error}; benches/end_to_end/main.rs has the options");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("end_to_end: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Measures and prints; whether all went well.
fn run(options: &Options) -> Result<bool> {
    let commands = server::commands(options)?;
    let cores = system::Cores::pick()?;
    system::raise_descriptor_limit();
    let mut results = Results::new(&commands, options);
    println!("{}", results.heading(&cores));

    let servers = commands
        .iter()
        .map(|command| Server::start(command, &cores))
        .collect::<Result<Vec<_>>>()?;
    for &case in &options.cases {
        for round in 0..options.rounds {
            for turn in 0..commands.len() {
                let i = (turn + round) % commands.len();
                let measured = match case {
                    Case::Idle => idle::measure(&commands[i], &cores, options),
                    Case::Echo(echo) => load::measure(&servers[i], &echo, options),
                    Case::FanOut(fan_out) => fanout::measure(&servers[i], &fan_out, options),
                };
                results.add(case, round, i, measured);
            }
        }
        println!("{}", results.table(case));
    }
    if let Some(file) = &options.json {
        std::fs::write(file, results.json(&cores)?)?;
    }
    Ok(results.all_well())
}
