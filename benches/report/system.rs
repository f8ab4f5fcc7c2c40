//! What Linux tells about processes, and the cores they are bound to.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::time::Duration;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::Result;

/// The cores that this process may use.
#[derive(Debug, Clone)]
pub(crate) struct Cores(Vec<usize>);

impl Cores {
    pub(crate) fn allowed() -> Result<Cores> {
        let allowed = sched_getaffinity(Pid::from_raw(0))?;
        let cores = (0..CpuSet::count()).filter(|&core| allowed.is_set(core) == Ok(true));
        Ok(Cores(cores.collect()))
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// Those of a server that wants so many: the first ones.
    pub(crate) fn server(&self, wanted: usize) -> &[usize] {
        &self.0[..wanted.min(self.0.len())]
    }

    /// What a server with so many cores leaves to the generator. If that is nothing, the generator
    /// shares the server's.
    pub(crate) fn generator(&self, server: usize) -> &[usize] {
        match self.0.get(server..) {
            Some(rest) if !rest.is_empty() => rest,
            _ => &self.0,
        }
    }

    /// Whether the generator and a server with so many cores get in each other's way.
    pub(crate) fn shared(&self, server: usize) -> bool {
        self.0.len() <= server
    }

    /// Binds the calling thread, and those that it starts.
    pub(crate) fn bind(cores: &[usize]) -> Result<()> {
        let mut set = CpuSet::new();
        for &core in cores {
            set.set(core)?;
        }
        Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
    }

    /// Runs `f` on the server's cores: what it starts stays there.
    pub(crate) fn on_server<T>(&self, wanted: usize, f: impl FnOnce() -> T) -> Result<T> {
        Cores::bind(self.server(wanted))?;
        let result = f();
        Cores::bind(self.generator(wanted))?;
        Ok(result)
    }
}

/// Allows this process, and the servers that it starts, as many descriptors as may be.
pub(crate) fn raise_descriptor_limit() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // Else there are fewer, and `descriptors` says so.
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).ok();
    }
}

/// Descriptors that this process or a server has besides connections.
const OTHERS: usize = 64;

/// So many connections, or as many as this process may have.
pub(crate) fn connections(wanted: usize) -> usize {
    let descriptors = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft as usize);
    wanted.min(descriptors.saturating_sub(OTHERS))
}

/// Processor time of a process.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cpu {
    /// Each thread's running, in user code and in the kernel.
    threads: BTreeMap<u32, Duration>,
    /// Ready to run, and waiting for a core; all threads together.
    pub(crate) waited: Duration,
}

impl Cpu {
    /// Of the process with this id.
    pub(crate) fn of(process: u32) -> io::Result<Cpu> {
        let mut cpu = Cpu::default();
        for task in fs::read_dir(format!("/proc/{process}/task"))? {
            let task = task?;
            // A thread may end at any time.
            let Ok(text) = fs::read_to_string(task.path().join("schedstat")) else {
                continue;
            };
            let thread = task.file_name().to_str().and_then(|id| id.parse().ok());
            let mut numbers = text.split_ascii_whitespace().map(str::parse);
            if let (Some(thread), Some(Ok(busy)), Some(Ok(waited))) =
                (thread, numbers.next(), numbers.next())
            {
                cpu.threads.insert(thread, Duration::from_nanos(busy));
                cpu.waited += Duration::from_nanos(waited);
            }
        }
        Ok(cpu)
    }

    /// What has been added since `earlier`.
    pub(crate) fn since(mut self, earlier: &Cpu) -> Cpu {
        for (thread, busy) in &mut self.threads {
            let before = earlier.threads.get(thread).copied().unwrap_or_default();
            *busy = busy.saturating_sub(before);
        }
        self.waited = self.waited.saturating_sub(earlier.waited);
        self
    }

    /// All threads together.
    pub(crate) fn busy(&self) -> Duration {
        self.threads.values().sum()
    }

    /// The busiest thread.
    pub(crate) fn busiest(&self) -> Duration {
        self.threads.values().max().copied().unwrap_or_default()
    }
}

/// Resident memory of a process in bytes. Unlike `statm`, this is counted and not estimated.
pub(crate) fn resident(process: u32) -> Result<u64> {
    let rollup = fs::read_to_string(format!("/proc/{process}/smaps_rollup"))?;
    let kib = rollup
        .lines()
        .find_map(|line| line.strip_prefix("Rss:"))
        .and_then(|rest| rest.trim().strip_suffix(" kB"))
        .ok_or("smaps_rollup has no Rss")?;
    Ok(kib.parse::<u64>()? * 1024)
}

/// What it was measured on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Machine {
    processor: String,
    system: String,
    cores: usize,
}

impl Machine {
    pub(crate) fn this(cores: &Cores) -> Machine {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let line = cpuinfo.lines().find(|line| line.starts_with("model name"));
        let name = line.and_then(|line| line.split_once(": "));
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Machine {
            processor: name
                .map_or("unknown processor", |(_, name)| name)
                .to_owned(),
            system: format!("Linux {}", release.trim()),
            cores: cores.count(),
        }
    }

    pub(crate) fn describe(&self) -> String {
        let Machine {
            processor,
            system,
            cores,
        } = self;
        format!("{processor}, cores: {cores}; {system}")
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({"processor": self.processor, "system": self.system, "cores": self.cores})
    }

    /// What is missing is empty.
    pub(crate) fn from_json(value: &Value) -> Machine {
        let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
        Machine {
            processor: text("processor"),
            system: text("system"),
            cores: value["cores"].as_u64().unwrap_or_default() as usize,
        }
    }
}
