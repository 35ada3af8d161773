//! Files that were used recently and stay open, so that the next use needs neither a path nor a helper thread.
//!
//! An open file proves nothing about its name: every use asks the system whether it is still the one in the cache
//! directory. Number and idle time are bounded, because an open file keeps its space after it was removed.

use std::collections::HashMap;
use std::time::Duration;

use foldhash::quality::RandomState;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::blob::Blob;
use wheelport_index::Sha256;

/// The largest number of files that stay open.
const MAX_OPEN: usize = 128;
/// A file that was not used for this long is closed.
pub const OPEN_FILE_IDLE_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Default)]
pub(super) struct OpenFiles {
    blobs: Mutex<HashMap<Sha256, OpenBlob, RandomState>>,
}

struct OpenBlob {
    blob: Blob,
    last_used: Instant,
}

impl OpenFiles {
    /// The file, if it is open.
    pub(super) fn get(&self, sha256: &Sha256) -> Option<Blob> {
        let mut blobs = self.blobs.lock();
        let open = blobs.get_mut(sha256)?;
        open.last_used = Instant::now();
        Some(open.blob.clone())
    }

    /// Leaves a file open. Where there are too many, the least recently used one is closed.
    pub(super) fn insert(&self, blob: Blob) {
        let mut blobs = self.blobs.lock();
        if blobs.len() >= MAX_OPEN
            && !blobs.contains_key(&blob.sha256)
            && let Some(oldest) = blobs.iter().min_by_key(|(_, open)| open.last_used).map(|(sha256, _)| *sha256)
        {
            blobs.remove(&oldest);
        }
        blobs.insert(blob.sha256, OpenBlob { blob, last_used: Instant::now() });
    }

    /// Closes a file.
    pub(super) fn close(&self, sha256: &Sha256) {
        self.blobs.lock().remove(sha256);
    }

    /// Closes all files, so that removing them frees their space.
    pub(super) fn close_all(&self) {
        self.blobs.lock().clear();
    }

    /// Closes the files that were not used recently.
    pub(super) fn close_idle(&self) {
        self.blobs.lock().retain(|_, open| open.last_used.elapsed() < OPEN_FILE_IDLE_TIMEOUT);
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
        for number in 0..=MAX_OPEN {
            open.insert(blob(number)?);
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert!(open.get(&blob(0)?.sha256).is_none(), "the oldest was closed");
        assert_eq!(open.blobs.lock().len(), MAX_OPEN);
        tokio::time::advance(OPEN_FILE_IDLE_TIMEOUT.saturating_sub(Duration::from_millis(1))).await;
        assert!(open.get(&blob(1)?.sha256).is_some());
        tokio::time::advance(Duration::from_millis(MAX_OPEN as u64 + 1)).await;
        open.close_idle();
        assert_eq!(open.blobs.lock().keys().collect::<Vec<_>>(), [&blob(1)?.sha256], "only it was used recently");
        open.close_all();
        assert!(open.get(&blob(1)?.sha256).is_none());
        Ok(())
    }
}
