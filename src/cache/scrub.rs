//! The scrub: reads everything in the cache directory, slowly, and removes what is damaged before a client needs it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::blob_check::BlobCheck;
use super::blobs::Blobs;
use super::disk::{Disk, is_damage};
use super::inspect::open_blob;
use super::layout::{BLOBS, EVICTABLE, LASTING};
use wheelport_runtime::{Panicked, blocking, sabotaged};

/// The first pass begins this long after the start, which has better things to do.
const FIRST_PASS_AFTER: Duration = Duration::from_mins(1);
/// Passes begin at least this far apart.
const PASS_EVERY: Duration = Duration::from_hours(24);
/// What a file costs at least, in bytes: opening it takes time, too.
const LEAST: u64 = 4 << 10;
/// Rests shorter than this are put together.
const SHORTEST_REST: Duration = Duration::from_millis(50);

/// Scrubs the directory again and again. Ends when it is dropped.
pub struct Scrub {
    disk: Arc<Disk>,
    blobs: Blobs,
    /// Bytes per second.
    rate: u64,
    owed: Duration,
}

impl Scrub {
    /// Reads `rate` bytes per second, which is not 0.
    pub fn new(disk: Arc<Disk>, rate: u64) -> Self {
        Self { blobs: Blobs::new(Arc::clone(&disk)), disk, rate: rate.max(1), owed: Duration::ZERO }
    }

    /// Never resolves.
    pub async fn run(mut self) {
        sleep(FIRST_PASS_AFTER).await;
        loop {
            let began = Instant::now();
            let (files, bytes) = self.pass().await;
            tracing::info!(files, bytes, seconds = began.elapsed().as_secs(), "the cache directory was scrubbed");
            sleep_until(began + PASS_EVERY).await;
        }
    }

    /// Goes through everything once. Returns how many files were read, and how many bytes. What cannot be read for
    /// other reasons than damage is left to the next pass.
    async fn pass(&mut self) -> (u64, u64) {
        let (mut files, mut bytes) = (0, 0);
        let mut directories: Vec<PathBuf> = EVICTABLE.into_iter().chain(LASTING).map(PathBuf::from).collect();
        while let Some(directory) = directories.pop() {
            let root = self.disk.root().to_owned();
            let Ok((below, found)) = blocking(move || list(&root, &directory)).await else { continue };
            let found = if sabotaged("scrub") { Vec::new() } else { found };
            directories.extend(below);
            for path in found {
                let Ok(Some(read)) = self.file(path).await else { continue };
                (files, bytes) = (files + 1, bytes + read);
            }
        }
        (files, bytes)
    }

    /// Reads one file. Returns its length.
    async fn file(&mut self, path: PathBuf) -> Result<Option<u64>, Panicked> {
        if path.starts_with(BLOBS) { self.blob(path).await } else { self.record(path).await }
    }

    async fn blob(&mut self, path: PathBuf) -> Result<Option<u64>, Panicked> {
        let disk = Arc::clone(&self.disk);
        let opening = blocking(move || {
            let opened = open_blob(disk.root(), &path).and_then(|blob| BlobCheck::begin(&blob));
            opened.inspect_err(|error| discard(&disk, &path, error)).ok()
        });
        let Some(mut check) = opening.await? else { return Ok(None) };
        self.rest(LEAST).await;
        while !check.is_complete() {
            let (before, blobs) = (check.position(), self.blobs.clone());
            let advancing = blocking(move || {
                let outcome = check.advance().inspect_err(|error| blobs.discard(check.blob(), error));
                outcome.map(|()| check)
            });
            let Ok(advanced) = advancing.await? else { return Ok(None) };
            check = advanced;
            self.rest(check.position() - before).await;
        }
        let (blobs, length) = (self.blobs.clone(), check.position());
        Ok(blocking(move || blobs.conclude(check)).await?.ok().map(|()| length))
    }

    async fn record(&mut self, path: PathBuf) -> Result<Option<u64>, Panicked> {
        let disk = Arc::clone(&self.disk);
        let reading = blocking(move || disk.check_record(&path, &disk.open_file(&path)?).map(|(_, length)| length));
        let read = reading.await?;
        self.rest(read.as_ref().map_or(LEAST, |bytes| LEAST.max(*bytes))).await;
        Ok(read.ok())
    }

    /// Rests as long as reading so many bytes may take.
    async fn rest(&mut self, bytes: u64) {
        self.disk.count_scrubbed(bytes);
        let nanoseconds = u128::from(bytes) * 1_000_000_000 / u128::from(self.rate);
        self.owed += Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        if self.owed >= SHORTEST_REST && !sabotaged("scrub-rate") {
            sleep(std::mem::take(&mut self.owed)).await;
        }
    }
}

/// The directories and the files in a directory, below the root. Symbolic links are neither.
fn list(root: &Path, directory: &Path) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let (mut directories, mut files) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(root.join(directory)).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => directories.push(directory.join(entry.file_name())),
            Ok(kind) if kind.is_file() => files.push(directory.join(entry.file_name())),
            Ok(_) | Err(_) => {}
        }
    }
    (directories, files)
}

fn discard(disk: &Disk, path: &Path, error: &io::Error) {
    if is_damage(error) {
        disk.discard(path, error);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{CoreMetadataRecord, Expected, MetadataStore};
    use wheelport_index::{Hashes, Sha256};
    use wheelport_runtime::Clock;

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    fn store(blobs: &Blobs, content: &[u8]) -> Result<Sha256, Box<dyn std::error::Error>> {
        let mut hashes = Hashes::default();
        hashes.insert("sha256", &Sha256::of(content).to_string());
        let mut partial = blobs.begin(None, &hashes)?;
        partial.write(&[bytes::Bytes::copy_from_slice(content)], drop)?;
        partial.verify(&Expected { length: None, hashes })?.commit()?;
        Ok(Sha256::of(content))
    }

    #[tokio::test(start_paused = true)]
    async fn a_pass_reads_everything_at_its_rate_and_removes_what_is_damaged() -> Outcome {
        let root = tempfile::tempdir()?;
        let disk = Disk::open(root.path(), 1 << 30, Clock::system())?;
        let blobs = Blobs::new(Arc::clone(&disk));
        let (large, bad) = (vec![7; 3 << 20], vec![8; 3 << 20]);
        let (good, bad) = (store(&blobs, &large)?, store(&blobs, &bad)?);
        MetadataStore::new(Arc::clone(&disk)).put(good, &CoreMetadataRecord::Absent)?;
        blobs.link(good, bad)?;
        disk.write_lasting(Path::new("published/repo~a"), b"{}")?;
        disk.write_lasting(Path::new("first-seen/repo/a"), b"a record that is about to be damaged")?;
        let stray = root.path().join("blobs/stray");
        fs::write(&stray, "of another program")?;
        let path = |kind: &str, digest: &Sha256| root.path().join(crate::cache::layout::addressed(kind, digest));
        let first_seen = root.path().join("first-seen/repo/a");
        for path in [path(BLOBS, &bad), path("links", &good), first_seen] {
            let mut bytes = fs::read(&path)?;
            bytes[80] ^= 1;
            fs::write(path, bytes)?;
        }

        let mut scrub = Scrub::new(Arc::clone(&disk), 1 << 20);
        let began = Instant::now();
        assert_eq!(scrub.pass().await.0, 3, "one file and two records are good");
        let seconds = began.elapsed().as_secs_f64();
        assert!((5.9..7.0).contains(&seconds), "{seconds} s for 6 MiB");
        assert!((6 << 20..7 << 20).contains(&disk.scrubbed()));
        assert_eq!(
            disk.damaged(),
            [
                (BLOBS, 2),
                ("pages", 0),
                ("metadata", 0),
                ("links", 1),
                ("published", 0),
                ("first-seen", 1),
                ("granted", 0),
                ("savings", 0),
                ("usage", 0),
                ("advisories", 0)
            ]
        );
        assert!(path(BLOBS, &good).exists() && !path(BLOBS, &bad).exists() && !stray.exists());
        assert_eq!(scrub.pass().await.0, 3);
        fs::remove_dir_all(root.path())?;
        assert_eq!(scrub.pass().await, (0, 0), "errors end nothing");
        Ok(())
    }
}
