//! [`Seldom`]: a list that is mostly empty.

/// A list that is one word as long as it is empty, where a vector is three: for what each greenlet
/// and socket has room for, and hardly any uses.
#[derive(Debug)]
pub(crate) struct Seldom<T>(Option<Box<Items<T>>>);

#[derive(Debug)]
struct Items<T>(Vec<T>);

impl<T> Seldom<T> {
    pub(crate) const fn new() -> Seldom<T> {
        Seldom(None)
    }

    #[inline]
    pub(crate) fn as_slice(&self) -> &[T] {
        match &self.0 {
            Some(items) => &items.0,
            None => &[],
        }
    }

    /// The list as a vector, to be changed.
    pub(crate) fn as_mut(&mut self) -> &mut Vec<T> {
        &mut self.0.get_or_insert_with(|| Box::new(Items(Vec::new()))).0
    }

    /// Leaves only what `keep` is true for.
    pub(crate) fn retain(&mut self, keep: impl FnMut(&T) -> bool) {
        if let Some(items) = &mut self.0 {
            items.0.retain(keep);
        }
    }

    /// Takes everything out.
    pub(crate) fn take(&mut self) -> Vec<T> {
        self.0.take().map_or_else(Vec::new, |items| items.0)
    }
}

impl<T> Default for Seldom<T> {
    fn default() -> Seldom<T> {
        Seldom::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_list_is_one_word() {
        assert_eq!(size_of::<Seldom<u128>>(), size_of::<usize>());
    }

    #[test]
    fn items_are_kept_in_order_until_they_are_taken() {
        let mut list = Seldom::new();
        assert_eq!(list.as_slice(), [0_u8; 0]);
        assert_eq!(list.take(), [0_u8; 0]);
        list.as_mut().push(1);
        list.as_mut().push(2);
        assert_eq!(list.as_slice(), [1, 2]);
        list.as_mut().push(3);
        list.retain(|&item| item != 2);
        assert_eq!(list.take(), [1, 3]);
        assert_eq!(list.as_slice(), [0_u8; 0]);
    }
}
