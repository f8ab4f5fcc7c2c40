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

/// How many steps, reads and control frames, there may be between two messages before the others have their
/// turn: a peer that sends nothing but pings, or one endless message, must not keep the hub.
const MAX_STEPS: usize = 32;

/// And how many reads among them: one alone may bring thousands of empty fragments.
const MAX_READS: usize = 4;

/// One call of a parked connection, from the point of view of who receives.
///
/// The place of the receiver is kept between the calls: a parked connection counts as one that
/// waits for the peer. While the application works it is nobody's, as in the blocking style.
pub(crate) struct Unwaited<'a> {
    connection: &'a Arc<Connection>,
    /// The socket is known to be empty.
    drained: bool,
    /// So is what has been read, unless the application reads by itself.
    used_up: bool,
    /// A short read says nothing: the end is behind it.
    to_the_end: bool,
    /// Has the place of the receiver.
    holds: bool,
}

impl<'a> Unwaited<'a> {
    /// Begins a call. `holds`: the place is kept from the last one; `closed`: the end is there to
    /// be read.
    pub(crate) fn begin(connection: &'a Arc<Connection>, holds: bool, closed: bool) -> Self {
        Unwaited {
            to_the_end: closed || !connection.stream.is_drained_by_short_reads(),
            connection,
            drained: false,
            used_up: false,
            holds,
        }
    }

    /// Ends the call and keeps the place of the receiver, if it was taken; whether it was.
    pub(crate) fn keep(mut self) -> bool {
        std::mem::take(&mut self.holds)
    }

    /// Nothing but a look at the end is left to be done.
    #[inline]
    pub(crate) fn is_used_up(&self) -> bool {
        self.used_up
    }

    /// The next message, if there is one already. The place is given up for it.
    #[inline]
    pub(crate) fn next(&mut self) -> Next {
        let next = self.look();
        if !matches!(next, Next::Nothing) {
            self.let_go();
        }
        next
    }

    fn look(&mut self) -> Next {
        let connection = self.connection;
        let mut reads = 0;
        for _ in 0..MAX_STEPS {
            if self.used_up {
                // Looked at after the place was taken: who ends the connection wakes who has it, and
                // nobody else reads any more.
                if !self.hold() {
                    return Next::Nothing;
                }
                if connection.is_finished() {
                    return Next::End;
                }
                if !connection.has_rest() {
                    return Next::Nothing;
                }
                // The application has received by itself, and has left something. Of that the
                // socket may say nothing: what was read was not there any more when it was asked.
                (self.used_up, self.drained) = (false, false);
            }
            let mut input = lock(&connection.input);
            let event = if input.rest.is_empty() {
                if !self.hold() {
                    return Next::Nothing;
                }
                // For the same reason.
                if connection.is_finished() {
                    return Next::End;
                }
                if input.decoder.is_over() {
                    // As in `read`.
                    drop(input);
                    std::thread::yield_now();
                    continue;
                }
                if reads == MAX_READS {
                    break;
                }
                reads += 1;
                let read = connection.read_into(&mut input, MESSAGES);
                if matches!(read, Ok(None)) && input.empty && connection.stream.is_drained() {
                    return Next::Nothing;
                }
                self.drained = input.short && !self.to_the_end;
                read
            } else {
                connection.take_of_rest(&mut input)
            };
            self.used_up = self.drained && input.rest.is_empty();
            drop(input);
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
            drop(Receiving(self.connection));
        }
    }
}

impl Drop for Unwaited<'_> {
    fn drop(&mut self) {
        self.let_go();
    }
}

impl Connection {
    /// Gives the connection a place among the parked ones, to which it is called also when it is
    /// its turn to receive.
    pub(crate) fn reserve_place(&self) -> io::Result<Arc<Place>> {
        let place = Arc::new(Place::reserve(&self.stream)?);
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
        self.reception.take_for_parked()
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

    /// What comes next of what has been read already.
    fn take_of_rest(
        self: &Arc<Self>,
        input: &mut Input,
    ) -> std::result::Result<Option<Event>, Fault> {
        input.prepare(MESSAGES)?;
        if let Some(message) = input.next_message() {
            self.note_batch(input);
            return Ok(Some(Event::Message(message)));
        }
        let event = input.next_of_rest().unwrap_or(Ok(None));
        self.note_batch(input);
        self.note_end(&event);
        event.map_err(Fault::Protocol)
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
