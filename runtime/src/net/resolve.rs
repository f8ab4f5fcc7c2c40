//! [`getaddrinfo`].

use std::error::Error;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Mutex;
use std::time::Duration;

use crate::places::{self, Places};
use crate::run_info::WaitsFor;
use crate::switch;
use crate::task::lock;
use crate::threadpool::{Wanted, threadpool};

/// Lookups that have a place in the thread pool, or wait for one.
static LOOKUPS: Mutex<Places> = Mutex::new(Places::new(1));

/// The addresses of a host, a name or an address, with the port: gevent's `socket.getaddrinfo`.
///
/// A name is looked up by the system's resolver in the [thread pool](crate::threadpool), so the hub
/// goes on. Lookups have three quarters of the pool's threads at most, one at least; more wait for
/// their turn, in their order. So a resolver that does not answer leaves something for files. A
/// lookup that nobody waits for any more is left out if it has not begun, else ends in its own time.
///
/// # Errors
///
/// `TimedOut`; `InvalidInput` if the name has no address; what the resolver says, with the name;
/// what the system says if no thread can be started.
pub fn getaddrinfo(
    host: &str,
    port: u16,
    timeout: Option<Duration>,
) -> io::Result<Vec<SocketAddr>> {
    switch::check();
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let name = host.to_owned();
    let look_up = move || (name.as_str(), port).to_socket_addrs().map(Vec::from_iter);
    let addresses = in_threadpool(look_up, switch::deadline(timeout));
    // It may be a peer's: no line of its own making.
    let host = host.escape_debug();
    match addresses {
        None => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("looking up {host}: no answer in time"),
        )),
        Some(Err(error)) => Err(io::Error::new(
            error.kind(),
            NotFound {
                host: host.to_string(),
                error,
            },
        )),
        Some(Ok(addresses)) if addresses.is_empty() => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{host} has no address"),
        )),
        Some(found) => found,
    }
}

/// Why there are no addresses of a host.
#[derive(Debug)]
struct NotFound {
    host: String,
    error: io::Error,
}

impl fmt::Display for NotFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "looking up {}: {}", self.host, self.error)
    }
}

impl Error for NotFound {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        // What the error itself says is said.
        self.error.source()
    }
}

/// Has the thread pool do a lookup. None if it is not done by `deadline`.
fn in_threadpool<T: Send + 'static>(
    look_up: impl FnOnce() -> io::Result<T> + Send + 'static,
    deadline: Option<u64>,
) -> Option<io::Result<T>> {
    let pool = threadpool();
    if pool.is_called_by_job() {
        // It has a thread.
        return Some(look_up());
    }
    let threads = pool.maxsize();
    let woken = lock(&LOOKUPS).set_limit((threads - threads.div_ceil(4)).max(1));
    woken.iter().for_each(|waiter| waiter.wake());
    if !places::take(&LOOKUPS, WaitsFor::Thread, deadline) {
        return None;
    }
    let place = Place;
    let job = pool.spawn_until(deadline, move || {
        // Given back when the lookup is over, whoever still waits for it.
        let _place = place;
        look_up()
    });
    let job = Wanted::new(job.ok()?);
    if !job.await_until(deadline) {
        return None;
    }
    Some(job.join().unwrap_or_else(|error| Err(error.into())))
}

/// The right to a thread.
struct Place;

impl Drop for Place {
    fn drop(&mut self) {
        let next = lock(&LOOKUPS).give_back();
        if let Some(next) = next {
            next.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Instant;

    use super::*;
    use crate::{Event, joinall, sleep, spawn};

    /// Waits until `condition` holds.
    #[track_caller]
    fn eventually(condition: impl Fn() -> bool) {
        let start = Instant::now();
        while !condition() {
            assert!(start.elapsed() < Duration::from_secs(60), "it never holds");
            sleep(Duration::from_millis(1));
        }
    }

    /// One test, as all share the pool.
    #[test]
    fn lookups_that_hang_leave_threads_for_others() {
        let pool = threadpool();
        let (answer, hanging) = (Arc::new(Event::new()), Arc::new(AtomicUsize::new(0)));
        let lookups: Vec<_> = (0..30)
            .map(|_| {
                let (answer, hanging) = (Arc::clone(&answer), Arc::clone(&hanging));
                let look_up = move || {
                    hanging.fetch_add(1, Ordering::SeqCst);
                    answer.wait();
                    Ok(1)
                };
                spawn(move || in_threadpool(look_up, None))
            })
            .collect();
        eventually(|| hanging.load(Ordering::SeqCst) == 7);
        assert_eq!(pool.apply(|| 2).unwrap(), 2);
        let short = switch::deadline(Some(Duration::from_millis(3)));
        assert!(in_threadpool(|| Ok(1), short).is_none());
        // Who waits for the answer is killed: the lookup keeps its thread.
        for lookup in &lookups[..10] {
            lookup.kill();
        }
        assert_eq!(lock(&LOOKUPS).taken(), 7);
        answer.set();
        assert!(joinall(&lookups, None));
        assert!(pool.join(None));
        assert_eq!(lock(&LOOKUPS).taken(), 0);
        assert!(hanging.load(Ordering::SeqCst) <= 27);
        assert!(in_threadpool(|| Ok(1), None).is_some_and(|found| found.is_ok()));
        // What panics is an error, and gives its place back.
        let panics = in_threadpool(|| -> io::Result<()> { panic!("expected") }, None);
        assert!(panics.is_some_and(|found| found.is_err()));
        eventually(|| lock(&LOOKUPS).taken() == 0);
        // A job of the pool looks up in its own thread.
        let me = || std::thread::current().id();
        let (outer, inner) = pool
            .apply(move || (me(), in_threadpool(move || Ok(me()), None)))
            .unwrap();
        assert_eq!(inner.unwrap().unwrap(), outer);
    }
}
