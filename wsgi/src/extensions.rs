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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_their_type() {
        let mut extensions = Extensions::default();
        assert_eq!(extensions.insert(1_u8), None);
        assert_eq!(extensions.insert("one"), None);
        assert_eq!(extensions.insert(Some(1_u8)), None);
        assert_eq!(extensions.insert(2_u8), Some(1));
        *extensions.extension_mut::<u8>().unwrap() += 1;
        assert_eq!(extensions.extension::<u8>(), Some(&3));
        assert_eq!(extensions.extension::<&str>(), Some(&"one"));
        assert_eq!(extensions.extension::<Option<u8>>(), Some(&Some(1)));
        assert_eq!(extensions.extension::<u16>(), None);
    }

    #[test]
    fn value_is_taken_out_once() {
        let mut extensions = Extensions::default();
        extensions.insert(String::from("mine"));
        extensions.insert(7_u8);
        assert_eq!(extensions.remove::<String>().as_deref(), Some("mine"));
        assert_eq!(extensions.remove::<String>(), None);
        assert_eq!(extensions.extension::<String>(), None);
        assert_eq!(extensions.extension::<u8>(), Some(&7));
        assert_eq!(extensions.insert(String::from("again")), None);
        assert_eq!(extensions.remove::<String>().as_deref(), Some("again"));
    }
}
