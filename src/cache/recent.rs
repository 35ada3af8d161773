//! Where something that was looked up lately is, for as long as the table that it was found in keeps it.
//!
//! It saves the way to the table, which counts every look-up to know what to keep. Of many look-ups for the same thing
//! only some reach the table, enough to tell what is asked for most. Nothing is kept alive from here.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Of 256 look-ups so many are told to the table.
const TOLD: u8 = 16;

/// What one place in the table holds. The place must never come to hold something else.
#[derive(Debug)]
pub(super) struct Recent<T>(Mutex<Weak<T>>);

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Recent<T> {
    /// What the place holds, looked up if nobody knows.
    pub(super) fn or_look_up(&self, look_up: impl FnOnce() -> Option<Arc<T>>) -> Option<Arc<T>> {
        if fastrand::u8(..) >= TOLD
            && let Some(held) = self.lock().upgrade()
        {
            return Some(held);
        }
        let found = look_up()?;
        *self.lock() = Arc::downgrade(&found);
        Some(found)
    }

    fn lock(&self) -> MutexGuard<'_, Weak<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_asked_now_and_then_and_always_when_nothing_is_held() {
        let recent = Recent::default();
        assert_eq!(recent.or_look_up(|| None::<Arc<u8>>), None);
        let held = Arc::new(7);
        let mut told = 0;
        for _ in 0..10_000 {
            let found = recent.or_look_up(|| {
                told += 1;
                Some(Arc::clone(&held))
            });
            assert_eq!(found.as_deref(), Some(&7));
        }
        assert!((100..3_000).contains(&told), "{told} of 10,000");
        drop(held);
        assert_eq!(recent.or_look_up(|| None), None, "nothing is kept alive");
    }
}
