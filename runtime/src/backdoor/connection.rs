//! One who asks a backdoor.

use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;

use super::Inner;
use super::commands::Next;
use crate::greenlet::getcurrent;
use crate::net::socket::{Direction, Socket};
use crate::switch;
use crate::sys::fd;
use crate::task::lock;

/// The longest line that is taken, in bytes: no command needs a tenth of it.
const MAX_LINE: usize = 1_024;

/// How long a peer may leave an answer unread.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long, and up to how many bytes, what follows a line that is too long is read: to be able to
/// say so.
const LEAVE: Duration = Duration::from_secs(1);
const MAX_REST: usize = 64 * 1_024;

/// Somebody who asks.
pub(super) struct Connection {
    inner: Arc<Inner>,
    id: u64,
    socket: Socket,
}

impl Connection {
    pub(super) fn new(inner: Arc<Inner>, socket: Socket) -> Connection {
        let current = getcurrent().expect("this is a greenlet");
        let id = current.id();
        lock(&inner.connections).insert(id, current);
        Connection { inner, id, socket }
    }

    pub(super) fn serve(&self) {
        if self.inner.stopped.is_set() {
            return;
        }
        let idle = lock(&self.inner.settings).idle;
        let mut buffer = Vec::new();
        loop {
            while let Some(end) = buffer.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = buffer.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line);
                let (answer, next) = self.inner.answer(line.trim());
                if self.send(answer.as_bytes()).is_err() || matches!(next, Next::End) {
                    return;
                }
            }
            if buffer.len() >= MAX_LINE {
                let text = format!("error: a line has at most {MAX_LINE} bytes\n");
                self.send(text.as_bytes()).ok();
                self.take_leave();
                return;
            }
            if self.socket.wait(Direction::Read, Some(idle)).is_err() {
                return;
            }
            let room = MAX_LINE - buffer.len();
            let read = self
                .socket
                .try_read(room, |fd| fd::receive_into(fd, &mut buffer, room));
            match read {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }

    /// Takes what the peer has on its way: closed with something unread, a connection is reset, and
    /// the peer does not learn why.
    fn take_leave(&self) {
        SockRef::from(&self.socket.as_fd())
            .shutdown(Shutdown::Write)
            .ok();
        let until = switch::deadline(Some(LEAVE));
        let mut rest = [0; 1_024];
        for _ in 0..MAX_REST / rest.len() {
            if self.socket.wait_until(Direction::Read, until).is_err() {
                return;
            }
            match self
                .socket
                .try_read(rest.len(), |fd| fd::receive(fd, &mut rest))
            {
                Ok(0) => return,
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return,
                _ => {}
            }
        }
    }

    fn send(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.socket.try_write(|fd| fd::send(fd, bytes)) {
                Ok(n) => bytes = &bytes[n..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.socket.wait(Direction::Write, Some(PATIENCE))?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        lock(&self.inner.connections).remove(&self.id);
    }
}
