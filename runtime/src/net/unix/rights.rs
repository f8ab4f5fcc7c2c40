//! Passing descriptors over Unix sockets (`SCM_RIGHTS`): what streams and datagrams have in common.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::cmsg_space;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// The most descriptors that the kernel passes at once (`SCM_MAX_FD`).
pub(super) const MAX_FDS: usize = 253;

/// Sends bytes with descriptors; never waits.
pub(super) fn send(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    if fds.len() > MAX_FDS {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "{} descriptors: no more than {MAX_FDS} can be passed at once",
                fds.len()
            ),
        ));
    }
    let mut space = vec![MaybeUninit::uninit(); cmsg_space!(ScmRights(fds.len()))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other("no room for the descriptors"));
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    Ok(sendmsg(
        socket,
        &[IoSlice::new(bytes)],
        &mut control,
        flags,
    )?)
}

/// Receives bytes and at most `max` descriptors that came with them; never waits.
pub(super) fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    max: usize,
) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = vec![MaybeUninit::uninit(); cmsg_space!(ScmRights(max.min(MAX_FDS)))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let received = recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, flags)?;
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(passed) = message {
            fds.extend(passed);
        }
    }
    // The buffer's size is rounded up: there may have been room for one more.
    if fds.len() > max || received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "the peer has passed more than {max} descriptors, or more than RLIMIT_NOFILE \
                 leaves room for: they are closed"
            ),
        ));
    }
    Ok((received.bytes, fds))
}

/// What every kind of Unix socket with an `inner: SharedFd<Timed>` has.
macro_rules! passing_calls {
    ($socket:ident, is stream: $is_stream:literal) => {
        /// Passing descriptors to another process (`SCM_RIGHTS`).
        impl $socket {
            /// Sends bytes, and copies of descriptors with the first of them: Python's
            /// `socket.send_fds`, gevent's `sendmsg` with `SCM_RIGHTS`. Returns how many bytes were
            /// taken; waits while none are. What was passed is the receiver's, whatever is closed
            /// here.
            ///
            /// # Errors
            ///
            /// `InvalidInput` for more than 253 descriptors, and for descriptors without a byte on a
            /// stream, where they would not arrive; what the system says: `ETOOMANYREFS` when too
            /// many that were passed have not been received yet. A socket that is not connected
            /// has no receiver.
            ///
            /// ```
            /// use greenwood_runtime::net::UnixStream;
            /// use std::io::Write;
            /// use std::os::fd::AsFd;
            ///
            /// let (here, there) = UnixStream::pair()?;
            /// let (reader, mut writer) = std::io::pipe()?;
            /// here.send_fds(b"a pipe", &[reader.as_fd()])?;
            /// writer.write_all(b"hello")?;
            /// drop((reader, writer));
            ///
            /// let mut buffer = [0; 16];
            /// let (n, mut fds) = there.recv_fds(&mut buffer, 1)?;
            /// assert_eq!(&buffer[..n], b"a pipe");
            /// let reader = std::io::PipeReader::from(fds.remove(0));
            /// assert_eq!(std::io::read_to_string(reader)?, "hello");
            /// # Ok::<(), std::io::Error>(())
            /// ```
            pub fn send_fds(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
                if $is_stream && bytes.is_empty() && !fds.is_empty() {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidInput,
                        "descriptors are passed with a byte at least",
                    ));
                }
                self.inner.write_waiting(|| {
                    self.inner
                        .socket
                        .try_write(|socket| rights::send(socket, bytes, fds))
                })
            }

            /// Waits for bytes, and receives them with the descriptors that were passed with them,
            /// `max` at most: Python's `socket.recv_fds`, gevent's `recvmsg`. The descriptors are
            /// closed on exec. A stream gives no bytes from behind them in the same call.
            ///
            /// Whoever receives by another call has the system close what was passed.
            ///
            /// # Errors
            ///
            /// `InvalidData` when more were passed than `max`, or than RLIMIT_NOFILE leaves room
            /// for: they are closed, and the bytes that came with them are lost. As
            /// [`wait_readable`](Self::wait_readable); what the system says.
            pub fn recv_fds(
                &self,
                buffer: &mut [u8],
                max: usize,
            ) -> io::Result<(usize, Vec<OwnedFd>)> {
                self.inner.read_waiting(|| {
                    self.inner
                        .socket
                        .try_take(|socket| rights::receive(socket, buffer, max))
                })
            }
        }
    };
}

pub(super) use passing_calls;
