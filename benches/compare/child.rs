//! Contenders: processes that do what they are told, and say what it took.

use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use crate::Result;
use crate::case::{Case, Measure};
use crate::options::Options;
use crate::report::example::built;
use crate::report::process::{Running, pause};
use crate::report::sample::Sample;
use crate::report::system::{self, Cores, Cpu};

/// The example that is our contender.
const OURS: &str = "runtime_works";

/// How long a contender may take from one line to the next, and from the last to its end.
const LIMIT: Duration = Duration::from_secs(300);

/// How many operations were counted.
pub(crate) const COUNT: &str = "operations";
/// Of one operation.
pub(crate) const NS: &str = "ns";
pub(crate) const CPU_NS: &str = "cpu_ns";
/// Processor time by time.
pub(crate) const BUSY_PERCENT: &str = "busy_percent";
/// How late sleepers were.
pub(crate) const LATE_P50_US: &str = "late_p50_us";
pub(crate) const LATE_P99_US: &str = "late_p99_us";
pub(crate) const LATE_MAX_US: &str = "late_max_us";
/// The memory before the first of the greenlets.
const READY: &str = "ready";
/// Resident memory per parked greenlet: at first, and after each has used 40 KiB of its stack.
pub(crate) const BYTES: &str = "bytes";
pub(crate) const BYTES_USED: &str = "bytes_after_40_kib";
/// Processor time of the parked process, in percent of one core.
pub(crate) const IDLE_PERCENT: &str = "idle_percent";

/// Why a contender does not do something.
#[derive(Debug)]
pub(crate) struct Cannot(pub(crate) String);

/// A runtime that is measured.
#[derive(Debug)]
pub(crate) struct Contender {
    pub(crate) name: String,
    pub(crate) ours: bool,
    words: Vec<String>,
}

impl Contender {
    /// Ours, and those that were given.
    pub(crate) fn all(options: &Options) -> Result<Vec<Contender>> {
        let mut all = vec![Contender {
            name: "ours".to_owned(),
            ours: true,
            words: vec![built(OURS)?],
        }];
        for (name, command) in &options.common.peers {
            all.push(Contender::peer(name, command));
        }
        Ok(all)
    }

    pub(crate) fn peer(name: &str, command: &str) -> Contender {
        Contender {
            name: name.to_owned(),
            ours: false,
            words: command.split_whitespace().map(str::to_owned).collect(),
        }
    }

    /// What it says of its version.
    pub(crate) fn version(&self) -> Result<String> {
        let mut process = self.start(&["version", "1", "1", "1"])?;
        match process.line()? {
            Some((name, version)) if name == "version" => {
                process.end()?;
                Ok(version)
            }
            other => Err(format!("{} says {other:?} in place of its version", self.name).into()),
        }
    }

    /// Has it do the work once.
    pub(crate) fn measure(
        &self,
        case: Case,
        cores: &Cores,
        options: &Options,
    ) -> Result<std::result::Result<Sample, Cannot>> {
        let numbers = [
            case.count.to_string(),
            case.threads.to_string(),
            options.common.duration.as_secs_f64().to_string(),
        ];
        let [count, threads, secs] = numbers.each_ref().map(String::as_str);
        let start = || self.start(&[case.work, count, threads, secs]);
        let mut process = cores.on_server(case.threads, start)??;
        let measured = process.measure(case, options);
        measured.map_err(|error| format!("{}: {error}", self.name).into())
    }

    fn start(&self, arguments: &[&str]) -> Result<Process> {
        let (program, words) = self.words.split_first().ok_or("an empty command")?;
        let mut child = Command::new(program)
            .args(words)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{} ({program}): {error}", self.name))?;
        let input = child.stdin.take().ok_or("no pipe")?;
        let output = BufReader::new(child.stdout.take().ok_or("no pipe")?);
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(std::result::Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Process {
            child: Running(child),
            input,
            lines,
        })
    }
}

/// A contender at work.
#[derive(Debug)]
struct Process {
    child: Running,
    input: ChildStdin,
    lines: Receiver<String>,
}

impl Process {
    fn measure(
        &mut self,
        case: Case,
        options: &Options,
    ) -> Result<std::result::Result<Sample, Cannot>> {
        let (mut sample, mut before) = (Sample::default(), 0.0);
        let (mut operations, mut elapsed, mut cpu) = (f64::NAN, f64::NAN, f64::NAN);
        while let Some((name, rest)) = self.line()? {
            if name == "cannot" {
                return Ok(Err(Cannot(rest)));
            }
            if name == "stage" {
                let stage = self.stage(case, options, &rest)?;
                for (name, value) in stage {
                    match name {
                        READY => before = value,
                        BYTES | BYTES_USED => {
                            sample = sample.with(name, (value - before) / case.count as f64);
                        }
                        _ => sample = sample.with(name, value),
                    }
                }
                self.input.write_all(b"\n")?;
                continue;
            }
            let value: f64 = rest
                .parse()
                .map_err(|_| format!("it says {name:?} {rest:?}"))?;
            match name.as_str() {
                "operations" => operations = value,
                "elapsed_ns" => elapsed = value,
                "cpu_ns" => cpu = value,
                "late_p50_ns" => sample = sample.with(LATE_P50_US, value / 1e3),
                "late_p99_ns" => sample = sample.with(LATE_P99_US, value / 1e3),
                "late_max_ns" => sample = sample.with(LATE_MAX_US, value / 1e3),
                _ => return Err(format!("it says {name:?}").into()),
            }
        }
        self.end()?;
        if operations.is_nan() || operations < case.count as f64 {
            return Err(format!("it has done {operations} operations, not {}", case.count).into());
        }
        sample = sample.with(COUNT, operations);
        if matches!(case.measure, Measure::Time | Measure::Lateness) {
            sample = sample
                .with(NS, elapsed / operations)
                .with(CPU_NS, cpu / operations)
                .with(BUSY_PERCENT, cpu / elapsed * 100.0);
        }
        Ok(Ok(sample))
    }

    /// What is to be read at this stage of parked greenlets.
    fn stage(
        &self,
        case: Case,
        options: &Options,
        stage: &str,
    ) -> Result<Vec<(&'static str, f64)>> {
        let name = match stage {
            "ready" => READY,
            "parked" => BYTES,
            "used" => BYTES_USED,
            _ => return Err(format!("it is at an unknown stage: {stage:?}").into()),
        };
        pause(options.settle);
        let process = self.child.id();
        let mut seen = Vec::new();
        if case.measure == Measure::Memory {
            seen.push((name, system::resident(process)? as f64));
        } else if name == BYTES {
            let cpu = Cpu::of(process)?;
            let began = Instant::now();
            pause(options.idle);
            let busy = Cpu::of(process)?.since(&cpu).busy();
            let percent = busy.as_secs_f64() / began.elapsed().as_secs_f64() * 100.0;
            seen.push((IDLE_PERCENT, percent));
        }
        Ok(seen)
    }

    /// The next line, in two parts; none at the end.
    fn line(&self) -> Result<Option<(String, String)>> {
        use std::sync::mpsc::RecvTimeoutError::{Disconnected, Timeout};
        match self.lines.recv_timeout(LIMIT) {
            Ok(line) => {
                let (name, rest) = line.split_once(' ').unwrap_or((&line, ""));
                Ok(Some((name.to_owned(), rest.trim().to_owned())))
            }
            Err(Disconnected) => Ok(None),
            Err(Timeout) => Err(format!("it says nothing for {} s", LIMIT.as_secs()).into()),
        }
    }

    /// Waits for its end, when it has closed its output.
    fn end(&mut self) -> Result<()> {
        let began = Instant::now();
        while began.elapsed() < LIMIT {
            match self.child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(format!("it has ended: {status}").into()),
                None => pause(Duration::from_millis(1)),
            }
        }
        Err(format!("it does not end for {} s", LIMIT.as_secs()).into())
    }
}
