//! A small bounded cache for pieces of big tables.

use crate::Result;
use std::sync::{Arc, Mutex, PoisonError};

type Slot<T> = Mutex<Option<(u64, Arc<T>)>>;

/// Keeps the last piece loaded for each of a fixed number of slots.
///
/// Memory is bounded by the number of slots, however large the table is, and threads that work in
/// different places do not wait for each other.
pub(crate) struct Cache<T> {
    slots: Box<[Slot<T>]>,
}

impl<T> Cache<T> {
    pub(crate) fn new(slots: usize) -> Self {
        Self {
            slots: (0..slots.max(1)).map(|_| Mutex::new(None)).collect(),
        }
    }

    /// The piece `key`, from the cache or by `load`.
    pub(crate) fn get(&self, key: u64, load: impl FnOnce() -> Result<T>) -> Result<Arc<T>> {
        let index = usize::try_from(key % self.slots.len() as u64).unwrap_or(0);
        let Some(slot) = self.slots.get(index) else {
            return load().map(Arc::new);
        };
        // A panic elsewhere cannot leave a slot half written.
        if let Some((held, piece)) = &*slot.lock().unwrap_or_else(PoisonError::into_inner)
            && *held == key
        {
            return Ok(Arc::clone(piece));
        }
        let piece = Arc::new(load()?);
        *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some((key, Arc::clone(&piece)));
        Ok(piece)
    }
}
