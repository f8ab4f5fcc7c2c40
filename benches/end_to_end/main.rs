//! Echo servers compared over loopback: ours, and any others that are given.
//!
//! ```text
//! cargo bench --bench end_to_end
//! cargo bench --bench end_to_end -- --peer 'uws=PATH/uws_echo {port}' --floor --json FILE
//! cargo bench --bench end_to_end -- --hubs 2 --cases 64,pipe,16k
//! cargo bench --bench end_to_end -- --from FOLDER --plots FOLDER
//! ```
//!
//! | option | meaning |
//! | --- | --- |
//! | `--peer NAME=COMMAND` | another server, any number of times; `{port}` in the command becomes a free port. `benches/peers/README.md` has some |
//! | `--ours COMMAND` | our own, in place of the example `echo_bench` on one hub |
//! | `--parked` | ours once more with the argument `--parked`, as another row |
//! | `--floor` | the limit, `benches/peers/floor.rs`, as another row |
//! | `--hubs N` | `echo_bench` with N hubs on N cores against itself with one on one, and nothing else |
//! | `--cases 64,pipe,…` | of those below; default all |
//! | `--rounds N` | how often each server is measured in each case; default 5 |
//! | `--secs S` | how long each time, besides the warm-up; default 2 |
//! | `--rate N` | messages per second in the case `half`, in place of half of the highest rate |
//! | `--text` | text messages instead of binary ones |
//! | `--json FILE` | every single measurement, for other tools and for `--from` |
//! | `--from PATH` | results of earlier runs (a file, or a folder of them; may be repeated) in place of measuring |
//! | `--markdown` | tables for a page |
//! | `--plots FOLDER` | what there is to be seen, as SVG |
//! | `--help` | this text |
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
//! | `half` | as `64`, but at half of the highest rate of the fastest server: latencies |
//! | `handshake` | 100 connections at a time that connect, upgrade and close, and are replaced |
//! | `idle` | 5,000 connections that say nothing: resident memory per connection, and the processor time of the whole process |
//! | `idle20k` | the same with 20,000, or as many as the hard limit on descriptors allows |
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
//! The floor echoes bytes and parses nothing, so what it sends back is still masked; the generator
//! knows that, and compares all the same.
//!
//! In `fanout` a message is what one of the connections gets: a publication is 5,000 of them. The
//! next is sent when all have got the last. A peer that does not know `/fanout` fails there:
//! `--cases` chooses. Latencies are those from the sending to each of the arrivals.
//!
//! `half` is an open loop: messages become due at random moments, the same for each server, at half
//! of the highest rate that a WebSocket server reached in the case `64`, which is run before.
//! Latencies count from when a message was due, not from when it could be sent, so a server that
//! stalls can't hide it. *late* is how far behind the generator itself was: where that is as much
//! as the latency, the latter is the generator's, or somebody else's who uses the core. *server* is
//! how busy the server was.
//!
//! `handshake` waits for the server's Close frame and for its end, and closes then: so it is the
//! server that has its part of the work of closing. On loopback the client pays for most of a
//! connect; *load* tells whether more would have been possible.
//!
//! `idle` takes a fresh server each time, which has served one connection before. Memory is read
//! after the handshakes, after an echo of 64 B on each, and after one of 64 KiB on each, two
//! seconds later in each case. Memory of the kernel (socket buffers) is not counted.
//!
//! With `--hubs` the generator has all other cores, with a thread on each; if there are none, it
//! shares the hubs'. Then messages per second can't double, as the generator needs about as much
//! time as the server: two hubs would have to share two cores with it. *capacity* is what can be
//! compared: messages per second of processor time of the server's busiest thread, which is what it
//! could do with its cores for itself. Its ratio falls if hubs get in each other's way (locks,
//! caches), and if connections are spread unevenly.
#![forbid(unsafe_code)]

mod case;
mod connection;
mod fanout;
mod handshake;
mod histogram;
mod idle;
mod load;
mod options;
mod paced;
mod plot;
#[path = "../report/mod.rs"]
mod report;
mod results;
mod sample;
mod server;
mod table;

use std::process::ExitCode;

use case::Case;
use options::Options;
use report::program;
use report::results::Kind;
use report::system::{self, Cores, Machine};
use results::Results;
use server::Server;

/// What goes wrong here ends as a line of text.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    program::main("end_to_end", include_str!("main.rs"), options::parse, run)
}

/// Measures and prints; whether all went well.
fn run(options: &Options) -> Result<bool> {
    let measure = || measure(options);
    let show = |results: &Results| show(options, results);
    let results = program::results(&options.common, measure, show, plot::all)?;
    Ok(results.all_well())
}

/// What earlier runs have written.
fn show(options: &Options, results: &Results) {
    println!("{}", table::heading(results));
    let table = options.table();
    for case in case::ALL {
        if results.has(case) {
            println!("{}", table(results, case));
        }
    }
}

fn measure(options: &Options) -> Result<Results> {
    let commands = server::commands(options)?;
    let cores = Cores::allowed()?;
    system::raise_descriptor_limit();
    let servers = commands.iter();
    let servers = servers.map(|command| (command.name.clone(), command.kind));
    let settings = table::settings(options.common.duration, options.text);
    let mut results = Results::new(servers.collect(), Machine::this(&cores), settings);
    println!("{}", table::heading(&results));
    if commands.iter().any(|command| cores.shared(command.cores)) {
        println!("There is no core for the generator alone: it takes part of the servers'.\n");
    }

    let table = options.table();
    let servers = commands
        .iter()
        .map(|command| Server::start(command, &cores))
        .collect::<Result<Vec<_>>>()?;
    for &case in &options.common.cases {
        let rate = options
            .rate
            .unwrap_or_else(|| results::highest_rate(&results) / 2.0);
        if case == Case::Half {
            let what = options
                .rate
                .map_or("half of the highest rate", |_| "as asked for");
            println!("The open loop sends {rate:.0} messages/s, {what}.");
        }
        for round in 0..options.common.rounds {
            for turn in 0..commands.len() {
                let i = (turn + round) % commands.len();
                let (command, server) = (&commands[i], &servers[i]);
                let mine = cores.generator(command.cores);
                // With hubs to be kept busy, the generator takes all that it can get.
                let mine = match command.kind {
                    Kind::Hubs => mine,
                    _ => &mine[..1],
                };
                Cores::bind(mine)?;
                let measured = match case {
                    Case::Echo(echo) => load::measure(server, &echo, mine.len(), options),
                    Case::FanOut(fan_out) => fanout::measure(server, &fan_out, options),
                    Case::Half => paced::measure(server, rate, options),
                    Case::Handshake => handshake::measure(server, options),
                    Case::Idle(idle) => idle::measure(command, &idle, &cores, options),
                };
                results.add(case, round, i, measured);
            }
        }
        println!("{}", table(&results, case));
    }
    Ok(results)
}

impl Options {
    /// What makes the tables.
    fn table(&self) -> fn(&Results, Case) -> String {
        if self.common.markdown {
            table::markdown
        } else {
            table::table
        }
    }
}
