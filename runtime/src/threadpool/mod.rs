//! [`ThreadPool`]: blocking work off the hubs, gevent's `threadpool`.

mod crew;
mod error;
mod job;

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

pub use error::ThreadError;
pub use job::ThreadResult;

use crate::config::{self, Hub};
use crate::pool::{Feed, PoolFull};
use crate::switch;
use crate::waitable::Waitable;
use crew::Crew;
pub(crate) use job::Wanted;
use job::{Job, run_here};

/// The size of the global [`threadpool`] unless another is set: 10, as gevent's.
pub const DEFAULT_THREADPOOL_SIZE: usize = 10;

/// How long a thread waits for its next job, unless another time is
/// [set](ThreadPool::set_idle_timeout): 5 s, as gevent's.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);

/// OS threads that do blocking work for greenlets: files, C libraries, long computations. gevent's
/// `ThreadPool`.
///
/// Threads are started as jobs come, up to `maxsize`, and end when they have had nothing to do for
/// 5 s. One job more than there are threads may wait for its turn, as in gevent, which keeps the
/// threads busy; then [`spawn`](ThreadPool::spawn) waits, and those who wait are let in in their
/// order. A job can't be killed: when who waits for it is, it goes on, and its result is dropped at
/// its end. If no thread can be started (RLIMIT_NPROC), jobs wait for those that there are; if there
/// are none, they fail.
///
/// Works from greenlets of any hub and from plain threads, gevent's from its own hub only. A clone
/// is another handle to the same pool; when the last is dropped, the jobs that are left are done,
/// and the threads end.
///
/// ```
/// use greenwood_runtime::{spawn, threadpool};
///
/// let reader = spawn(|| {
///     // Files block: the hub goes on meanwhile.
///     let text = threadpool().apply(|| std::fs::read_to_string("/proc/self/comm"));
///     text.unwrap().unwrap().len()
/// });
/// assert!(reader.join().unwrap() > 0);
/// ```
#[derive(Clone)]
pub struct ThreadPool {
    owner: Arc<Owner>,
}

struct Owner {
    crew: Arc<Crew>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.crew.close();
    }
}

/// The thread pool of the process: gevent's `get_hub().threadpool`. It looks up names for
/// [`getaddrinfo`](crate::net::getaddrinfo), with three quarters of its threads at most, reads and
/// writes files for [`FileObject`](crate::FileObject), and is there for whatever else blocks.
///
/// Its size is [`HubConfig::threadpool_size`](crate::HubConfig::threadpool_size), else
/// `GREENWOOD_THREADPOOL_SIZE`, else [`DEFAULT_THREADPOOL_SIZE`]; it can be
/// [changed](ThreadPool::set_maxsize) at any time.
pub fn threadpool() -> &'static ThreadPool {
    static POOL: OnceLock<ThreadPool> = OnceLock::new();
    POOL.get_or_init(|| {
        ThreadPool::new(config::threadpool_size(None).unwrap_or(DEFAULT_THREADPOOL_SIZE))
    })
}

impl Hub {
    /// The thread pool of the process; as [`threadpool`].
    pub fn threadpool() -> &'static ThreadPool {
        threadpool()
    }
}

impl ThreadPool {
    /// A pool of at most `maxsize` threads; none is started yet. With a `maxsize` of 0 jobs wait
    /// until it is [raised](ThreadPool::set_maxsize).
    pub fn new(maxsize: usize) -> ThreadPool {
        let crew = Crew::new(maxsize, IDLE_TIMEOUT);
        ThreadPool {
            owner: Arc::new(Owner { crew }),
        }
    }

    /// Whether the caller is one of its jobs.
    pub(crate) fn is_called_by_job(&self) -> bool {
        self.crew().is_called_by_worker()
    }

    fn crew(&self) -> &Arc<Crew> {
        &self.owner.crew
    }

    /// Has `f` run by a thread; waits while the pool is full. gevent's `spawn`.
    ///
    /// Who may not wait does not: a greenlet that unwinds, and a job of this pool, which could wait
    /// for itself. Theirs is taken beyond the bound.
    pub fn spawn<F, T>(&self, f: F) -> ThreadResult<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let job = Job::new(f);
        self.crew().submit(Arc::clone(&job) as _);
        ThreadResult::new(job, Arc::clone(self.crew()))
    }

    /// As [`spawn`](ThreadPool::spawn), but waits no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// [`PoolFull`].
    pub fn spawn_timeout<F, T>(&self, timeout: Duration, f: F) -> Result<ThreadResult<T>, PoolFull>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.spawn_until(switch::deadline(Some(timeout)), f)
    }

    pub(crate) fn spawn_until<F, T>(
        &self,
        deadline: Option<u64>,
        f: F,
    ) -> Result<ThreadResult<T>, PoolFull>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let job = Job::new(f);
        match self.crew().submit_until(&(Arc::clone(&job) as _), deadline) {
            true => Ok(ThreadResult::new(job, Arc::clone(self.crew()))),
            false => Err(PoolFull),
        }
    }

    /// As [`spawn`](ThreadPool::spawn), if it need not wait.
    ///
    /// # Errors
    ///
    /// [`PoolFull`].
    pub fn spawn_nowait<F, T>(&self, f: F) -> Result<ThreadResult<T>, PoolFull>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let job = Job::new(f);
        match self.crew().submit_nowait(&(Arc::clone(&job) as _)) {
            true => Ok(ThreadResult::new(job, Arc::clone(self.crew()))),
            false => Err(PoolFull),
        }
    }

    /// Has `f` run by a thread and waits for its result: gevent's `apply`. A job of this pool that
    /// calls it runs `f` itself.
    ///
    /// If the caller is killed or runs out of time before `f` has begun, it is not run.
    ///
    /// # Errors
    ///
    /// [`ThreadError`]: `f` panicked, the pool was killed, or no thread could be started.
    pub fn apply<F, T>(&self, f: F) -> Result<T, ThreadError>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        if self.is_called_by_job() {
            return run_here(f);
        }
        Wanted::new(self.spawn(f)).join()
    }

    /// Calls `f` with each item on the threads, and returns the results in the order of the items:
    /// gevent's `map`. A job of this pool that calls it runs `f` itself.
    ///
    /// # Errors
    ///
    /// The first in the order of the items, as soon as all before it have ended. What has not begun
    /// then is not run; nor is it if the caller is killed.
    pub fn map<F, I, T>(&self, f: F, items: I) -> Result<Vec<T>, ThreadError>
    where
        I: IntoIterator,
        I::Item: Send + 'static,
        F: Fn(I::Item) -> T + Send + Sync + 'static,
        T: Send + 'static,
    {
        if self.is_called_by_job() {
            return items.into_iter().map(|item| run_here(|| f(item))).collect();
        }
        // Also if there are no items.
        switch::check();
        let f = Arc::new(f);
        let mut results = Vec::new();
        let mut begun = VecDeque::new();
        for item in items {
            let f = Arc::clone(&f);
            begun.push_back(Wanted::new(self.spawn(move || f(item))));
            while let Some(result) = begun.pop_front_if(|first| first.ready()) {
                results.push(result.join()?);
            }
        }
        for result in begun {
            results.push(result.join()?);
        }
        Ok(results)
    }

    /// Calls `f` with each item on the threads, and gives the results one after the other in the
    /// order of the items: gevent's `imap`, as [`Group::imap`](crate::Group::imap) is for
    /// greenlets. At most `maxsize` items have been begun whose results have not been taken (0: no
    /// bound but the pool's, and results that wait are not bounded).
    ///
    /// When the iterator that is returned is dropped, what has not begun is not run.
    #[track_caller]
    pub fn imap<F, I, T>(&self, f: F, items: I, maxsize: usize) -> ThreadImap<T>
    where
        I: IntoIterator + Send + 'static,
        I::Item: Send + 'static,
        F: Fn(I::Item) -> T + Send + Sync + 'static,
        T: Send + 'static,
    {
        ThreadImap(self.feed(f, items, maxsize, true))
    }

    /// As [`imap`](ThreadPool::imap), but gives each result as soon as it is there: gevent's
    /// `imap_unordered`.
    #[track_caller]
    pub fn imap_unordered<F, I, T>(&self, f: F, items: I, maxsize: usize) -> ThreadImap<T>
    where
        I: IntoIterator + Send + 'static,
        I::Item: Send + 'static,
        F: Fn(I::Item) -> T + Send + Sync + 'static,
        T: Send + 'static,
    {
        ThreadImap(self.feed(f, items, maxsize, false))
    }

    #[track_caller]
    fn feed<F, I, T>(&self, f: F, items: I, maxsize: usize, ordered: bool) -> Feed<Wanted<T>>
    where
        I: IntoIterator + Send + 'static,
        I::Item: Send + 'static,
        F: Fn(I::Item) -> T + Send + Sync + 'static,
        T: Send + 'static,
    {
        let f = Arc::new(f);
        let pool = self.clone();
        let begin = move |item| {
            let f = Arc::clone(&f);
            Ok(Wanted::new(pool.spawn(move || f(item))))
        };
        Feed::new(begin, items, maxsize, ordered)
    }

    /// Waits until all jobs are done, no longer than `timeout` (none: without end); whether they
    /// are: gevent's `join`. A job that calls it waits for itself.
    pub fn join(&self, timeout: Option<Duration>) -> bool {
        self.crew().wait_done(switch::deadline(timeout))
    }

    /// Cancels the jobs that have not begun, and waits until all threads have ended: gevent's
    /// `kill`, which lets those jobs run. A job that has begun can't be killed; one that calls this
    /// does not wait. The pool can be used on.
    pub fn kill(&self) {
        self.crew().dismiss(None);
    }

    /// As [`kill`](ThreadPool::kill), but waits no longer than `timeout`; whether all threads have
    /// ended.
    pub fn kill_timeout(&self, timeout: Duration) -> bool {
        self.crew().dismiss(switch::deadline(Some(timeout)))
    }

    /// How many jobs are not done: gevent's `len(pool)`.
    pub fn len(&self) -> usize {
        self.crew().unfinished()
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many threads there are at present.
    pub fn size(&self) -> usize {
        self.crew().threads()
    }

    /// The most threads that there may be.
    pub fn maxsize(&self) -> usize {
        self.crew().maxsize()
    }

    /// Changes [`maxsize`](ThreadPool::maxsize). Threads above it end with their present job.
    pub fn set_maxsize(&self, maxsize: usize) {
        self.crew().set_maxsize(maxsize);
    }

    /// How long a thread waits for its next job before it ends, from its next wait on. Default: 5 s.
    pub fn set_idle_timeout(&self, timeout: Duration) {
        self.crew().set_idle_timeout(timeout);
    }
}

impl fmt::Debug for ThreadPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.crew().fmt(f)
    }
}

/// The iterator of [`ThreadPool::imap`] and [`ThreadPool::imap_unordered`]; as
/// [`Imap`](crate::Imap).
#[must_use = "it gives the results"]
pub struct ThreadImap<T>(Feed<Wanted<T>>);

impl<T> Iterator for ThreadImap<T> {
    type Item = Result<T, ThreadError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next()
    }
}

impl<T> fmt::Debug for ThreadImap<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt_as("ThreadImap", f)
    }
}
