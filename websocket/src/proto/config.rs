//! The limits on what a peer may send.

/// The default of both [`Limits`]: 1 MiB.
pub const DEFAULT_MAX_MESSAGE_SIZE: usize = 1 << 20;

/// How much a peer may make this side hold.
///
/// Both are checked when a frame's header arrives, before anything is allocated, and passing one
/// ends the connection with close code 1009. Memory then grows with what has arrived, not with what
/// was announced. The number of fragments is not limited: fragments cost only the bytes they carry.
///
/// ```
/// use greenwood_websocket::proto::Limits;
///
/// let uploads = Limits::default().max_message_size(64 << 20).max_frame_size(64 << 20);
/// # let _ = uploads;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// The longest message in bytes, all fragments together.
    ///
    /// Default 1 MiB, as in Python's websockets: it holds the JSON and the pictures of ordinary
    /// applications, and a thousand hostile connections cost a gigabyte at worst. Raise it for
    /// uploads (64 MiB is fine), lower it for a public service with small messages.
    pub max_message_size: usize,
    /// The longest data frame in bytes. Control frames are not affected: they end at 125.
    ///
    /// Default 1 MiB, the same as a message, so that alone it refuses nothing. Raise it together
    /// with `max_message_size`; lower it only if the peers are known to fragment.
    pub max_frame_size: usize,
}

impl Limits {
    /// Sets the longest message in bytes.
    pub fn max_message_size(mut self, bytes: usize) -> Limits {
        self.max_message_size = bytes;
        self
    }

    /// Sets the longest data frame in bytes.
    pub fn max_frame_size(mut self, bytes: usize) -> Limits {
        self.max_frame_size = bytes;
        self
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_message_size: DEFAULT_MAX_MESSAGE_SIZE,
            max_frame_size: DEFAULT_MAX_MESSAGE_SIZE,
        }
    }
}
