//! [`Builder`]: greenlets with a name, a stack size or a hub of their own.

use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use super::handle::Greenlet;
use super::outcome::{Outcome, body};
use crate::error::SpawnError;
use crate::hub::{self, Body, Job, SendJob};
use crate::task::Task;
use crate::{config, limits, switch};

/// A greenlet with a name, a stack size or a hub of its own.
///
/// ```
/// use greenwood_runtime::Builder;
/// let greenlet = Builder::new().name("parser").stack_size(1 << 20).hub(0).spawn(|| "done")?;
/// assert_eq!(greenlet.name(), "parser");
/// assert_eq!(greenlet.join().unwrap(), "done");
/// # Ok::<(), greenwood_runtime::SpawnError>(())
/// ```
#[derive(Debug, Clone, Default)]
#[must_use = "a builder does nothing until it spawns"]
pub struct Builder {
    name: Option<Box<str>>,
    stack_size: Option<usize>,
    hub: Option<usize>,
}

impl Builder {
    /// A greenlet like any other.
    pub fn new() -> Builder {
        Builder::default()
    }

    /// Its name, in messages and logs. Default: `greenlet-` and its number.
    pub fn name(mut self, name: impl Into<String>) -> Builder {
        self.name = Some(name.into().into_boxed_str());
        self
    }

    /// Its stack size in bytes, rounded up to whole pages; default:
    /// [`Hub::limits`](crate::Hub::limits)'s `stack_size`. Only touched pages take memory,
    /// but a stack of another size than the default is not kept for the next greenlet, so starting
    /// costs about 20 µs more.
    pub fn stack_size(mut self, bytes: usize) -> Builder {
        self.stack_size = Some(bytes);
        self
    }

    /// Its hub, 0 to [`Hub::count`](crate::Hub::count) - 1. Default: the caller's own; from a plain
    /// thread the hubs take turns.
    pub fn hub(mut self, hub: usize) -> Builder {
        self.hub = Some(hub);
        self
    }

    /// Starts it.
    ///
    /// # Errors
    ///
    /// [`SpawnError`]: a limit is reached, the builder asks for what can't be had, or it would be
    /// the first greenlet and the hubs can't start.
    #[track_caller]
    pub fn spawn<F, T>(self, f: F) -> Result<Greenlet<T>, SpawnError>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.launch(f, None)
    }

    /// Starts it after `delay`. It counts as alive from now on.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Builder::spawn).
    #[track_caller]
    pub fn spawn_later<F, T>(self, delay: Duration, f: F) -> Result<Greenlet<T>, SpawnError>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.launch(f, Some(switch::later(delay)))
    }

    /// Starts it on the caller's own hub; nothing need be `Send`.
    ///
    /// # Errors
    ///
    /// [`SpawnError`]; [`SpawnError::NoHub`] on a thread that is no hub's, and
    /// [`SpawnError::NotThisHub`] when the builder names another hub.
    #[track_caller]
    pub fn spawn_local<F, T>(self, f: F) -> Result<Greenlet<T>, SpawnError>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        self.spawn_local_noted(f, |_| ())
    }

    /// As [`spawn`](Builder::spawn), on behalf of who spawns at `site`; `note` learns of the greenlet
    /// before it runs.
    pub(crate) fn spawn_noted<F, T>(
        self,
        f: F,
        site: &'static Location<'static>,
        note: impl FnOnce(&Arc<Task>),
    ) -> Result<Greenlet<T>, SpawnError>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let (task, stack_size) = self.prepare(site)?;
        let outcome = Arc::new(Outcome::new());
        let body = body(f, Arc::clone(&outcome));
        note(&task);
        hub::spawn(Arc::clone(&task), SendJob { body, stack_size }, None);
        Ok(Greenlet { task, outcome })
    }

    /// As [`spawn_local`](Builder::spawn_local); `note` learns of the greenlet before it runs.
    #[track_caller]
    pub(crate) fn spawn_local_noted<F, T>(
        self,
        f: F,
        note: impl FnOnce(&Arc<Task>),
    ) -> Result<Greenlet<T>, SpawnError>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        let (task, stack_size) = self.prepare_local(Location::caller())?;
        let outcome = Arc::new(Outcome::new());
        let body = body(f, Arc::clone(&outcome));
        note(&task);
        hub::local().start(Arc::clone(&task), Job { body, stack_size });
        Ok(Greenlet { task, outcome })
    }

    /// Makes it and does not start it: that is for [`start`](Greenlet::start) or
    /// [`start_later`](Greenlet::start_later). It counts as alive from then on.
    ///
    /// # Errors
    ///
    /// [`SpawnError`]: the builder asks for what can't be had, or it would be the first greenlet
    /// and the hubs can't start.
    #[track_caller]
    pub fn unstarted<F, T>(self, f: F) -> Result<Greenlet<T>, SpawnError>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let hub = self.checked_hub()?;
        let stack_size = self.checked_stack_size()?;
        let outcome = Arc::new(Outcome::new());
        let body = body(f, Arc::clone(&outcome));
        let job = SendJob { body, stack_size };
        let task = Task::unstarted(self.name, hub, Location::caller(), job);
        Ok(Greenlet { task, outcome })
    }

    /// Starts one whose result nobody asks for.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Builder::spawn).
    #[track_caller]
    pub(crate) fn spawn_detached<F>(self, f: F) -> Result<(), SpawnError>
    where
        F: FnOnce() + Send + 'static,
    {
        self.launch_with(body(f, ()), None, Location::caller())
            .map(drop)
    }

    #[track_caller]
    fn launch<F, T>(self, f: F, at: Option<u64>) -> Result<Greenlet<T>, SpawnError>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let outcome = Arc::new(Outcome::new());
        let task = self.launch_with(body(f, Arc::clone(&outcome)), at, Location::caller())?;
        Ok(Greenlet { task, outcome })
    }

    pub(super) fn launch_with(
        self,
        body: Box<dyn Body + Send>,
        at: Option<u64>,
        site: &'static Location<'static>,
    ) -> Result<Arc<Task>, SpawnError> {
        let (task, stack_size) = self.prepare(site)?;
        hub::spawn(Arc::clone(&task), SendJob { body, stack_size }, at);
        Ok(task)
    }

    /// A greenlet for which there is room, and the size of its stack. It is to be started.
    pub(crate) fn prepare(
        self,
        site: &'static Location<'static>,
    ) -> Result<(Arc<Task>, Option<usize>), SpawnError> {
        let hub = self.checked_hub()?;
        let stack_size = self.checked_stack_size()?;
        limits::reserve()?;
        Ok((Task::new(self.name, hub, site), stack_size))
    }

    /// As [`prepare`](Builder::prepare), for the caller's own hub.
    pub(crate) fn prepare_local(
        self,
        site: &'static Location<'static>,
    ) -> Result<(Arc<Task>, Option<usize>), SpawnError> {
        let Some(local) = hub::try_local() else {
            return Err(SpawnError::NoHub);
        };
        let current = local.id() as usize;
        if let Some(hub) = self.hub
            && hub != current
        {
            return Err(SpawnError::NotThisHub { hub, current });
        }
        let stack_size = self.checked_stack_size()?;
        limits::reserve()?;
        Ok((Task::new(self.name, local.id(), site), stack_size))
    }

    fn checked_hub(&self) -> Result<u32, SpawnError> {
        let runtime = hub::try_runtime()?;
        match self.hub {
            Some(hub) if hub < runtime.hubs() => Ok(hub as u32),
            Some(hub) => Err(SpawnError::NoSuchHub {
                hub,
                hubs: runtime.hubs(),
            }),
            None => Ok(runtime.pick()),
        }
    }

    fn checked_stack_size(&self) -> Result<Option<usize>, SpawnError> {
        match self.stack_size {
            None => Ok(None),
            Some(size) => {
                let Some(bytes) = config::usable_stack(size) else {
                    return Err(SpawnError::StackSize { size });
                };
                match config::above_limit(bytes) {
                    Some(limit) => Err(SpawnError::StackLimit { size, limit }),
                    None => Ok(Some(bytes)),
                }
            }
        }
    }
}
