//! In which order a queue keeps its items.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};

/// A queue's items: which of them is the next.
pub(super) trait Store<T> {
    fn push(&mut self, item: T);
    fn pop(&mut self) -> Option<T>;
    fn peek(&self) -> Option<&T>;
    fn len(&self) -> usize;
    /// Takes out all, to be dropped without the queue's lock.
    fn drain(&mut self) -> Self;
}

/// First in, first out.
#[derive(Clone)]
pub(super) struct Fifo<T>(VecDeque<T>);

impl<T> Fifo<T> {
    pub(super) const fn new() -> Fifo<T> {
        Fifo(VecDeque::new())
    }
}

impl<T> Store<T> for Fifo<T> {
    #[inline]
    fn push(&mut self, item: T) {
        self.0.push_back(item);
    }

    #[inline]
    fn pop(&mut self) -> Option<T> {
        self.0.pop_front()
    }

    fn peek(&self) -> Option<&T> {
        self.0.front()
    }

    #[inline]
    fn len(&self) -> usize {
        self.0.len()
    }

    fn drain(&mut self) -> Self {
        std::mem::replace(self, Fifo::new())
    }
}

/// Last in, first out.
#[derive(Clone)]
pub(super) struct Lifo<T>(Vec<T>);

impl<T> Lifo<T> {
    pub(super) const fn new() -> Lifo<T> {
        Lifo(Vec::new())
    }
}

impl<T> Store<T> for Lifo<T> {
    fn push(&mut self, item: T) {
        self.0.push(item);
    }

    fn pop(&mut self) -> Option<T> {
        self.0.pop()
    }

    fn peek(&self) -> Option<&T> {
        self.0.last()
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn drain(&mut self) -> Self {
        std::mem::replace(self, Lifo::new())
    }
}

/// The smallest first; equal ones first in, first out.
#[derive(Clone)]
pub(super) struct Heap<T> {
    entries: BinaryHeap<Entry<T>>,
    /// How many items have come: no two have the same number in 500 years.
    came: u64,
}

#[derive(Clone)]
struct Entry<T> {
    item: T,
    number: u64,
}

impl<T: Ord> Ord for Entry<T> {
    /// The other way round, as `BinaryHeap` has the largest first.
    fn cmp(&self, other: &Self) -> Ordering {
        let by_item = other.item.cmp(&self.item);
        by_item.then_with(|| other.number.cmp(&self.number))
    }
}

impl<T: Ord> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T: Ord> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T: Ord> Eq for Entry<T> {}

impl<T: Ord> Heap<T> {
    pub(super) const fn new() -> Heap<T> {
        Heap {
            entries: BinaryHeap::new(),
            came: 0,
        }
    }
}

impl<T: Ord> Store<T> for Heap<T> {
    fn push(&mut self, item: T) {
        let number = self.came;
        self.came += 1;
        self.entries.push(Entry { item, number });
    }

    fn pop(&mut self) -> Option<T> {
        self.entries.pop().map(|entry| entry.item)
    }

    fn peek(&self) -> Option<&T> {
        self.entries.peek().map(|entry| &entry.item)
    }

    fn len(&self) -> usize {
        self.entries.len()
    }

    fn drain(&mut self) -> Self {
        std::mem::replace(self, Heap::new())
    }
}
