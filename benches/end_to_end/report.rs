//! From single measurements to medians, tables and JSON.

use std::fmt::Write;
use std::time::Duration;

use serde_json::{Value, json};

use crate::Result;
use crate::case::Case;
use crate::histogram::Histogram;
use crate::options::Options;
use crate::server::ServerCommand;
use crate::system::{self, Cores, Cpu};

/// What one measurement gave.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Sample {
    Echo(EchoSample),
    Idle(IdleSample),
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct EchoSample {
    messages: u64,
    per_second: f64,
    /// The server's processor time per message in µs.
    cpu_us: f64,
    p50_us: f64,
    p99_us: f64,
    /// How busy the generator was.
    generator_percent: f64,
    /// How much of the time the server or the generator had to wait for their cores.
    waited_percent: f64,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct IdleSample {
    pub(crate) connections: usize,
    /// Resident memory per connection, after the handshake alone.
    pub(crate) bytes: f64,
    /// The same after one small echo on each.
    pub(crate) bytes_touched: f64,
    /// Processor time of the process, of one core.
    pub(crate) cpu_percent: f64,
}

impl EchoSample {
    pub(crate) fn new(
        elapsed: Duration,
        latencies: &Histogram,
        server: Cpu,
        generator: Cpu,
    ) -> EchoSample {
        let messages = latencies.total();
        let micros = |duration: Duration| duration.as_secs_f64() * 1e6;
        let percent = |duration: Duration| duration.as_secs_f64() / elapsed.as_secs_f64() * 100.0;
        EchoSample {
            messages,
            per_second: messages as f64 / elapsed.as_secs_f64(),
            // Not a number if there was no message; the table shows it so.
            cpu_us: micros(server.busy) / messages as f64,
            p50_us: micros(latencies.quantile(0.5)),
            p99_us: micros(latencies.quantile(0.99)),
            generator_percent: percent(generator.busy),
            waited_percent: percent(server.waited + generator.waited),
        }
    }
}

#[derive(Debug)]
struct Record {
    case: Case,
    round: usize,
    /// Its place among the names.
    server: usize,
    sample: Sample,
}

/// All that has been measured.
#[derive(Debug)]
pub(crate) struct Results {
    names: Vec<String>,
    rounds: usize,
    secs: f64,
    text: bool,
    records: Vec<Record>,
    failed: bool,
}

impl Results {
    pub(crate) fn new(commands: &[ServerCommand], options: &Options) -> Results {
        Results {
            names: commands
                .iter()
                .map(|command| command.name.clone())
                .collect(),
            rounds: options.rounds,
            secs: options.duration.as_secs_f64(),
            text: options.text,
            records: Vec::new(),
            failed: false,
        }
    }

    pub(crate) fn add(
        &mut self,
        case: Case,
        round: usize,
        server: usize,
        measured: Result<Sample>,
    ) {
        match measured {
            Ok(sample) => self.records.push(Record {
                case,
                round,
                server,
                sample,
            }),
            Err(error) => {
                self.failed = true;
                eprintln!("{}, {}: {error}", case.name(), self.names[server]);
            }
        }
    }

    pub(crate) fn all_well(&self) -> bool {
        !self.failed
    }

    /// Where and how it is measured.
    pub(crate) fn heading(&self, cores: &Cores) -> String {
        let kind = if self.text { "text" } else { "binary" };
        let place = if cores.is_one() {
            "servers and generator SHARE the only core: the figures say little".to_owned()
        } else {
            let Cores { server, generator } = cores;
            format!("servers on core {server}, generator on core {generator}")
        };
        format!(
            "{}; {place}\n{kind} messages, {} s each, medians of {}, ratios to {}\n",
            system::processor(),
            self.secs,
            self.rounds,
            self.names[self.base()],
        )
    }

    /// The server that the others are compared with: the first peer, or ourselves without one.
    fn base(&self) -> usize {
        1.min(self.names.len() - 1)
    }

    pub(crate) fn table(&self, case: Case) -> String {
        let mut table = case.describe() + "\n";
        match case {
            Case::Echo(_) | Case::FanOut(_) => self.echo_table(case, &mut table),
            Case::Idle => self.idle_table(case, &mut table),
        }
        table
    }

    fn echo_table(&self, case: Case, table: &mut String) {
        let row = "server";
        writeln!(
            table,
            "  {row:<12}{:>12}{:>7}{:>10}{:>7}{:>11}{:>11}{:>7}{:>8}",
            "messages/s", "ratio", "CPU µs", "ratio", "p50 µs", "p99 µs", "load", "waited"
        )
        .ok();
        for (server, name) in self.names.iter().enumerate() {
            let column = |pick: fn(&EchoSample) -> f64| self.median(case, server, echo(pick));
            let ratio = |pick: fn(&EchoSample) -> f64| self.ratio(case, server, echo(pick));
            writeln!(
                table,
                "  {name:<12}{:>12.0}{:>7.2}{:>10.2}{:>7.2}{:>11.1}{:>11.1}{:>6.0}%{:>7.1}%",
                column(|sample| sample.per_second),
                ratio(|sample| sample.per_second),
                column(|sample| sample.cpu_us),
                ratio(|sample| sample.cpu_us),
                column(|sample| sample.p50_us),
                column(|sample| sample.p99_us),
                column(|sample| sample.generator_percent),
                column(|sample| sample.waited_percent),
            )
            .ok();
        }
    }

    fn idle_table(&self, case: Case, table: &mut String) {
        let row = "server";
        writeln!(
            table,
            "  {row:<12}{:>13}{:>14}{:>7}{:>22}{:>12}",
            "connections", "B/connection", "ratio", "B after an echo each", "CPU of 1 s"
        )
        .ok();
        for (server, name) in self.names.iter().enumerate() {
            let column = |pick: fn(&IdleSample) -> f64| self.median(case, server, idle(pick));
            writeln!(
                table,
                "  {name:<12}{:>13.0}{:>14.0}{:>7.2}{:>22.0}{:>9.2} ms",
                column(|sample| sample.connections as f64),
                column(|sample| sample.bytes),
                self.ratio(case, server, idle(|sample| sample.bytes)),
                column(|sample| sample.bytes_touched),
                column(|sample| sample.cpu_percent * 10.0),
            )
            .ok();
        }
    }

    /// The median over the rounds.
    fn median(&self, case: Case, server: usize, pick: impl Fn(&Sample) -> Option<f64>) -> f64 {
        median(self.values(case, server, &pick).map(|(_, value)| value))
    }

    /// The median over the rounds' ratios to the base.
    fn ratio(&self, case: Case, server: usize, pick: impl Fn(&Sample) -> Option<f64>) -> f64 {
        let base: Vec<_> = self.values(case, self.base(), &pick).collect();
        let ratios = self
            .values(case, server, &pick)
            .filter_map(|(round, value)| {
                let (_, base) = base.iter().find(|&&(other, _)| other == round)?;
                Some(value / base)
            });
        median(ratios)
    }

    /// Rounds and values.
    fn values(
        &self,
        case: Case,
        server: usize,
        pick: &impl Fn(&Sample) -> Option<f64>,
    ) -> impl Iterator<Item = (usize, f64)> {
        self.records
            .iter()
            .filter(move |record| record.case == case && record.server == server)
            .filter_map(move |record| Some((record.round, pick(&record.sample)?)))
    }

    /// Every measurement.
    pub(crate) fn json(&self, cores: &Cores) -> Result<String> {
        let samples: Vec<_> = self
            .records
            .iter()
            .map(|record| {
                let mut value = record.sample.json();
                value["case"] = record.case.name().into();
                value["round"] = record.round.into();
                value["server"] = self.names[record.server].as_str().into();
                value
            })
            .collect();
        let all = json!({
            "processor": system::processor(),
            "server_core": cores.server,
            "generator_core": cores.generator,
            "secs": self.secs,
            "text": self.text,
            "samples": samples,
        });
        Ok(serde_json::to_string_pretty(&all)? + "\n")
    }
}

impl Sample {
    fn json(&self) -> Value {
        match self {
            Sample::Echo(sample) => json!({
                "messages": sample.messages,
                "messages_per_second": sample.per_second,
                "server_cpu_us_per_message": sample.cpu_us,
                "p50_us": sample.p50_us,
                "p99_us": sample.p99_us,
                "generator_percent": sample.generator_percent,
                "waited_percent": sample.waited_percent,
            }),
            Sample::Idle(sample) => json!({
                "connections": sample.connections,
                "bytes_per_connection": sample.bytes,
                "bytes_per_connection_after_echo": sample.bytes_touched,
                "cpu_percent": sample.cpu_percent,
            }),
        }
    }
}

fn echo(pick: impl Fn(&EchoSample) -> f64) -> impl Fn(&Sample) -> Option<f64> {
    move |sample| match sample {
        Sample::Echo(sample) => Some(pick(sample)),
        Sample::Idle(_) => None,
    }
}

fn idle(pick: impl Fn(&IdleSample) -> f64) -> impl Fn(&Sample) -> Option<f64> {
    move |sample| match sample {
        Sample::Idle(sample) => Some(pick(sample)),
        Sample::Echo(_) => None,
    }
}

/// Not a number if there are no values.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.filter(|value| !value.is_nan()).collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}
