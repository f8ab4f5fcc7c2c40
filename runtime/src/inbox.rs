//! [`Inbox`]: how other hubs and threads reach a hub, which sleeps when there is nothing to do.

use crate::sync::Mutex;
use crate::task::lock;

/// Messages to a hub, in the order in which they come.
///
/// One signal, which is a system call, is enough for all that comes until the hub has taken what
/// there is. So whoever finds that there is none on its way has to send it.
pub(crate) struct Inbox<M> {
    state: Mutex<State<M>>,
}

struct State<M> {
    messages: Vec<M>,
    /// Somebody has signalled, or is about to, since the hub last took the messages.
    signalled: bool,
}

impl<M> Inbox<M> {
    pub(crate) fn new() -> Inbox<M> {
        Inbox {
            state: Mutex::new(State {
                messages: Vec::new(),
                signalled: false,
            }),
        }
    }

    /// Leaves a message; whether the hub has to be signalled.
    #[must_use = "a hub that sleeps would never take it"]
    pub(crate) fn post(&self, message: M) -> bool {
        let mut state = lock(&self.state);
        state.messages.push(message);
        !std::mem::replace(&mut state.signalled, true)
    }

    /// Asks for a turn of the hub's, without a message; whether it has to be signalled.
    #[must_use = "a hub that sleeps would not have its turn"]
    pub(crate) fn ask(&self) -> bool {
        !std::mem::replace(&mut lock(&self.state).signalled, true)
    }

    /// Gives the hub what there is, in exchange for `messages`, which is empty and keeps its room.
    /// After a signal.
    pub(crate) fn take(&self, messages: &mut Vec<M>) {
        let mut state = lock(&self.state);
        // Together with what was left: a message that comes later is signalled anew.
        state.signalled = false;
        std::mem::swap(&mut state.messages, messages);
    }

    /// How many messages there are.
    pub(crate) fn len(&self) -> usize {
        lock(&self.state).messages.len()
    }
}
