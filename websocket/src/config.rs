//! [`WebSocketConfig`].

use std::time::Duration;

use crate::proto::{Deflate, Limits};

/// How a connection behaves. The defaults fit a public service with messages up to 1 MiB.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct WebSocketConfig {
    /// The longest message and frame that a peer may send. Default: 1 MiB each; passing it closes
    /// with 1009.
    pub limits: Limits,
    /// How many bytes may wait for a slow peer before senders wait too. Default: 64 KiB. Raise it
    /// where senders must not be held up by short stalls; a message may be longer than the
    /// mark: then its sender waits until most of it is on its way.
    pub high_water: usize,
    /// What happens to a sender when the mark is passed. Default: [`SlowConsumer::Block`].
    pub slow_consumer: SlowConsumer,
    /// How long the system may take nothing of what waits for a peer before the connection is
    /// ended. Default: 30 s: a mobile peer may be out of reach for a while, but what waits for it
    /// takes memory, and may hold senders up.
    pub write_timeout: Duration,
    /// How long the peer may take to answer a close frame, and to take what still waits for it
    /// when its application has ended; then the connection is cut. Default: 5 s: an honest peer
    /// answers within a round trip, and a greenlet is held meanwhile.
    pub close_timeout: Duration,
    /// How often a ping is sent, to find out whether the peer is still there, and how far away.
    /// Default: never. Each costs the server a write and a read; 20 to 60 s also keep proxies
    /// and mobile networks from forgetting the connection.
    pub ping_interval: Option<Duration>,
    /// How long the peer may take to answer a ping. Default: 20 s, then the connection is cut
    /// ([`Disconnect::PingTimeout`](crate::Disconnect::PingTimeout)). Pongs are seen only while the
    /// application receives; as long as it does not, none is missed. Nor can one come in the middle
    /// of a frame: while a large one arrives, the time begins anew.
    pub ping_timeout: Duration,
    /// How long there may be no message from the peer (pings and pongs do not count) before the
    /// connection is closed with 1001. Up to a quarter more may pass. In the middle of a message, and
    /// while the application does not receive, whatever arrives counts. Default: none; an idle
    /// connection costs its greenlet.
    pub idle_timeout: Option<Duration>,
    /// Compression by permessage-deflate (RFC 7692), where the client offers it. Default: none.
    pub deflate: Option<Deflate>,
}

/// What to do when a peer reads more slowly than it is sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SlowConsumer {
    /// The sender waits (backpressure).
    Block,
    /// The sender gets an error at once, and the peer is closed with 1008, behind what waits.
    Close,
}

impl Default for WebSocketConfig {
    fn default() -> WebSocketConfig {
        WebSocketConfig {
            limits: Limits::default(),
            high_water: 64 * 1024,
            slow_consumer: SlowConsumer::Block,
            write_timeout: Duration::from_secs(30),
            close_timeout: Duration::from_secs(5),
            ping_interval: None,
            ping_timeout: Duration::from_secs(20),
            idle_timeout: None,
            deflate: None,
        }
    }
}

impl WebSocketConfig {
    /// Sets the longest message in bytes, and the longest frame with it.
    #[must_use]
    pub fn max_message_size(mut self, bytes: usize) -> WebSocketConfig {
        self.limits = self.limits.max_message_size(bytes).max_frame_size(bytes);
        self
    }

    /// Sends a ping every `interval`, and cuts the connection if it is not answered within
    /// `timeout`.
    ///
    /// # Panics
    ///
    /// If one of them is zero.
    #[must_use]
    pub fn ping(mut self, interval: Duration, timeout: Duration) -> WebSocketConfig {
        assert!(
            !interval.is_zero() && !timeout.is_zero(),
            "pings without a pause or without time for an answer"
        );
        self.ping_interval = Some(interval);
        self.ping_timeout = timeout;
        self
    }

    /// Closes the connection when there has been no message from the peer for so long.
    ///
    /// # Panics
    ///
    /// If it is zero.
    #[must_use]
    pub fn idle_timeout(mut self, timeout: Duration) -> WebSocketConfig {
        assert!(!timeout.is_zero(), "an idle time-out of zero");
        self.idle_timeout = Some(timeout);
        self
    }

    /// Switches compression on; `Deflate::default()` suits most.
    #[must_use]
    pub fn deflate(mut self, deflate: Deflate) -> WebSocketConfig {
        self.deflate = Some(deflate);
        self
    }

    /// Sets both limits on what a peer may send.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> WebSocketConfig {
        self.limits = limits;
        self
    }

    /// Sets how many bytes may wait for a slow peer before senders wait too.
    #[must_use]
    pub fn high_water(mut self, bytes: usize) -> WebSocketConfig {
        self.high_water = bytes;
        self
    }

    /// Sets what happens to a sender when the high-water mark is passed.
    #[must_use]
    pub fn slow_consumer(mut self, policy: SlowConsumer) -> WebSocketConfig {
        self.slow_consumer = policy;
        self
    }

    /// Sets how long the system may take nothing of what waits for a peer.
    ///
    /// # Panics
    ///
    /// If it is zero.
    #[must_use]
    pub fn write_timeout(mut self, timeout: Duration) -> WebSocketConfig {
        assert!(
            !timeout.is_zero(),
            "write_timeout is zero: nothing could ever be sent"
        );
        self.write_timeout = timeout;
        self
    }

    /// Sets how long the peer may take to answer a close frame.
    ///
    /// # Panics
    ///
    /// If it is zero.
    #[must_use]
    pub fn close_timeout(mut self, timeout: Duration) -> WebSocketConfig {
        assert!(
            !timeout.is_zero(),
            "close_timeout is zero: no connection could close cleanly"
        );
        self.close_timeout = timeout;
        self
    }
}
