//! [`Imap`]: results one after the other, while others are being made.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use crate::error::JoinError;
use crate::greenlet::{Builder, Greenlet, await_end};
use crate::semaphore::Semaphore;
use crate::switch;
use crate::task::lock;
use crate::waitable::{News, Waitable, Watcher};
use crate::waiter::Stop;

/// The iterator of [`Group::imap`](super::Group::imap) and
/// [`Group::imap_unordered`](super::Group::imap_unordered). Its [`next`](Iterator::next) waits for
/// the next result.
///
/// A `next` that is killed or runs out of time takes nothing: the one after it gives that result.
/// In a greenlet that unwinds it does not wait, and is none if there is nothing yet.
#[must_use = "it gives the results"]
pub struct Imap<T>(pub(super) Feed<Greenlet<T>>);

impl<T> Iterator for Imap<T> {
    type Item = Result<T, JoinError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next()
    }
}

impl<T> fmt::Debug for Imap<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt_as("Imap", f)
    }
}

/// Something under way that has a result.
pub(crate) trait Handle: Waitable {
    type Value;
    type Error: From<JoinError>;

    /// As [`watch`](Waitable::watch). Of two of which one could begin only because the other has
    /// ended, the other is told of first.
    fn watch_in_order(&self, watcher: Watcher) -> bool {
        self.watch(watcher)
    }

    /// Waits for the end; false if the caller unwinds and would have to wait.
    fn await_end(&self) -> bool;

    /// The result. The end has come; so nothing is raised here, where it has been taken.
    fn result(self) -> Result<Self::Value, Self::Error>;
}

impl<T> Handle for Greenlet<T> {
    type Value = T;
    type Error = JoinError;

    fn watch_in_order(&self, watcher: Watcher) -> bool {
        self.task.watch_end_early(watcher)
    }

    fn await_end(&self) -> bool {
        await_end(&self.task, None)
    }

    fn result(self) -> Result<T, JoinError> {
        self.into_result()
    }
}

/// The number of the feeder among the news.
const FEEDER: usize = usize::MAX;

/// The results of what a greenlet, the feeder, begins item by item.
pub(crate) struct Feed<H: Handle> {
    /// What can be taken: begun, in order, or ended; at last the feeder.
    news: Arc<News>,
    shared: Arc<Shared<H>>,
    feeder: Option<Greenlet<()>>,
    /// The one whose turn it is.
    present: Option<H>,
    /// Why the feeder has ended early.
    error: Option<H::Error>,
}

struct Shared<H: Handle> {
    /// What has been begun and not been taken.
    begun: Mutex<HashMap<usize, H>>,
    /// Why nothing more could be begun.
    refused: Mutex<Option<H::Error>>,
    /// How many more may be.
    room: Option<Semaphore>,
}

impl<H> Feed<H>
where
    H: Handle<Error: Send> + Send + 'static,
{
    /// Starts to call `begin` with each item, until it fails.
    #[track_caller]
    pub(crate) fn new<I, B>(mut begin: B, items: I, maxsize: usize, ordered: bool) -> Feed<H>
    where
        I: IntoIterator + Send + 'static,
        B: FnMut(I::Item) -> Result<H, H::Error> + Send + 'static,
    {
        let news = Arc::new(News::default());
        let shared = Arc::new(Shared {
            begun: Mutex::default(),
            refused: Mutex::new(None),
            room: (maxsize > 0).then(|| Semaphore::new(maxsize)),
        });
        let (told, theirs) = (Arc::clone(&news), Arc::clone(&shared));
        let feeder = Builder::new().name("imap").spawn(move || {
            for (number, item) in items.into_iter().enumerate() {
                if let Some(room) = &theirs.room
                    && !room.acquire()
                {
                    return;
                }
                let handle = match begin(item) {
                    Ok(handle) => handle,
                    Err(error) => {
                        *lock(&theirs.refused) = Some(error);
                        return;
                    }
                };
                let watcher = Watcher::new(&told, number);
                let mut begun = lock(&theirs.begun);
                let ready = ordered || !handle.watch_in_order(watcher.clone());
                begun.insert(number, handle);
                drop(begun);
                if ready {
                    watcher.tell();
                }
            }
        });
        let (feeder, error) = match feeder {
            Ok(feeder) => {
                let watcher = Watcher::new(&news, FEEDER);
                if !feeder.watch(watcher.clone()) {
                    watcher.tell();
                }
                (Some(feeder), None)
            }
            Err(source) => {
                let name = "imap".into();
                (None, Some(JoinError::Refused { name, source }.into()))
            }
        };
        Feed {
            news,
            shared,
            feeder,
            present: None,
            error,
        }
    }
}

impl<H: Handle> Feed<H> {
    pub(crate) fn next(&mut self) -> Option<Result<H::Value, H::Error>> {
        switch::check();
        // Before anything is taken: it may raise a kill.
        switch::share();
        loop {
            if let Some(present) = &self.present {
                if !present.await_end() {
                    return None;
                }
                if let Some(room) = &self.shared.room {
                    room.release();
                }
                return self.present.take().map(Handle::result);
            }
            if self.feeder.is_none() && lock(&self.shared.begun).is_empty() {
                return self.error.take().map(Err);
            }
            let number = match self.news.try_next() {
                Some(number) => number,
                None if !switch::may_wait() => return None,
                None => match self.news.next(None) {
                    Ok(number) => number,
                    Err(Stop::Interrupt(interrupt)) => switch::raise(interrupt),
                    Err(Stop::Deadline) => continue,
                },
            };
            if number == FEEDER {
                let ended = self.feeder.take().map(Greenlet::into_result);
                let panicked = ended.and_then(Result::err).map(H::Error::from);
                self.error = panicked.or_else(|| lock(&self.shared.refused).take());
            } else {
                self.present = lock(&self.shared.begun).remove(&number);
            }
        }
    }

    pub(crate) fn fmt_as(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let begun = lock(&self.shared.begun).len();
        f.debug_struct(name)
            .field("begun", &begun)
            .field("fed", &self.feeder.is_none())
            .finish_non_exhaustive()
    }
}

impl<H: Handle> Drop for Feed<H> {
    fn drop(&mut self) {
        self.news.end();
        if let Some(feeder) = &self.feeder {
            feeder.kill_nowait();
        }
    }
}
