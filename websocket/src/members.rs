//! [`Members`]: who is subscribed to a topic.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Weak};

/// One who is subscribed.
#[derive(Debug)]
pub(crate) struct Member<T> {
    /// A subscription keeps no connection. As long as this is here, no other has its address.
    pub(crate) connection: Weak<T>,
    /// How many messages it has not got because newer ones came.
    pub(crate) dropped: Arc<AtomicU64>,
}

impl<T> Clone for Member<T> {
    fn clone(&self) -> Member<T> {
        Member {
            connection: Weak::clone(&self.connection),
            dropped: Arc::clone(&self.dropped),
        }
    }
}

/// All members, in pieces of [`PIECE`]; only the last may be shorter.
pub(crate) type List<T> = Vec<Arc<Vec<Member<T>>>>;

const PIECE: usize = 256;

/// A list that some change while others go through it: those have it as it was. A change then
/// copies no more than two pieces, and the list of the pieces.
#[derive(Debug)]
pub(crate) struct Members<T> {
    list: Arc<List<T>>,
    len: usize,
    /// By the connection's address.
    places: HashMap<usize, Place>,
}

#[derive(Debug)]
struct Place {
    index: usize,
    subscriptions: usize,
}

impl<T> Default for Members<T> {
    fn default() -> Members<T> {
        Members {
            list: Arc::default(),
            len: 0,
            places: HashMap::new(),
        }
    }
}

impl<T> Members<T> {
    /// The list as it is now.
    pub(crate) fn snapshot(&self) -> Arc<List<T>> {
        Arc::clone(&self.list)
    }

    /// Adds a subscription of this connection; its count of what was dropped.
    pub(crate) fn add(&mut self, connection: &Arc<T>) -> Arc<AtomicU64> {
        let key = Arc::as_ptr(connection) as usize;
        if let Some(place) = self.places.get_mut(&key) {
            place.subscriptions += 1;
            let member = &self.list[place.index / PIECE][place.index % PIECE];
            return Arc::clone(&member.dropped);
        }
        let place = Place {
            index: self.len,
            subscriptions: 1,
        };
        self.places.insert(key, place);
        let member = Member {
            connection: Arc::downgrade(connection),
            dropped: Arc::default(),
        };
        let dropped = Arc::clone(&member.dropped);
        let list = Arc::make_mut(&mut self.list);
        match list.last_mut().filter(|piece| piece.len() < PIECE) {
            Some(piece) => Arc::make_mut(piece).push(member),
            None => list.push(Arc::new(vec![member])),
        }
        self.len += 1;
        dropped
    }

    /// Takes one subscription of this connection away, if it has any left.
    pub(crate) fn remove(&mut self, connection: &Weak<T>) {
        let key = connection.as_ptr() as usize;
        if let Some(place) = self.places.get_mut(&key) {
            place.subscriptions -= 1;
            if place.subscriptions == 0 {
                self.forget(connection);
            }
        }
    }

    /// Takes this connection out, however many subscriptions it has.
    pub(crate) fn forget(&mut self, connection: &Weak<T>) {
        let key = connection.as_ptr() as usize;
        let Some(Place { index, .. }) = self.places.remove(&key) else {
            return;
        };
        let list = Arc::make_mut(&mut self.list);
        let last_piece = list.last_mut().map(Arc::make_mut);
        let last = last_piece.and_then(Vec::pop).expect("one was found");
        if list.last().is_some_and(|piece| piece.is_empty()) {
            list.pop();
        }
        self.len -= 1;
        if index < self.len {
            let key = last.connection.as_ptr() as usize;
            let moved = self.places.get_mut(&key).expect("each has its place");
            moved.index = index;
            Arc::make_mut(&mut list[index / PIECE])[index % PIECE] = last;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(list: &List<usize>) -> Vec<usize> {
        let members = list.iter().flat_map(|piece| piece.iter());
        let mut values: Vec<_> = members
            .map(|member| *member.connection.upgrade().unwrap())
            .collect();
        values.sort_unstable();
        values
    }

    #[test]
    fn members_come_and_go_in_any_order() {
        let all: Vec<Arc<usize>> = (0..3 * PIECE + 7).map(Arc::new).collect();
        let mut members = Members::default();
        for one in &all {
            members.add(one);
        }
        assert_eq!(values(&members.list), (0..all.len()).collect::<Vec<_>>());
        let mut left: Vec<usize> = (0..all.len()).collect();
        let mut state = 1_usize;
        while !left.is_empty() {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let one = left.remove((state >> 33) % left.len());
            members.remove(&Arc::downgrade(&all[one]));
            assert_eq!(members.len, left.len());
            if left.len().is_multiple_of(50) {
                assert_eq!(values(&members.list), left);
            }
        }
        assert!(members.list.is_empty() && members.places.is_empty());
    }

    #[test]
    fn snapshot_stays_as_it_was() {
        let all: Vec<Arc<usize>> = (0..PIECE + 1).map(Arc::new).collect();
        let mut members = Members::default();
        for one in &all[..PIECE] {
            members.add(one);
        }
        let before = members.snapshot();
        members.remove(&Arc::downgrade(&all[3]));
        members.add(&all[PIECE]);
        assert_eq!(values(&before), (0..PIECE).collect::<Vec<_>>());
        assert!(!values(&members.list).contains(&3));
        assert!(values(&members.list).contains(&PIECE));
    }

    #[test]
    fn one_with_two_subscriptions_is_there_once_until_both_are_gone() {
        let one = Arc::new(1);
        let mut members = Members::default();
        let (first, second) = (members.add(&one), members.add(&one));
        assert!(Arc::ptr_eq(&first, &second));
        assert_eq!(values(&members.list), [1]);
        members.remove(&Arc::downgrade(&one));
        assert_eq!(values(&members.list), [1]);
        members.remove(&Arc::downgrade(&one));
        members.remove(&Arc::downgrade(&one));
        assert!(members.list.is_empty());
    }

    #[test]
    fn what_was_forgotten_is_not_taken_away_again() {
        let one = Arc::new(1);
        let mut members = Members::default();
        members.add(&one);
        members.add(&one);
        members.forget(&Arc::downgrade(&one));
        assert!(members.list.is_empty());
        members.add(&one);
        assert_eq!(values(&members.list), [1]);
    }
}
