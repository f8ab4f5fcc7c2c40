//! How slow a peer may be with a body.

use std::time::{Duration, Instant};

/// Watches one body, of a request or a response: a pause may take as long as its time-out, but over
/// the whole body the waiting has to keep to a minimum rate, or who sends a byte now and then would
/// hold a greenlet for ever.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// The longest pause; also what the body may take beyond the rate.
    pub(crate) timeout: Duration,
    /// Bytes per second; 0: any.
    rate: u32,
    waited: Duration,
}

impl Pace {
    pub(crate) fn new(timeout: Duration, rate: u32) -> Self {
        Self {
            timeout,
            rate,
            waited: Duration::ZERO,
        }
    }

    /// Counts a wait that began at `since`. False if for `bytes` so far it has been too much.
    pub(crate) fn waited(&mut self, since: Instant, bytes: u64) -> bool {
        self.waited += since.elapsed();
        if self.rate == 0 || self.waited <= self.timeout {
            return true;
        }
        let allowed = bytes / u64::from(self.rate);
        (self.waited - self.timeout).as_secs() <= allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_is_weighed_against_the_bytes() {
        let second = Duration::from_secs(1);
        let waited = |pace: &mut Pace, bytes| pace.waited(Instant::now() - 2 * second, bytes);
        let mut pace = Pace::new(5 * second, 100);
        assert!(waited(&mut pace, 0) && waited(&mut pace, 0));
        // 6 s: one too many.
        assert!(waited(&mut pace, 100));
        // 8 s: three too many.
        assert!(!waited(&mut pace, 200));
        let mut any = Pace::new(second, 0);
        assert!(waited(&mut any, 0));
    }
}
