//! What Linux tells about processes, and the cores they are bound to.

use std::fs;
use std::io;
use std::time::Duration;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Pid;

use crate::Result;

/// The core of the servers and that of the generator: the first two that this process may use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cores {
    pub(crate) server: usize,
    pub(crate) generator: usize,
}

impl Cores {
    /// Picks them, and binds the calling thread to the generator's.
    pub(crate) fn pick() -> Result<Cores> {
        let allowed = sched_getaffinity(Pid::from_raw(0))?;
        let mut cores = (0..CpuSet::count()).filter(|&core| allowed.is_set(core) == Ok(true));
        let server = cores.next().ok_or("there is no core to run on")?;
        let cores = Cores {
            server,
            generator: cores.next().unwrap_or(server),
        };
        bind(cores.generator)?;
        Ok(cores)
    }

    pub(crate) fn is_one(&self) -> bool {
        self.server == self.generator
    }

    /// Runs `f` on the servers' core: what it starts stays there.
    pub(crate) fn on_server<T>(&self, f: impl FnOnce() -> T) -> Result<T> {
        bind(self.server)?;
        let result = f();
        bind(self.generator)?;
        Ok(result)
    }
}

fn bind(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

/// Allows this process, and the servers that it starts, as many descriptors as may be.
pub(crate) fn raise_descriptor_limit() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // Else there are fewer, and `descriptors` says so.
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).ok();
    }
}

/// How many descriptors this process may have.
pub(crate) fn descriptors() -> usize {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft as usize)
}

/// Processor time of a process, over all its threads.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cpu {
    /// Running, in user code and in the kernel.
    pub(crate) busy: Duration,
    /// Ready to run, and waiting for a core.
    pub(crate) waited: Duration,
}

impl Cpu {
    /// Of the process with this id.
    pub(crate) fn of(process: u32) -> io::Result<Cpu> {
        let mut sum = Cpu::default();
        for task in fs::read_dir(format!("/proc/{process}/task"))? {
            // A thread may end at any time.
            let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else {
                continue;
            };
            let mut numbers = text.split_ascii_whitespace().map(str::parse);
            if let (Some(Ok(busy)), Some(Ok(waited))) = (numbers.next(), numbers.next()) {
                sum.busy += Duration::from_nanos(busy);
                sum.waited += Duration::from_nanos(waited);
            }
        }
        Ok(sum)
    }

    /// What has been added since `earlier`.
    pub(crate) fn since(self, earlier: Cpu) -> Cpu {
        Cpu {
            busy: self.busy.saturating_sub(earlier.busy),
            waited: self.waited.saturating_sub(earlier.waited),
        }
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

/// The processor's name.
pub(crate) fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("model name"));
    let name = line.and_then(|line| line.split_once(": "));
    name.map_or("unknown processor", |(_, name)| name)
        .to_owned()
}
