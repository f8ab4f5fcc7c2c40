//! Values by their type.

use std::{any::Any, fmt, iter};

/// A handful of values, one per type.
#[derive(Default)]
pub(crate) struct Extensions {
    // A list: there are few, so a walk is quicker than hashing, and each takes one allocation.
    first: Option<Box<Node<dyn Any + Send>>>,
}

struct Node<T: ?Sized> {
    next: Option<Box<Node<dyn Any + Send>>>,
    /// An `Option<T>`; none once the value was taken out.
    value: T,
}

impl Extensions {
    pub(crate) fn insert<T: Any + Send>(&mut self, value: T) -> Option<T> {
        if let Some(place) = self.place::<T>() {
            return place.replace(value);
        }
        let next = self.first.take();
        let value = Some(value);
        self.first = Some(Box::new(Node { next, value }));
        None
    }

    pub(crate) fn extension<T: Any + Send>(&self) -> Option<&T> {
        self.nodes()
            .find_map(|node| node.value.downcast_ref::<Option<T>>())?
            .as_ref()
    }

    pub(crate) fn extension_mut<T: Any + Send>(&mut self) -> Option<&mut T> {
        self.place()?.as_mut()
    }

    pub(crate) fn remove<T: Any + Send>(&mut self) -> Option<T> {
        self.place()?.take()
    }

    /// Where the value of that type is kept, if there has been one.
    fn place<T: Any + Send>(&mut self) -> Option<&mut Option<T>> {
        let mut next = self.first.as_deref_mut();
        while let Some(node) = next {
            if node.value.is::<Option<T>>() {
                return node.value.downcast_mut();
            }
            next = node.next.as_deref_mut();
        }
        None
    }

    fn nodes(&self) -> impl Iterator<Item = &Node<dyn Any + Send>> {
        iter::successors(self.first.as_deref(), |node| node.next.as_deref())
    }
}

impl fmt::Debug for Extensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "extensions of {} types", self.nodes().count())
    }
}
