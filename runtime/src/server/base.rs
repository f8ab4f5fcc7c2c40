//! [`Base`]: the life of a server, from the start to the end. gevent's `BaseServer`.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::Spawn;
use super::accept::Gate;
use super::seats::Seats;
use crate::event::Event;
use crate::greenlet::{Builder, Greenlet};
use crate::task::lock;
use crate::{hub, switch};

/// A server whose connections or datagrams come from an `S`.
pub(super) struct Base<S> {
    /// The address, for logs.
    pub(super) name: String,
    state: Mutex<State<S>>,
    gate: Mutex<Option<(Spawn, Arc<Gate>)>>,
    pub(super) seats: Arc<Seats>,
    /// The greenlet that accepts had no room.
    refused: AtomicBool,
    stopped: Event,
}

struct State<S> {
    /// None once stopped.
    source: Option<Arc<S>>,
    acceptor: Option<Acceptor>,
    /// The error that has ended accepting.
    failure: Option<i32>,
}

/// The greenlet that accepts.
struct Acceptor {
    greenlet: Greenlet<()>,
    /// It is to end, if it has started at all.
    closing: Arc<AtomicBool>,
}

impl Acceptor {
    fn kill(self) {
        self.closing.store(true, Ordering::SeqCst);
        self.greenlet.kill();
    }
}

impl<S: AsRawFd + Send + Sync + 'static> Base<S> {
    pub(super) fn new(source: S, name: String) -> Base<S> {
        Base {
            name,
            state: Mutex::new(State {
                source: Some(Arc::new(source)),
                acceptor: None,
                failure: None,
            }),
            gate: Mutex::new(None),
            seats: Arc::default(),
            refused: AtomicBool::new(false),
            stopped: Event::new(),
        }
    }

    /// What is listened on, until the server is closed.
    pub(super) fn source(&self) -> Option<Arc<S>> {
        lock(&self.state).source.clone()
    }

    pub(super) fn is_open(&self) -> bool {
        lock(&self.state).source.is_some()
    }

    /// Who lets in those who come. The same as before after accepting was suspended: those who are
    /// still served count.
    pub(super) fn gate(&self, spawn: Spawn, each_takes_a_descriptor: bool) -> Arc<Gate> {
        let mut present = lock(&self.gate);
        if let Some((of, gate)) = &*present
            && of.is_same(&spawn)
        {
            return Arc::clone(gate);
        }
        let gate = Arc::new(Gate::new(spawn.clone(), each_takes_a_descriptor));
        *present = Some((spawn, Arc::clone(&gate)));
        gate
    }

    pub(super) fn has_started(&self) -> bool {
        lock(&self.state).acceptor.is_some()
    }

    /// Starts the greenlet that accepts, with what `accept` makes of the source; `owner` is what
    /// holds this.
    pub(super) fn start<O, F>(
        &self,
        owner: &Arc<O>,
        base: fn(&O) -> &Base<S>,
        accept: impl FnOnce(Arc<S>) -> F,
    ) -> io::Result<()>
    where
        O: Send + Sync + 'static,
        F: FnOnce() + Send + 'static,
    {
        let mut state = lock(&self.state);
        if self.refused.load(Ordering::SeqCst) {
            return Err(no_acceptor());
        }
        let Some(source) = &state.source else {
            return Err(io::Error::other(
                "the server has been stopped: make a new one",
            ));
        };
        if state.acceptor.is_some() {
            return Ok(());
        }
        let runtime = hub::try_runtime().map_err(io::Error::other)?;
        let hub = source.as_raw_fd() as usize % runtime.hubs();
        let accept = accept(Arc::clone(source));
        let owner = Arc::clone(owner);
        let closing = Arc::new(AtomicBool::new(false));
        let closes = Arc::clone(&closing);
        let unstarted = OnDrop::new(move || {
            let base = base(&owner);
            // Or killed by the stop before its turn came, or not started at all.
            if !closes.load(Ordering::SeqCst) {
                base.refused.store(true, Ordering::SeqCst);
                base.stopped.set();
            }
        });
        let greenlet = Builder::new()
            .name(format!("accept {}", self.name))
            .hub(hub)
            .unstarted(move || {
                unstarted.disarm();
                accept();
            })
            .map_err(io::Error::other)?;
        if let Err(error) = greenlet.start() {
            // It is dropped here, and another may have room later.
            closing.store(true, Ordering::SeqCst);
            return Err(io::Error::other(error));
        }
        state.acceptor = Some(Acceptor { greenlet, closing });
        if self.refused.load(Ordering::SeqCst) {
            state.source.take();
            return Err(no_acceptor());
        }
        Ok(())
    }

    pub(super) fn join(&self) -> io::Result<()> {
        self.stopped.wait();
        let mut state = lock(&self.state);
        if self.refused.load(Ordering::SeqCst) {
            state.source.take();
            return Err(no_acceptor());
        }
        match state.failure {
            Some(code) => Err(io::Error::from_raw_os_error(code)),
            None => Ok(()),
        }
    }

    /// Ends accepting, and drops the source.
    pub(super) fn close(&self) {
        let (source, acceptor) = {
            let mut state = lock(&self.state);
            (state.source.take(), state.acceptor.take())
        };
        drop(source);
        if let Some(acceptor) = acceptor {
            acceptor.kill();
        }
    }

    /// Ends accepting until the next start.
    pub(super) fn stop_accepting(&self) {
        let acceptor = lock(&self.state).acceptor.take();
        if let Some(acceptor) = acceptor {
            acceptor.kill();
        }
    }

    /// Gives those who are served `timeout` to finish, then kills them.
    pub(super) fn finish(&self, timeout: Duration) {
        let _finished = FinishOnUnwind(self);
        self.finish_until(switch::deadline(Some(timeout)));
    }

    /// [`close`](Base::close) and [`finish`](Base::finish).
    pub(super) fn stop(&self, timeout: Duration) {
        let _finished = FinishOnUnwind(self);
        self.close();
        self.finish(timeout);
    }

    fn finish_until(&self, deadline: Option<u64>) {
        self.seats.finish_until(deadline);
        self.stopped.set();
    }

    /// Ends accepting because of an error that trying again would not mend.
    pub(super) fn fail(&self, error: &io::Error) {
        tracing::error!(address = %self.name, "accepting ends: {error}");
        let source = {
            let mut state = lock(&self.state);
            state.failure = Some(error.raw_os_error().unwrap_or(libc::EIO));
            state.source.take()
        };
        drop(source);
        self.stopped.set();
    }
}

fn no_acceptor() -> io::Error {
    io::Error::new(
        io::ErrorKind::OutOfMemory,
        "there was no memory for the stack of the greenlet that accepts",
    )
}

/// Ends the time to finish when a kill or a time-out ends the wait of `stop`.
struct FinishOnUnwind<'a, S: AsRawFd + Send + Sync + 'static>(&'a Base<S>);

impl<S: AsRawFd + Send + Sync + 'static> Drop for FinishOnUnwind<'_, S> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Who unwinds does not wait: the connections are killed, and everybody is told.
            self.0.finish_until(switch::deadline(Some(Duration::ZERO)));
        }
    }
}

/// Calls a function when the wait of `serve_forever` is ended by a kill or a time-out.
pub(super) struct OnUnwind<F: Fn()>(pub(super) F);

impl<F: Fn()> Drop for OnUnwind<F> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            (self.0)();
        }
    }
}

/// Calls a function if it is dropped before it was disarmed: a greenlet's closure that has never
/// run.
pub(super) struct OnDrop<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> OnDrop<F> {
    pub(super) fn new(f: F) -> OnDrop<F> {
        OnDrop(Some(f))
    }

    pub(super) fn disarm(mut self) {
        self.0 = None;
    }
}

impl<F: FnOnce()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        if let Some(f) = self.0.take() {
            f();
        }
    }
}
