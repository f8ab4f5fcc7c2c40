//! Sending: what goes out at once, what is held back, and what waits for a slow peer.

use super::*;

impl Connection {
    /// Sends a message.
    #[inline]
    pub(crate) fn send(self: &Arc<Self>, message: Outgoing<'_>) -> Result<()> {
        let opcode = message.opcode();
        let payload = message.into_cow();
        let mut output = lock(&self.output);
        if self.continues_batch(&output, payload.len()) {
            output.outbox.push_short(opcode, payload);
            return Ok(());
        }
        self.send_locked(output, opcode, payload)
    }

    /// Whether a message of this length has only to be put behind the others of a batch: none of
    /// the questions of [`send_locked`](Self::send_locked) has another answer than for these.
    #[inline]
    fn continues_batch(&self, output: &Output, len: usize) -> bool {
        let greenlet = self.batching.load(Ordering::Relaxed);
        greenlet != 0
            && output.hooked == greenlet
            && runtime::current_id() == Some(greenlet)
            && self.role == Role::Server
            && output.closing.may_send_data()
            && !output.finishing
            && output.deflater.is_none()
            && output.unfinished.is_none()
            && output.drain.is_none()
            && len <= COPY_MAX
            && output.outbox.len() < BATCH_MAX - (COPY_MAX + MAX_HEADER)
    }

    /// Puts a data frame, compressed if that was agreed on and is worth it.
    pub(super) fn put_message(
        self: &Arc<Self>,
        output: &mut Output,
        opcode: OpCode,
        payload: Cow<'_, [u8]>,
    ) {
        if output.deflater.is_none() || output.finishing {
            return self.put(output, opcode, payload);
        }
        self.put_compressed(output, opcode, payload);
    }

    #[inline(never)]
    pub(super) fn put_compressed(
        self: &Arc<Self>,
        output: &mut Output,
        opcode: OpCode,
        payload: Cow<'_, [u8]>,
    ) {
        let mut packed = scratch::take();
        let deflater = output.deflater.as_mut();
        let compressed = deflater.is_some_and(|deflater| deflater.compress(&payload, &mut packed));
        if compressed {
            let kind = Kind {
                compressed,
                ..opcode.into()
            };
            self.put(output, kind, Cow::Borrowed(&*packed));
        } else {
            self.put(output, opcode, payload);
        }
        scratch::give(packed);
    }

    /// Sends a ping or a pong.
    pub(crate) fn send_control(self: &Arc<Self>, opcode: OpCode, payload: &[u8]) -> Result<()> {
        if payload.len() > MAX_CONTROL_PAYLOAD {
            return Err(EncodeError::ControlTooLong(payload.len()).into());
        }
        self.send_frame(opcode, payload.into())
    }

    pub(super) fn send_frame(
        self: &Arc<Self>,
        opcode: OpCode,
        payload: Cow<'_, [u8]>,
    ) -> Result<()> {
        self.send_locked(lock(&self.output), opcode, payload)
    }

    fn send_locked<'a>(
        self: &'a Arc<Self>,
        mut output: MutexGuard<'a, Output>,
        opcode: OpCode,
        payload: Cow<'_, [u8]>,
    ) -> Result<()> {
        if !output.closing.may_send_data() {
            return Err(WebSocketError::Closed);
        }
        if opcode.is_control() {
            if opcode == OpCode::Ping {
                output.note_ping(&payload);
            }
            self.put(&mut output, opcode, payload);
        } else {
            if output.unfinished.is_some() {
                output = self.await_message_end(output)?;
            }
            self.put_message(&mut output, opcode, payload);
        }
        self.make_room(output)
    }

    /// Does what is to be done where more waits than should.
    #[inline]
    pub(super) fn make_room(self: &Arc<Self>, output: MutexGuard<'_, Output>) -> Result<()> {
        if output.outbox.is_empty() && !output.cut {
            return Ok(());
        }
        self.make_room_behind(output)
    }

    fn make_room_behind(self: &Arc<Self>, output: MutexGuard<'_, Output>) -> Result<()> {
        if output.cut {
            // By this very frame.
            drop(output);
            return self.end::<()>().map(drop);
        }
        if output.outbox.len() <= self.config.high_water || output.drain.is_none() {
            return Ok(());
        }
        if self.config.slow_consumer == SlowConsumer::Close {
            self.end_behind_locked(output, Disconnect::SlowConsumer);
            return Err(WebSocketError::Disconnected(Disconnect::SlowConsumer));
        }
        self.wait_for_room(output)
    }

    /// Waits until what waits is below the high-water mark. The message is on its way whatever
    /// happens to the caller.
    pub(super) fn wait_for_room<'a>(&'a self, mut output: MutexGuard<'a, Output>) -> Result<()> {
        while output.outbox.len() > self.config.high_water {
            let Some(drain) = output.drain.clone() else {
                break;
            };
            drop(output);
            if !drain.wait() {
                // The caller unwinds: it may not wait.
                return Ok(());
            }
            output = lock(&self.output);
        }
        match output.closing.disconnect() {
            Some(disconnect) if !disconnect.is_clean() => {
                Err(WebSocketError::Disconnected(disconnect.clone()))
            }
            _ => Ok(()),
        }
    }

    /// Sends a frame, or holds it back with the rest of a batch; never waits.
    pub(super) fn put(
        self: &Arc<Self>,
        output: &mut Output,
        kind: impl Into<Kind>,
        payload: Cow<'_, [u8]>,
    ) {
        let mut kind = kind.into();
        if output.finishing {
            return;
        }
        if self.role == Role::Client && !self.mask(&mut kind) {
            return self.cut_locked(output, Disconnect::TransportError);
        }
        let batching = match self.batching.load(Ordering::Relaxed) {
            0 => false,
            greenlet => runtime::current_id() == Some(greenlet) && self.hook(output, greenlet),
        };
        if payload.len() > LARGE {
            self.untrimmed.store(PATIENCE, Ordering::Relaxed);
        }
        let result = if batching {
            output.outbox.push(kind, payload);
            if output.outbox.len() < BATCH_MAX || output.drain.is_some() {
                return;
            }
            output.outbox.flush(&self.stream)
        } else if output.outbox.is_empty() {
            output.outbox.send(&self.stream, kind, payload)
        } else {
            output.outbox.push(kind, payload);
            match output.drain {
                // What was held back goes first, and now.
                None => output.outbox.flush(&self.stream),
                Some(_) => Ok(()),
            }
        };
        self.after_write(output, result);
    }

    /// Gives a frame of a client its key (RFC 6455, 5.3). False if there are no random numbers to be
    /// had.
    pub(super) fn mask(&self, kind: &mut Kind) -> bool {
        match random::bytes() {
            Ok(key) => kind.mask = Some(key),
            Err(error) => {
                tracing::error!("a websocket is cut: there are no random numbers: {error}");
                return false;
            }
        }
        true
    }

    /// Has the connection flushed before the calling greenlet switches. False if it will be before
    /// another's switch: that may be long.
    pub(super) fn hook(self: &Arc<Self>, output: &mut Output, greenlet: u64) -> bool {
        if output.hooked == 0 && runtime::before_switch(self) {
            output.hooked = greenlet;
        }
        output.hooked == greenlet
    }

    /// Looks after what the socket did not take.
    #[inline]
    pub(super) fn after_write(self: &Arc<Self>, output: &mut Output, result: io::Result<()>) {
        if result.is_err() {
            self.cut_locked(output, Disconnect::TransportError);
        } else if !output.outbox.is_empty() && output.drain.is_none() {
            self.start_drain(output);
        }
    }

    /// Starts the greenlet that writes what waits, on the hub to which the descriptor belongs.
    pub(super) fn start_drain(self: &Arc<Self>, output: &mut Output) {
        let mut drain = Drain {
            connection: Arc::clone(self),
            from: runtime::Hub::current(),
            begun: false,
        };
        output.drain = Some(Arc::new(Flag::new()));
        // Mostly it is the receiver who sends, and this takes another page of its stack.
        self.untrimmed.store(PATIENCE, Ordering::Relaxed);
        let writer = Builder::new().hub(self.home()).spawn(move || {
            drain.begun = true;
            drain.connection.drain();
            // A parked connection has no use for what the wait has left.
            drain.connection.stream.unregister();
        });
        match writer {
            // On the caller's own hub a refusal may come at once.
            Ok(writer) if !writer.ready() => {}
            Ok(_) => self.cut_locked(output, Disconnect::TransportError),
            Err(error) => {
                tracing::warn!("a websocket is cut: {error}");
                self.cut_locked(output, Disconnect::TransportError);
            }
        }
    }

    pub(super) fn drain(self: &Arc<Self>) {
        loop {
            let writable = self
                .stream
                .wait_writable_timeout(Some(self.config.write_timeout));
            let mut output = lock(&self.output);
            if output.outbox.is_empty() {
                // Cut in the meantime, or all that waited was dropped. Under the lock, so that who
                // sends next does not rely on this greenlet.
                if let Some(room) = output.drain.take() {
                    room.set();
                }
                return;
            }
            let cause = match writable {
                Ok(()) => match output.outbox.flush(&self.stream) {
                    Ok(()) => None,
                    Err(_) => Some(Disconnect::TransportError),
                },
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    Some(Disconnect::SlowConsumer)
                }
                Err(_) => Some(Disconnect::TransportError),
            };
            if let Some(cause) = cause {
                self.cut_locked(&mut output, cause);
                return;
            }
            if output.outbox.len() <= self.config.high_water / 2 {
                // There is room; those who come next wait for the next time.
                let next = (!output.outbox.is_empty()).then(|| Arc::new(Flag::new()));
                let done = next.is_none();
                if let Some(room) = std::mem::replace(&mut output.drain, next) {
                    room.set();
                }
                if done {
                    self.shutdown_if_finishing(&output);
                    return;
                }
            }
        }
    }

    pub(super) fn shutdown_if_finishing(&self, output: &Output) {
        // 7.1.1: after both close frames the server ends the transport, and the client waits for it.
        let is_servers = self.role == Role::Client
            && (output.closing.disconnect()).is_some_and(Disconnect::is_clean);
        if output.finishing && !output.owed && !is_servers {
            // Fails when the peer was quicker.
            self.stream.shutdown(net::Shutdown::Write).ok();
        }
    }
}

impl BeforeSwitch for Connection {
    fn before_switch(self: Arc<Self>) {
        let mut output = lock(&self.output);
        output.hooked = 0;
        if output.drain.is_none() && !output.finishing {
            let written = output.outbox.flush(&self.stream);
            self.after_write(&mut output, written);
        }
    }
}

/// What the greenlet that writes owns. When there is no stack for it, it ends without having begun:
/// nobody would write any more.
struct Drain {
    connection: Arc<Connection>,
    /// The hub that started it.
    from: Option<usize>,
    begun: bool,
}

impl Drop for Drain {
    fn drop(&mut self) {
        // Refused by its starter's own hub it is dropped under the lock, and the starter sees to
        // it.
        if !self.begun && runtime::Hub::current() != self.from {
            self.connection.cut(Disconnect::TransportError);
        }
    }
}
