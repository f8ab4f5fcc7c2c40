//! Who is connected, so that a stop finds those who wait and those who want to know.

use std::{
    collections::HashMap,
    fmt,
    net::Shutdown,
    panic::{self, AssertUnwindSafe},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use greenwood_runtime::net::Stream;
use slab::Slab;

/// The connections of one server.
#[derive(Default)]
pub(crate) struct Registry {
    stopping: AtomicBool,
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    next: u64,
    connections: HashMap<u64, Arc<Idleness>>,
    /// None for one that has been called.
    callbacks: Slab<Option<Callback>>,
}

type Callback = Box<dyn FnOnce() + Send>;

/// A connection's place in the registry; leaves it when dropped.
pub(crate) struct Entry {
    registry: Arc<Registry>,
    id: u64,
    idleness: Arc<Idleness>,
}

struct Idleness {
    idle: AtomicBool,
    stream: Stream,
}

/// Keeps a callback of [`Exchange::on_stop`](crate::Exchange::on_stop) registered. When it is
/// dropped the callback is forgotten.
#[must_use = "dropping it unregisters the callback"]
pub struct OnStop {
    registry: Weak<Registry>,
    key: Option<usize>,
}

impl Registry {
    /// Whether the server is being stopped.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Marks the server as being stopped. Connections end after the request they are at; the
    /// others end now.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        let (connections, callbacks) = {
            let mut entries = self.lock();
            let connections: Vec<_> = entries.connections.values().cloned().collect();
            let callbacks: Vec<_> = (entries.callbacks.iter_mut())
                .filter_map(|(_, callback)| callback.take())
                .collect();
            (connections, callbacks)
        };
        for connection in connections {
            // A connection that becomes idle later sees `stopping` (both are SeqCst). What it has
            // received and not yet read it will still answer.
            if connection.idle.load(Ordering::SeqCst) {
                connection.stream.shutdown(Shutdown::Read).ok();
            }
        }
        for callback in callbacks {
            // One that panics must not keep the others, and the stop itself, from going on.
            if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(callback)) {
                if greenwood_runtime::is_interrupt(&*payload) {
                    panic::resume_unwind(payload);
                }
                tracing::error!(target: "greenwood::wsgi", "a callback for the stop has panicked");
            }
        }
    }

    /// Adds a connection.
    pub(crate) fn enter(self: &Arc<Self>, stream: Stream) -> Entry {
        let idleness = Arc::new(Idleness {
            idle: AtomicBool::new(false),
            stream,
        });
        let mut entries = self.lock();
        let id = entries.id();
        entries.connections.insert(id, Arc::clone(&idleness));
        Entry {
            registry: Arc::clone(self),
            id,
            idleness,
        }
    }

    /// Adds a callback for the stop, or calls it if that has begun.
    pub(crate) fn on_stop(self: &Arc<Self>, callback: Callback) -> OnStop {
        let mut entries = self.lock();
        // Looked at under the lock: `stop` takes the callbacks after it has set the mark.
        let key = if self.is_stopping() {
            drop(entries);
            callback();
            None
        } else {
            Some(entries.callbacks.insert(Some(callback)))
        };
        OnStop {
            registry: Arc::downgrade(self),
            key,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        // Nothing that may panic runs under the lock.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    fn id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

impl Entry {
    /// Notes that the connection waits for a request. True if it need not, for the server stops.
    pub(crate) fn wait(&self) -> bool {
        self.idleness.idle.store(true, Ordering::SeqCst);
        self.registry.is_stopping()
    }

    /// Notes that the connection has a request, or a part of one.
    pub(crate) fn work(&self) {
        self.idleness.idle.store(false, Ordering::SeqCst);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.registry.lock().connections.remove(&self.id);
    }
}

impl Drop for OnStop {
    fn drop(&mut self) {
        if let (Some(registry), Some(key)) = (self.registry.upgrade(), self.key) {
            let callback = {
                let callbacks = &mut registry.lock().callbacks;
                let callback = callbacks.remove(key);
                if callbacks.is_empty() {
                    // A burst must not keep its room for ever.
                    *callbacks = Slab::new();
                }
                callback
            };
            // Dropped without the lock: it may own anything.
            drop(callback);
        }
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("stopping", &self.is_stopping())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for OnStop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnStop").finish_non_exhaustive()
    }
}
