//! [`Hub`]: the settings, made once before the first greenlet, and what can be read of the hubs.

use std::fmt;
use std::io;
use std::time::Duration;

use crate::sys::home::{NO_HUB, this_hub};
use crate::sys::{limits as system, stack};
use crate::threadpool::{DEFAULT_THREADPOOL_SIZE, threadpool};
use crate::{HubStats, hub, limits, monitor};

/// The smallest stack in bytes: 16 KiB, enough for a greenlet that formats and panics without a
/// backtrace.
pub const MIN_STACK_SIZE: usize = 16 * 1024;

/// The stack size of a greenlet that asks for no other: 256 KiB.
///
/// Only pages that are touched take memory. It holds serde_json at its recursion limit (42 KiB), a
/// deflate encoder (67 KiB) and a TLS handshake, also in debug builds, whose frames are several
/// times larger.
pub const DEFAULT_STACK_SIZE: usize = 256 * 1024;

const MAX_STACK_SIZE: usize = 1 << 30;

/// may keeps one epoll set per hub in a table of this size.
pub(crate) const MAX_HUBS: usize = 128;

/// More threads than that are a mistake.
const MAX_THREADPOOL_SIZE: usize = 1_024;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) hubs: usize,
    /// In bytes, a multiple of the page size.
    pub(crate) stack_size: usize,
    /// How long a greenlet may hold its hub before it is reported.
    pub(crate) max_blocking: Option<Duration>,
}

/// What the program asks for.
#[derive(Clone, Copy, Default)]
pub(crate) struct Asked {
    hubs: Option<usize>,
    stack_size: Option<usize>,
    threadpool_size: Option<usize>,
    max_blocking: Option<Duration>,
}

/// The hubs of the process: gevent's hub, one per worker thread.
///
/// They start with the first greenlet. Settings come from [`Hub::config`], else from the
/// environment (`GREENWOOD_HUBS`, `GREENWOOD_STACK_SIZE` in bytes, `GREENWOOD_THREADPOOL_SIZE`,
/// `GREENWOOD_MAX_BLOCKING_MS`), else there is one hub per available core, a stack of
/// [`DEFAULT_STACK_SIZE`], a thread pool of [`DEFAULT_THREADPOOL_SIZE`] and no monitor.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Hub;

impl Hub {
    /// Settings, to be made before the first greenlet.
    ///
    /// ```
    /// use greenwood_runtime::Hub;
    /// Hub::config().hubs(2).stack_size(512 * 1024).start()?;
    /// assert_eq!(Hub::count(), 2);
    /// # Ok::<(), greenwood_runtime::StartError>(())
    /// ```
    pub fn config() -> HubConfig {
        HubConfig {
            asked: Asked::default(),
        }
    }

    /// How many hubs there are. Starts them if need be.
    ///
    /// # Panics
    ///
    /// If they can't start (see [`StartError`]).
    pub fn count() -> usize {
        hub::runtime().hubs()
    }

    /// The number of the hub that the caller runs on; none on a thread that is no hub's.
    pub fn current() -> Option<usize> {
        match this_hub() {
            NO_HUB => None,
            hub => Some(hub as usize),
        }
    }

    /// What the process may have at most. Starts the hubs if need be.
    ///
    /// # Panics
    ///
    /// If they can't start (see [`StartError`]).
    pub fn limits() -> Limits {
        let runtime = hub::runtime();
        Limits {
            greenlets: limits::allowed(),
            descriptors: system::descriptors(),
            max_map_count: system::max_map_count(),
            stack_size: runtime.settings.stack_size,
        }
    }

    /// What each hub has counted. Starts them if need be.
    ///
    /// Costs nothing to keep, and can be read while hubs are blocked.
    ///
    /// # Panics
    ///
    /// If they can't start (see [`StartError`]).
    pub fn stats() -> Vec<HubStats> {
        hub::runtime().stats()
    }

    /// Has greenlets reported that hold their hub for longer than `max_blocking` without a switch:
    /// gevent's monitoring thread and its `max_blocking_time`; none ends it. Off by default.
    ///
    /// The reports go to `tracing` and to [`on_blocked`](crate::monitor::on_blocked). They are made
    /// by a thread, which looks four times in that time, so one comes up to a quarter late. At
    /// least 1 ms; [`MAX_BLOCKING_TIME`](crate::monitor::MAX_BLOCKING_TIME) is what gevent takes.
    /// While it is on, a switch takes some 30 ns longer.
    ///
    /// # Errors
    ///
    /// When the thread can't be started.
    ///
    /// # Panics
    ///
    /// If the hubs can't start (see [`StartError`]).
    ///
    /// ```
    /// use greenwood_runtime::{Hub, monitor};
    /// Hub::monitor(Some(monitor::MAX_BLOCKING_TIME))?;
    /// let reports = monitor::on_blocked(|blocked| eprintln!("{blocked}"))?;
    /// reports.cancel();
    /// Hub::monitor(None)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn monitor(max_blocking: Option<Duration>) -> io::Result<()> {
        monitor::watch(max_blocking)
    }

    /// How many greenlets are alive: spawned and not ended. The hubs' own are not counted.
    pub fn greenlets() -> usize {
        limits::alive()
    }
}

/// What the process may have at most. From [`Hub::limits`].
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Limits {
    /// Greenlets alive at once: half of what `vm.max_map_count` leaves, less a reserve. The
    /// process's mappings are counted at the start, and again on the way to the limit.
    pub greenlets: usize,
    /// Open descriptors: the soft limit of RLIMIT_NOFILE.
    pub descriptors: u64,
    /// `vm.max_map_count`.
    pub max_map_count: usize,
    /// The default stack size in bytes.
    pub stack_size: usize,
}

/// Settings of the hubs. From [`Hub::config`].
#[derive(Clone, Copy)]
#[must_use = "settings take effect with `start`"]
pub struct HubConfig {
    asked: Asked,
}

impl fmt::Debug for HubConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubConfig")
            .field("hubs", &self.asked.hubs)
            .field("stack_size", &self.asked.stack_size)
            .field("threadpool_size", &self.asked.threadpool_size)
            .field("monitor", &self.asked.max_blocking)
            .finish()
    }
}

impl HubConfig {
    /// How many hubs, each with a thread: 1 to 128. Default: `GREENWOOD_HUBS`, else the number of
    /// available cores.
    pub fn hubs(mut self, hubs: usize) -> Self {
        self.asked.hubs = Some(hubs);
        self
    }

    /// The stack size of greenlets in bytes, rounded up to whole pages: [`MIN_STACK_SIZE`] to 1
    /// GiB. Default: `GREENWOOD_STACK_SIZE`, else [`DEFAULT_STACK_SIZE`]. Raise it when a
    /// greenlet overflows its stack.
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.asked.stack_size = Some(bytes);
        self
    }

    /// How many threads the global [`threadpool`] may have: 1 to 1,024. Default:
    /// `GREENWOOD_THREADPOOL_SIZE`, else
    /// [`DEFAULT_THREADPOOL_SIZE`](crate::DEFAULT_THREADPOOL_SIZE). Raise it when many greenlets
    /// wait for files or names at a time.
    pub fn threadpool_size(mut self, threads: usize) -> Self {
        self.asked.threadpool_size = Some(threads);
        self
    }

    /// Has greenlets reported that hold their hub for longer, as [`Hub::monitor`] does. Default:
    /// `GREENWOOD_MAX_BLOCKING_MS`, in milliseconds, else (and with 0) nobody is watched.
    pub fn monitor(mut self, max_blocking: Duration) -> Self {
        self.asked.max_blocking = Some(max_blocking);
        self
    }

    /// Starts the hubs with these settings.
    ///
    /// # Errors
    ///
    /// [`StartError`]: the hubs run already with other settings, a setting is out of range, or the
    /// system refuses.
    pub fn start(self) -> Result<(), StartError> {
        threadpool_size(self.asked.threadpool_size)?;
        let settings = hub::start(self.asked)?.settings;
        if self.asked.max_blocking != settings.max_blocking && self.asked.max_blocking.is_some() {
            Hub::monitor(self.asked.max_blocking).map_err(StartError::Monitor)?;
        }
        let hubs = self.asked.hubs.unwrap_or(settings.hubs);
        let stack_size = self
            .asked
            .stack_size
            .map_or(settings.stack_size, whole_pages);
        if hubs != settings.hubs || stack_size != settings.stack_size {
            return Err(StartError::AlreadyStarted {
                hubs: settings.hubs,
                stack_size: settings.stack_size,
            });
        }
        if let Some(threads) = self.asked.threadpool_size {
            threadpool().set_maxsize(threads);
        }
        Ok(())
    }
}

fn whole_pages(bytes: usize) -> usize {
    bytes
        .checked_next_multiple_of(stack::PAGE)
        .unwrap_or(usize::MAX)
}

/// A stack size in whole pages, if it can be used.
pub(crate) fn usable_stack(bytes: usize) -> Option<usize> {
    let bytes = whole_pages(bytes);
    (MIN_STACK_SIZE..=MAX_STACK_SIZE)
        .contains(&bytes)
        .then_some(bytes)
}

/// The hard limit of RLIMIT_STACK, if a stack of that size would pass it.
pub(crate) fn above_limit(bytes: usize) -> Option<u64> {
    let limit = system::largest_stack();
    // Two pages more are mapped: the guard and one of slack.
    ((bytes + 2 * stack::PAGE) as u64 > limit).then_some(limit)
}

/// What holds: what was asked for, else the environment, else the defaults.
pub(crate) fn settle(asked: Asked) -> Result<Settings, StartError> {
    if system::page_size() != stack::PAGE {
        return Err(StartError::PageSize(system::page_size()));
    }
    threadpool_size(asked.threadpool_size)?;
    let hubs = match asked.hubs {
        Some(hubs) => hubs,
        None => environment("GREENWOOD_HUBS")?.unwrap_or_else(|| {
            std::thread::available_parallelism()
                .map_or(1, usize::from)
                .min(MAX_HUBS)
        }),
    };
    if !(1..=MAX_HUBS).contains(&hubs) {
        return Err(StartError::Hubs(hubs));
    }
    let bytes = match asked.stack_size {
        Some(bytes) => bytes,
        None => environment("GREENWOOD_STACK_SIZE")?.unwrap_or(DEFAULT_STACK_SIZE),
    };
    let stack_size = usable_stack(bytes).ok_or(StartError::StackSize(bytes))?;
    if let Some(limit) = above_limit(stack_size) {
        return Err(StartError::StackLimit {
            asked: stack_size,
            limit,
        });
    }
    let max_blocking = match asked.max_blocking {
        Some(time) => Some(time),
        None => environment("GREENWOOD_MAX_BLOCKING_MS")?
            .filter(|&milliseconds| milliseconds > 0)
            .map(|milliseconds| Duration::from_millis(milliseconds as u64)),
    };
    Ok(Settings {
        hubs,
        stack_size,
        max_blocking,
    })
}

/// The size of the global thread pool: what was asked for, else the environment, else the default.
pub(crate) fn threadpool_size(asked: Option<usize>) -> Result<usize, StartError> {
    let threads = match asked {
        Some(threads) => threads,
        None => environment("GREENWOOD_THREADPOOL_SIZE")?.unwrap_or(DEFAULT_THREADPOOL_SIZE),
    };
    match (1..=MAX_THREADPOOL_SIZE).contains(&threads) {
        true => Ok(threads),
        false => Err(StartError::ThreadpoolSize(threads)),
    }
}

fn environment(name: &'static str) -> Result<Option<usize>, StartError> {
    let Some(value) = std::env::var_os(name) else {
        return Ok(None);
    };
    let value = value.to_string_lossy();
    match value.trim().parse() {
        Ok(number) => Ok(Some(number)),
        Err(_) => Err(StartError::Environment {
            name,
            value: value.into_owned(),
        }),
    }
}

/// Why the hubs could not start.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// They run already, with other settings.
    AlreadyStarted {
        /// How many hubs run.
        hubs: usize,
        /// Their stack size in bytes.
        stack_size: usize,
    },
    /// A number of hubs that is not 1 to 128.
    Hubs(usize),
    /// A stack size in bytes that is not [`MIN_STACK_SIZE`] to 1 GiB.
    StackSize(usize),
    /// A stack size above the hard limit of RLIMIT_STACK.
    StackLimit {
        /// The size asked for, in bytes.
        asked: usize,
        /// The hard limit, in bytes.
        limit: u64,
    },
    /// A size of the thread pool that is not 1 to 1,024.
    ThreadpoolSize(usize),
    /// An environment variable that is not a number.
    Environment {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
    },
    /// A system whose pages are not 4 KiB.
    PageSize(usize),
    /// The descriptors of a hub could not be opened.
    Descriptors(io::Error),
    /// Somebody else has started `may` in this process, with other settings.
    MayInUse,
    /// The hubs run, and the monitor's thread could not be started.
    Monitor(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::AlreadyStarted { hubs, stack_size } => write!(
                f,
                "the hubs run already ({hubs} of them, stacks of {stack_size} bytes): call \
                 Hub::config().start() before the first greenlet, once"
            ),
            StartError::Hubs(hubs) => write!(f, "{hubs} hubs: it must be 1 to {MAX_HUBS}"),
            StartError::StackSize(bytes) => write!(
                f,
                "a stack of {bytes} bytes: it must be from {} KiB to 1 GiB",
                MIN_STACK_SIZE / 1024
            ),
            StartError::StackLimit { asked, limit } => write!(
                f,
                "a stack of {asked} bytes is above the hard limit of RLIMIT_STACK ({limit} bytes): \
                 lower the stack size or raise the limit (ulimit -Hs)"
            ),
            StartError::ThreadpoolSize(threads) => write!(
                f,
                "a thread pool of {threads}: it must be 1 to {MAX_THREADPOOL_SIZE}"
            ),
            StartError::Environment { name, value } => {
                write!(f, "the environment variable {name} is {value:?}, which is no number")
            }
            StartError::PageSize(bytes) => {
                write!(f, "pages of {bytes} bytes: only systems with pages of 4 KiB are supported")
            }
            StartError::Descriptors(_) => f.write_str(
                "a hub's descriptors could not be opened; raise RLIMIT_NOFILE (ulimit -n)",
            ),
            StartError::Monitor(error) => write!(f, "the monitor's thread can't start: {error}"),
            StartError::MayInUse => f.write_str(
                "may runs already in this process with other settings: Greenwood must start it; call \
                 Hub::config().start() first thing in main",
            ),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            StartError::Descriptors(source) | StartError::Monitor(source) => Some(source),
            _ => None,
        }
    }
}
