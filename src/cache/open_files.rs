//! Files that were used lately and are kept open, so that the next use needs neither a path nor a helper thread.
//!
//! An open file proves nothing about its name: whether it is still the one in the cache directory is asked of the system
//! at every use. Bounded in number and idle time, because an open file keeps its space after it was removed.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use foldhash::quality::RandomState;
use tokio::time::Instant;

use super::blobs::Blob;
use wheelport_index::Sha256;

/// Files kept open at most.
const MOST: usize = 128;
/// A file that was not used for so long is closed.
pub const IDLE: Duration = Duration::from_secs(30);

/// The open files.
#[derive(Default)]
pub struct OpenFiles {
    held: Mutex<HashMap<Sha256, Held, RandomState>>,
}

struct Held {
    blob: Blob,
    used: Instant,
}

impl OpenFiles {
    /// The file, if it is open.
    pub(super) fn get(&self, sha256: &Sha256) -> Option<Blob> {
        let mut held = self.lock();
        let held = held.get_mut(sha256)?;
        held.used = Instant::now();
        Some(held.blob.clone())
    }

    /// Keeps a file open; the one that was used the longest ago makes room.
    pub(super) fn keep(&self, blob: Blob) {
        let mut held = self.lock();
        if held.len() >= MOST
            && !held.contains_key(&blob.sha256)
            && let Some(oldest) = held.iter().min_by_key(|(_, held)| held.used).map(|(sha256, _)| *sha256)
        {
            held.remove(&oldest);
        }
        held.insert(blob.sha256, Held { blob, used: Instant::now() });
    }

    /// Closes a file.
    pub(super) fn close(&self, sha256: &Sha256) {
        self.lock().remove(sha256);
    }

    /// Closes all files, so that removing them gives their space back.
    pub(super) fn close_all(&self) {
        self.lock().clear();
    }

    /// Closes the files that were not used lately.
    pub(super) fn close_idle(&self) {
        self.lock().retain(|_, held| held.used.elapsed() < IDLE);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Sha256, Held, RandomState>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn blob(number: usize) -> std::io::Result<Blob> {
        let file = Arc::new(tempfile::tempfile()?);
        Ok(Blob::new(file, 0, Sha256::of(number.to_string().as_bytes())))
    }

    #[tokio::test(start_paused = true)]
    async fn the_number_of_open_files_is_bounded_and_the_idle_ones_are_closed() -> std::io::Result<()> {
        let open = OpenFiles::default();
        for number in 0..=MOST {
            open.keep(blob(number)?);
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert!(open.get(&blob(0)?.sha256).is_none(), "the oldest made room");
        assert_eq!(open.lock().len(), MOST);
        tokio::time::advance(IDLE.saturating_sub(Duration::from_millis(1))).await;
        assert!(open.get(&blob(1)?.sha256).is_some());
        tokio::time::advance(Duration::from_millis(MOST as u64 + 1)).await;
        open.close_idle();
        assert_eq!(open.lock().keys().collect::<Vec<_>>(), [&blob(1)?.sha256], "only it was used lately");
        open.close_all();
        assert!(open.get(&blob(1)?.sha256).is_none());
        Ok(())
    }
}
