//! [`Communication`]: a child's input and output at the same time.

use std::io;
use std::os::fd::AsFd;

use super::{PipeReader, PipeWriter, SubprocessError};
use crate::net::socket::{Direction, Socket};
use crate::net::{explain, is_late};
use crate::switch;
use crate::sys::{fd, now_ns};

/// How much [`Popen::communicate`](super::Popen::communicate) reads of each of a child's stdout and
/// stderr, unless told otherwise: 256 MiB. Who expects more reads it piece by piece.
pub const DEFAULT_MAX_OUTPUT: usize = 256 << 20;

/// How much is read at a time: what a pipe holds.
const PIECE: usize = 65_536;

/// What has been done of it. It is kept by the process's handle, so who gives up loses nothing.
#[derive(Debug)]
pub(super) struct Communication {
    /// An epoll set with all pipes: one wait for all three.
    pipes: Socket,
    input: Vec<u8>,
    sent: usize,
    /// Of stdout and stderr.
    output: [Vec<u8>; 2],
}

impl Communication {
    pub(super) fn new(
        input: &[u8],
        stdin: &Option<PipeWriter>,
        outputs: [&Option<PipeReader>; 2],
    ) -> io::Result<Communication> {
        let pipes = fd::epoll().map_err(explain)?;
        if let Some(stdin) = stdin {
            fd::epoll_add_writer(pipes.as_fd(), stdin.as_fd(), 0)?;
        }
        for pipe in outputs.into_iter().flatten() {
            fd::epoll_add(pipes.as_fd(), pipe.as_fd(), 0)?;
        }
        Ok(Communication {
            pipes: Socket::new(Socket::homed(pipes)),
            input: input.to_vec(),
            sent: 0,
            output: Default::default(),
        })
    }

    /// What has been read of stdout and of stderr.
    pub(super) fn output(&mut self) -> (&mut Vec<u8>, &mut Vec<u8>) {
        let [stdout, stderr] = &mut self.output;
        (stdout, stderr)
    }

    /// Writes and reads until all pipes are through, and drops each that is; false when the moment
    /// comes first.
    pub(super) fn go_on(
        &mut self,
        stdin: &mut Option<PipeWriter>,
        outputs: [&mut Option<PipeReader>; 2],
        max_output: usize,
        until: Option<u64>,
    ) -> Result<bool, SubprocessError> {
        let [stdout, stderr] = outputs;
        loop {
            // A piece of each in turn: none of them may keep the others waiting.
            let mut some = self.write(stdin)?;
            for (pipe, output) in [&mut *stdout, stderr].into_iter().zip(&mut self.output) {
                some |= read(pipe, output, max_output)?;
            }
            if stdin.is_none() && stdout.is_none() && stderr.is_none() {
                return Ok(true);
            }
            if some {
                if until.is_some_and(|until| now_ns() >= until) {
                    return Ok(false);
                }
                switch::share();
                continue;
            }
            match self.pipes.wait_until(Direction::Read, until) {
                Ok(()) => self.forget_events()?,
                Err(error) if is_late(&error) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Takes out what has come, before the pipes are looked at.
    fn forget_events(&self) -> io::Result<()> {
        let taken = self.pipes.try_read(fd::EPOLL_BATCH, |set| {
            match fd::epoll_take(set, |_, _| ()) {
                Ok(0) => Err(io::ErrorKind::WouldBlock.into()),
                taken => taken,
            }
        });
        match taken {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }

    /// Whether something has been written.
    fn write(&mut self, stdin: &mut Option<PipeWriter>) -> io::Result<bool> {
        let Some(pipe) = stdin else { return Ok(false) };
        let written = match &self.input[self.sent..] {
            [] => Ok(0),
            rest => pipe.try_write(rest),
        };
        match written {
            Ok(n) => self.sent += n,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            // It reads no more: it has what it needs.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.sent = self.input.len();
            }
            Err(error) => return Err(error),
        }
        if self.sent == self.input.len() {
            *stdin = None;
            self.input = Vec::new();
            self.sent = 0;
        }
        Ok(true)
    }
}

/// Whether something has been read.
fn read(
    from: &mut Option<PipeReader>,
    output: &mut Vec<u8>,
    max: usize,
) -> Result<bool, SubprocessError> {
    let Some(pipe) = from else { return Ok(false) };
    // One byte more tells whether there is one too many.
    let room = (max - output.len().min(max)).saturating_add(1).min(PIECE);
    match pipe.try_read_vec(output, room) {
        Ok(0) => *from = None,
        Ok(_) if output.len() > max => {
            output.truncate(max);
            return Err(SubprocessError::OutputTooLarge { limit: max });
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
        Err(error) => return Err(error.into()),
    }
    Ok(true)
}
