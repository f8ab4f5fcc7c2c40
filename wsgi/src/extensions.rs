//! Values by their type.

use std::{
    any::{Any, TypeId},
    fmt,
};

/// A handful of values, one per type.
#[derive(Default)]
pub(crate) struct Extensions {
    // Few: a scan is quicker than hashing, and an empty vector allocates nothing.
    values: Vec<(TypeId, Box<dyn Any + Send>)>,
}

impl Extensions {
    pub(crate) fn insert<T: Any + Send>(&mut self, value: T) -> Option<T> {
        let earlier = self.remove::<T>();
        self.values.push((TypeId::of::<T>(), Box::new(value)));
        earlier
    }

    pub(crate) fn extension<T: Any + Send>(&self) -> Option<&T> {
        let (_, value) = self
            .values
            .iter()
            .find(|(id, _)| *id == TypeId::of::<T>())?;
        value.downcast_ref()
    }

    pub(crate) fn extension_mut<T: Any + Send>(&mut self) -> Option<&mut T> {
        let (_, value) = self
            .values
            .iter_mut()
            .find(|(id, _)| *id == TypeId::of::<T>())?;
        value.downcast_mut()
    }

    pub(crate) fn remove<T: Any + Send>(&mut self) -> Option<T> {
        let at = self
            .values
            .iter()
            .position(|(id, _)| *id == TypeId::of::<T>())?;
        self.values
            .swap_remove(at)
            .1
            .downcast()
            .ok()
            .map(|value| *value)
    }
}

impl fmt::Debug for Extensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} extensions", self.values.len())
    }
}
