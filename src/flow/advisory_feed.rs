//! Renews advisories from their source: looks whether it has changed, reads what it has into a new copy, and puts that
//! in force as a whole. Whatever goes wrong on the way changes nothing.
//!
//! ```text
//! source ─► export ─► a new copy, document by document ─► not shrunken? ─► in force ─► the store that replicas share
//! ```

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tempfile::NamedTempFile;
use tokio::time::Instant;
use url::Url;

use super::advisories::{Advisories, AdvisoriesInner, AdvisoryFailure, RefreshOutcome};
use crate::advisories::{
    AdvisorySource, AdvisoryTable, CopyHeader, CopyWriter, LARGEST_EXPORT, MOST_DOCUMENTS, read_export,
};
use crate::upstream::{DocumentBody, FetchedDocument};
use wheelport_index::Sha256;
use wheelport_runtime::{blocking, sabotaged};

/// How often a path is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// After how long an address that failed is asked again, unless it is asked more often anyway.
const RETRY: Duration = Duration::from_mins(1);
/// What is gathered of an export before it is written, in bytes.
const BATCH: usize = 1 << 20;
/// Fewer advisories than this may go without that being remarkable.
const REMARKABLE: usize = 10;

/// A source, and what was seen of it.
struct Feed {
    advisories: Advisories,
    source: AdvisorySource,
    /// The version of the path at the last look; it is read when it has stood still for one look.
    seen: Option<String>,
    /// The version that was read last, whatever others have put in force since.
    read: Option<String>,
    /// The version that could not be used.
    refused: Option<String>,
}

/// What was found at the source.
enum FoundExport {
    Unchanged,
    /// It is still being written, or is known to be of no use.
    NotYet,
    At(ExportFile),
}

/// An export that can be read.
struct ExportFile {
    path: PathBuf,
    tag: Option<String>,
    /// When it was made, as far as that is known.
    made: Option<SystemTime>,
    /// Removed when the export was read.
    _scratch: Option<NamedTempFile>,
}

impl Advisories {
    /// Renews them until the process ends.
    pub async fn follow(self) {
        let Some(source) = self.inner.settings.source.clone() else { return };
        let mut feed = Feed { advisories: self.clone(), source, seen: None, read: None, refused: None };
        let (mut due, mut store_due, mut is_told) = (Instant::now(), Instant::now(), false);
        loop {
            if is_told || Instant::now() >= store_due {
                self.take_shared().await;
                store_due = Instant::now() + self.store_pause();
            }
            if self.inner.unshared.load(Ordering::Relaxed) {
                self.share().await;
            }
            if Instant::now() >= due {
                due = Instant::now() + feed.look().await;
            }
            self.inner.looked.send_replace(true);
            is_told = tokio::time::timeout_at(due.min(store_due), self.inner.hint.notified()).await.is_ok();
        }
    }
}

impl Feed {
    /// Looks at the source, takes what is new, and says when to look again.
    async fn look(&mut self) -> Duration {
        let inner = Arc::clone(&self.advisories.inner);
        let refresh = inner.settings.refresh.get().mul_f64(0.9 + fastrand::f64() / 5.0);
        let pause = if matches!(self.source, AdvisorySource::Path(_)) { LOOK_EVERY } else { refresh };
        let taking = tokio::time::timeout(inner.settings.timeout.get(), self.take());
        let taken = taking.await.unwrap_or_else(|_| Err(AdvisoryFailure::Unreachable("it takes too long".to_owned())));
        match taken {
            Ok(true) => {
                inner.unshared.store(true, Ordering::Relaxed);
                self.advisories.share().await;
                pause
            }
            Ok(false) => pause,
            Err(failure) => {
                inner.fail(&failure);
                pause.min(RETRY)
            }
        }
    }

    /// Takes what is new; whether anything was.
    async fn take(&mut self) -> Result<bool, AdvisoryFailure> {
        let inner = Arc::clone(&self.advisories.inner);
        let now = inner.clock.unix_seconds();
        let export = match self.find().await? {
            FoundExport::NotYet => return Ok(false),
            FoundExport::Unchanged => {
                inner.confirm(RefreshOutcome::Unchanged, now);
                return Ok(false);
            }
            FoundExport::At(export) => export,
        };
        let made = export.made.and_then(|made| made.duration_since(UNIX_EPOCH).ok()).map_or(now, |made| made.as_secs());
        let header = CopyHeader { source: self.source.name(), tag: export.tag.clone(), made };
        let (path, taking) = (export.path.clone(), Arc::clone(&inner));
        let taken = blocking(move || taking.take(&path, header)).await;
        let taken = taken.unwrap_or_else(|panicked| Err(io::Error::other(panicked.to_string()).into()));
        if let Err(AdvisoryFailure::Unreadable(_) | AdvisoryFailure::Shrunken { .. } | AdvisoryFailure::Older) = &taken
        {
            self.refused.clone_from(&export.tag);
        }
        let is_other = taken?;
        self.read.clone_from(&export.tag);
        inner.confirm(RefreshOutcome::Taken, now);
        Ok(is_other)
    }

    /// Looks whether the source has something else than what is in force.
    async fn find(&mut self) -> Result<FoundExport, AdvisoryFailure> {
        let header = self.advisories.current().header.clone();
        let known = header.tag.filter(|_| header.source == self.source.name());
        match self.source.clone() {
            AdvisorySource::Path(path) => {
                let looked = path.clone();
                let found = blocking(move || version_of(&looked)).await;
                let found = found.map_err(|panicked| io::Error::other(panicked.to_string())).and_then(|found| found);
                let (tag, made) = found.map_err(|error| AdvisoryFailure::Unreachable(error.to_string()))?;
                if [&known, &self.read].contains(&&Some(tag.clone())) {
                    return Ok(FoundExport::Unchanged);
                }
                let is_first = self.seen.is_none();
                let stood_still = self.seen.replace(tag.clone()).as_ref() == Some(&tag);
                if self.refused.as_ref() == Some(&tag) || !(is_first || stood_still) {
                    return Ok(FoundExport::NotYet);
                }
                Ok(FoundExport::At(ExportFile { path, tag: Some(tag), made, _scratch: None }))
            }
            AdvisorySource::Url(url) => self.fetch(&url, known).await,
        }
    }

    async fn fetch(&self, url: &Url, known: Option<String>) -> Result<FoundExport, AdvisoryFailure> {
        let inner = &self.advisories.inner;
        // An export that could not be used is not fetched again before it changes.
        let asked = known.or_else(|| self.refused.clone());
        match inner.client.fetch(url, asked.as_deref(), LARGEST_EXPORT).await.map_err(AdvisoryFailure::Unreachable)? {
            FetchedDocument::Unchanged if self.refused.is_some() && asked == self.refused => Ok(FoundExport::NotYet),
            FetchedDocument::Unchanged => Ok(FoundExport::Unchanged),
            FetchedDocument::Arriving(body) if body.tag.is_some() && body.tag == self.refused => {
                Ok(FoundExport::NotYet)
            }
            FetchedDocument::Arriving(mut body) => {
                let record = inner.record.clone();
                let scratch = blocking(move || record.scratch()).await;
                let scratch =
                    scratch.map_err(|panicked| io::Error::other(panicked.to_string())).and_then(|made| made)?;
                let scratch = save(&mut body, scratch).await?;
                let (path, tag, made) = (scratch.path().to_owned(), body.tag, body.modified);
                Ok(FoundExport::At(ExportFile { path, tag, made, _scratch: Some(scratch) }))
            }
        }
    }
}

/// Writes a document to a file as it arrives.
async fn save(body: &mut DocumentBody, mut file: NamedTempFile) -> Result<NamedTempFile, AdvisoryFailure> {
    let mut batch: Vec<Bytes> = Vec::new();
    loop {
        let next = body.next().await.map_err(AdvisoryFailure::Unreachable)?;
        let is_last = next.is_none();
        batch.extend(next);
        if is_last || batch.iter().map(Bytes::len).sum::<usize>() >= BATCH {
            let written = std::mem::take(&mut batch);
            let writing = blocking(move || {
                written.iter().try_for_each(|bytes| file.write_all(bytes))?;
                Ok::<_, io::Error>(file)
            });
            file = writing.await.map_err(|panicked| io::Error::other(panicked.to_string()))??;
        }
        if is_last {
            return Ok(file);
        }
    }
}

/// What changes when a file or a directory changes, and when that was last. Blocking.
fn version_of(path: &Path) -> io::Result<(String, Option<SystemTime>)> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_dir() {
        return Ok((described(&metadata), metadata.modified().ok()));
    }
    let (mut parts, mut waiting, mut last) = (Vec::new(), vec![path.to_owned()], metadata.modified().ok());
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(&directory)? {
            let path = entry?.path();
            let metadata = fs::metadata(&path)?;
            last = last.max(metadata.modified().ok());
            parts.push(format!("{}\0{}", path.display(), described(&metadata)));
            if metadata.is_dir() {
                waiting.push(path);
            }
            if parts.len() > MOST_DOCUMENTS * 2 {
                return Err(io::Error::other("it has too many files"));
            }
        }
    }
    parts.sort();
    Ok((Sha256::of(parts.join("\n").as_bytes()).to_string(), last))
}

fn described(metadata: &fs::Metadata) -> String {
    use std::os::unix::fs::MetadataExt as _;
    let changed = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    format!("{}-{}-{}", changed.map_or(0, |changed| changed.as_nanos()), metadata.len(), metadata.ino())
}

impl AdvisoriesInner {
    /// Reads an export into a new copy and puts it in force; whether it says something else than before. Blocking.
    fn take(&self, path: &Path, header: CopyHeader) -> Result<bool, AdvisoryFailure> {
        let known = self.known();
        if self.fleet.store().is_some() && header.made < known.header.made {
            return Err(AdvisoryFailure::Older);
        }
        let mut copy = CopyWriter::new(self.record.begin()?, &header)?;
        let unreadable = read_export(path, &known.table, &mut copy)?;
        let (new, table) = copy.finish()?;
        if known.header.source == header.source && !self.settings.accept_shrunken {
            remarkable(&known.table, &table)?;
        }
        self.count_unreadable(unreadable);
        let is_other = table.digest() != known.table.digest();
        if is_other {
            let (advisories, malware) = (table.len(), table.malware());
            tracing::info!(advisories, malware, unreadable, memory = table.weight(), "advisories are in force");
        }
        self.put_in_force(header, table, new.commit()?);
        Ok(is_other)
    }
}

/// Whether an export has lost most of what was there; then it is taken for broken.
fn remarkable(before: &AdvisoryTable, after: &AdvisoryTable) -> Result<(), AdvisoryFailure> {
    let is_lost = |before: usize, after: usize| before >= REMARKABLE && after < before / 2;
    if (is_lost(before.len(), after.len()) || is_lost(before.malware(), after.malware()))
        && !sabotaged("advisory-shrunken")
    {
        return Err(AdvisoryFailure::Shrunken {
            before: before.len(),
            malware: before.malware(),
            after: after.len(),
            malware_after: after.malware(),
        });
    }
    Ok(())
}
