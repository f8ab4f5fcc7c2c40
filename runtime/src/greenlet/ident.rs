//! [`Ident`]: gevent's `minimal_ident`.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Mutex;

use crate::task::lock;

/// A small number of a greenlet's own, as long as it lasts.
#[derive(Debug)]
pub(crate) struct Ident(u32);

struct Numbers {
    /// Those that have come back.
    free: BinaryHeap<Reverse<u32>>,
    /// From here on none has been given out.
    next: u32,
}

static NUMBERS: Mutex<Numbers> = Mutex::new(Numbers {
    free: BinaryHeap::new(),
    next: 0,
});

impl Ident {
    /// The smallest that is free.
    pub(crate) fn new() -> Ident {
        let mut numbers = lock(&NUMBERS);
        Ident(match numbers.free.pop() {
            Some(Reverse(number)) => number,
            None => {
                let number = numbers.next;
                numbers.next += 1;
                number
            }
        })
    }

    pub(crate) fn number(&self) -> u32 {
        self.0
    }
}

impl Drop for Ident {
    fn drop(&mut self) {
        lock(&NUMBERS).free.push(Reverse(self.0));
    }
}
