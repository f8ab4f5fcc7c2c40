//! Receiving without a wait: for a parked connection, which is called when there is something.

use super::*;

const MESSAGES: Wanted = Wanted::Unit(Unit::Messages);

/// What there is to receive.
pub(crate) enum Next {
    Message(Message),
    /// Nothing now: there will be a call when that changes.
    Nothing,
    /// None yet, and the others are to have their turn.
    Later,
    /// The connection is over.
    End,
}

/// How many reads and control frames there may be between two messages before the others have their
/// turn: a peer that sends nothing but pings, or one endless message, must not keep the hub.
const MAX_STEPS: usize = 32;

/// One call of a parked connection, from the point of view of who receives.
///
/// The place of the receiver is kept between the calls: a parked connection counts as one that
/// waits for the peer. While the application works it is nobody's, as in the blocking style.
pub(crate) struct Unwaited {
    connection: Arc<Connection>,
    /// The socket is known to be empty.
    drained: bool,
    /// A short read says nothing: the end is behind it.
    to_the_end: bool,
    /// Has the place of the receiver.
    holds: bool,
}

impl Unwaited {
    /// Begins a call. `holds`: the place is kept from the last one; `closed`: the end is there to
    /// be read.
    pub(crate) fn begin(connection: &Arc<Connection>, holds: bool, closed: bool) -> Unwaited {
        Unwaited {
            to_the_end: closed || !connection.stream.is_drained_by_short_reads(),
            connection: Arc::clone(connection),
            drained: false,
            holds,
        }
    }

    /// Ends the call and keeps the place of the receiver, if it was taken; whether it was.
    pub(crate) fn keep(mut self) -> bool {
        std::mem::take(&mut self.holds)
    }

    /// The next message, if there is one already. The place is given up for it.
    pub(crate) fn next(&mut self) -> Next {
        let next = self.look();
        if !matches!(next, Next::Nothing) {
            self.let_go();
        }
        next
    }

    fn look(&mut self) -> Next {
        let connection = Arc::clone(&self.connection);
        for _ in 0..MAX_STEPS {
            let event = {
                let mut input = lock(&connection.input);
                if let Err(fault) = input.prepare(MESSAGES) {
                    Some(Err(fault))
                } else if let Some(message) = input.next_message() {
                    connection.note_batch(&input);
                    Some(Ok(Some(Event::Message(message))))
                } else if let Some(event) = input.next_of_rest() {
                    connection.note_batch(&input);
                    connection.note_end(&event);
                    Some(event.map_err(Fault::Protocol))
                } else {
                    None
                }
            };
            let event = match event {
                Some(event) => event,
                None => {
                    if !self.hold() {
                        return Next::Nothing;
                    }
                    // Looked at after the place was taken, as who ends the connection wakes who
                    // has it.
                    if connection.is_finished() {
                        return Next::End;
                    }
                    if self.drained {
                        return Next::Nothing;
                    }
                    let read = connection.read(MESSAGES);
                    let (short, empty) = {
                        let input = lock(&connection.input);
                        (input.short, input.empty)
                    };
                    if matches!(read, Ok(None)) && empty && connection.stream.is_drained() {
                        return Next::Nothing;
                    }
                    self.drained = short && !self.to_the_end;
                    read
                }
            };
            match event {
                Ok(Some(Event::Message(message))) => {
                    connection.active.store(true, Ordering::Relaxed);
                    return Next::Message(message);
                }
                // Fails only when the connection has ended, which is seen next.
                Ok(Some(event)) => drop(connection.answer(event)),
                Ok(None) => {}
                Err(fault) => {
                    connection.ended_by(fault);
                    return Next::End;
                }
            }
        }
        Next::Later
    }

    fn hold(&mut self) -> bool {
        self.holds = self.holds || self.connection.hold_for_parked();
        self.holds
    }

    fn let_go(&mut self) {
        if std::mem::take(&mut self.holds) {
            drop(Receiving(&self.connection));
        }
    }
}

impl Drop for Unwaited {
    fn drop(&mut self) {
        self.let_go();
    }
}

impl Connection {
    /// Gives the connection a place among the parked ones, to which it is called also when it is
    /// its turn to receive.
    pub(crate) fn reserve_place(&self) -> io::Result<Arc<Place>> {
        let place = Arc::new(Place::reserve(self.stream.as_tcp())?);
        lock(&self.output).place = Some(Arc::clone(&place));
        Ok(place)
    }

    /// Leaves the place.
    pub(crate) fn leave_place(&self) {
        let place = lock(&self.output).place.take();
        if let Some(place) = place {
            place.leave();
        }
    }

    /// Takes the place of the receiver for the parked connection. If somebody else has it, who
    /// closes or receives, the connection is called when it is free: who ends a connection wakes
    /// only who has the place.
    pub(crate) fn hold_for_parked(&self) -> bool {
        let taken = self
            .receiving
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |holder| match holder {
                NOBODY => Some(RECEIVER),
                holder => Some(holder | PARKED),
            });
        taken == Ok(NOBODY)
    }

    /// Whether there is input at hand of which the socket will say nothing.
    pub(crate) fn has_rest(&self) -> bool {
        !lock(&self.input).rest.is_empty()
    }

    /// Has the parked connection called although nothing has arrived.
    pub(crate) fn call_parked(self: &Arc<Self>) {
        let place = lock(&self.output).place.clone();
        if let Some(place) = place
            && let Err(error) = place.wake()
        {
            tracing::warn!("a websocket is cut: {error}");
            self.cut(Disconnect::TransportError);
        }
    }

    fn ended_by(self: &Arc<Self>, fault: Fault) {
        match fault {
            Fault::Transport(Disconnect::TransportEnd) => {
                // As in `receive_until`.
                let mut output = lock(&self.output);
                self.change(&mut output, |closing| {
                    closing.on_transport_end(Disconnect::TransportEnd);
                });
            }
            Fault::Transport(cause) => self.cut(cause),
            Fault::Protocol(error) => self.fail(Disconnect::from(error)),
            Fault::Busy(_) | Fault::Wait(_) | Fault::Late => {}
        }
    }
}
