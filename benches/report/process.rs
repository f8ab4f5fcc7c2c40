//! Programs that are measured.

use std::ops::{Deref, DerefMut};
use std::process::Child;
use std::time::Duration;

/// One that runs. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Running(pub(crate) Child);

impl Deref for Running {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Running {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is a plain thread: there is no hub to be blocked"
)]
pub(crate) fn pause(duration: Duration) {
    std::thread::sleep(duration);
}
