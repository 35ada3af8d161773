//! Core metadata out of a wheel that stays at upstream: read from its end, where upstream honours ranges.
//!
//! The end of an archive tells where its directory is, the directory where the metadata is, and build tools write both
//! near the end. So one request for the last bytes is enough for most wheels, a second one brings the rest of the
//! directory with what stands before it, and where the metadata is elsewhere, or the directory long, one more brings
//! that.
//!
//! Whatever goes wrong here ends in the download of the whole wheel. Where upstream sends the whole wheel in place of
//! its end, that response becomes the download.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::downloader::Downloader;
use super::extract::MetadataExtractor;
use super::held_parts::HeldParts;
use super::index_entry::IndexEntry;
use super::{Error, REQUEST_TIMEOUT, Route};
use crate::cache::{CoreMetadataRecord, JoinableDownload, MetadataStore, RepositoryId};
use crate::upstream::{FilePart, FileReply, FileRequest, PartError, PartReply, PartRequest, RangeOf, Upstream};
use wheelport_index::wheel::{self, WheelError};
use wheelport_index::{FileAddress, Sha256};
use wheelport_runtime::{Joined, Panicked, Role, SingleFlight, Tasks, Waits, blocking, sabotaged};

/// How much of the end of a wheel is requested first, in bytes: as much as uv does. A wheel up to this size is fetched
/// as a whole.
const TAIL: u64 = 16 << 10;
/// How much is requested beyond a directory, in bytes, besides half of its length: the list of files, which stands
/// between the metadata and the directory, grows with the directory.
const BEFORE: u64 = 8 << 10;
/// The longest directory with which that is requested as well, in bytes. Beyond a longer one it would be more than one
/// further request is worth.
const SHORT_DIRECTORY: u64 = 64 << 10;
/// The longest part that is requested, in bytes: the directory of some forty thousand files.
const LONGEST_PART: u64 = 4 << 20;
/// How long reading may take. There has to be time for the whole wheel after that.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The outcome of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByRangeOutcome {
    Read,
    /// Upstream sent the whole wheel.
    Whole,
    /// Upstream sent no part, or another one.
    Failed,
    /// The parts cannot be read as those of a wheel, or too much would have to be held.
    Unreadable,
}

impl ByRangeOutcome {
    pub const ALL: [Self; 4] = [Self::Read, Self::Whole, Self::Failed, Self::Unreadable];

    /// The metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Whole => "whole",
            Self::Failed => "failed",
            Self::Unreadable => "unreadable",
        }
    }
}

/// Why nothing was read from parts.
#[derive(Debug, thiserror::Error)]
enum NotRead {
    #[error("upstream sends the whole wheel")]
    Whole(Box<FileReply>),
    #[error("{0}")]
    Part(#[from] PartError),
    #[error("they took too long")]
    Late,
    #[error("{0}")]
    Wheel(#[from] WheelError),
    #[error("too much would have to be held")]
    TooLarge,
    #[error("the page announces other metadata")]
    OtherDigest,
    #[error("{0}")]
    Internal(#[from] Panicked),
}

/// What came of an attempt.
#[derive(Clone)]
pub(super) enum RangeRead {
    Metadata(CoreMetadataRecord),
    /// The whole wheel is on its way.
    Begun(JoinableDownload<Error>),
    /// The whole wheel has to be fetched.
    Nothing,
}

/// Reads core metadata by range. Cheap to clone.
#[derive(Clone)]
pub(super) struct RangeReader {
    inner: Arc<RangeReaderInner>,
}

struct RangeReaderInner {
    store: MetadataStore,
    extractor: MetadataExtractor,
    downloader: Downloader,
    running: SingleFlight<(RepositoryId, Sha256), Joined<RangeRead>>,
    counts: [AtomicU64; ByRangeOutcome::ALL.len()],
    tasks: Tasks,
}

impl RangeReader {
    pub(super) fn new(
        store: MetadataStore,
        extractor: MetadataExtractor,
        downloader: Downloader,
        tasks: Tasks,
    ) -> Self {
        let (running, counts) = (SingleFlight::default(), Default::default());
        let inner = RangeReaderInner { store, extractor, downloader, running, counts, tasks };
        Self { inner: Arc::new(inner) }
    }

    /// How often there was which outcome.
    pub(super) fn counts(&self) -> [(ByRangeOutcome, u64); ByRangeOutcome::ALL.len()] {
        ByRangeOutcome::ALL.map(|outcome| (outcome, self.inner.counts[outcome as usize].load(Ordering::Relaxed)))
    }

    /// Reads the metadata of a wheel that is not stored, if it is worth the attempt.
    pub(super) async fn read(
        &self,
        route: &Arc<Route>,
        address: &FileAddress,
        entry: &IndexEntry,
    ) -> (RangeRead, Role) {
        let not_tried = (RangeRead::Nothing, Role::Leader);
        let Some(wheel) = entry.sha256.filter(|_| !entry.is_refused()) else { return not_tried };
        let Ok(upstream) = route.upstream().await else { return not_tried };
        if entry.expected.length.is_some_and(|length| length <= TAIL) || !upstream.may_have_parts() {
            return not_tried;
        }
        let (reader, route, address, entry) = (self.clone(), Arc::clone(route), address.clone(), entry.clone());
        let key = (route.repository.clone(), wheel);
        let (joined, role) =
            self.inner.running.run(key, &self.inner.tasks, "read core metadata by range", || async move {
                reader.inner.read(&upstream, &route, &address, &entry, wheel).await
            });
        let read = Waits::note("part", joined.within(REQUEST_TIMEOUT)).await;
        (read.unwrap_or(RangeRead::Nothing), role)
    }
}

impl RangeReaderInner {
    async fn read(
        &self,
        upstream: &Upstream,
        route: &Arc<Route>,
        address: &FileAddress,
        entry: &IndexEntry,
        wheel: Sha256,
    ) -> RangeRead {
        let source = PartSource::new(upstream, address, entry);
        let reading = timeout(TIMEOUT, self.read_parts(source, address, entry));
        let (outcome, read) = match reading.await.unwrap_or(Err(NotRead::Late)) {
            Ok(record) => (ByRangeOutcome::Read, RangeRead::Metadata(record)),
            Err(NotRead::Whole(reply)) => {
                let entry = IndexEntry { is_brief: true, ..entry.clone() };
                let (download, _) = self.downloader.download_from(route, address, entry, Some(*reply));
                (ByRangeOutcome::Whole, RangeRead::Begun(download))
            }
            Err(why @ (NotRead::Part(_) | NotRead::Late)) => {
                tracing::debug!(file = %address.file, %why, "no part of a wheel; fetching all of it");
                (ByRangeOutcome::Failed, RangeRead::Nothing)
            }
            Err(why) => {
                tracing::info!(file = %address.file, %why, "parts of a wheel do not tell its metadata");
                (ByRangeOutcome::Unreadable, RangeRead::Nothing)
            }
        };
        self.counts[outcome as usize].fetch_add(1, Ordering::Relaxed);
        if let RangeRead::Metadata(record) = &read {
            self.take_in(route, wheel, record);
        }
        read
    }

    /// Remembers what was read. Other replicas do not hear of it: what they share of a wheel has to be that of all its
    /// bytes, whichever repository it was read from.
    fn take_in(&self, route: &Route, wheel: Sha256, record: &CoreMetadataRecord) {
        self.store.remember_unproven(&route.repository, wheel, record);
        if let CoreMetadataRecord::Present(metadata) = record.clone() {
            let (store, repository) = (self.store.clone(), route.repository.clone());
            self.tasks.spawn("record core metadata", async move {
                if let Ok(Err(error)) = blocking(move || store.put_unproven(&repository, wheel, &metadata)).await {
                    tracing::warn!(%error, "core metadata could not be recorded");
                }
            });
        }
    }

    async fn read_parts(
        &self,
        mut source: PartSource<'_>,
        address: &FileAddress,
        entry: &IndexEntry,
    ) -> Result<CoreMetadataRecord, NotRead> {
        let mut memory = self.extractor.hold(1).await;
        let (mut parts, tail) = source.tail().await?;
        let directory = wheel::directory_start(&parts)?;
        if let Some(missing) = parts.missing(directory..tail.end) {
            let length = tail.end - directory;
            let before = if length <= SHORT_DIRECTORY { length / 2 + BEFORE } else { 0 };
            let range = directory.saturating_sub(before)..missing.end;
            self.make_room(&mut memory, &parts, &range).await?;
            source.extend(&mut parts, range).await?;
        }
        let (held, name) = (parts.clone(), address.file.clone());
        let part = blocking(move || wheel::metadata_part(held, &name)).await??;
        if let Some(missing) = parts.missing(part) {
            self.make_room(&mut memory, &parts, &missing).await?;
            source.extend(&mut parts, missing).await?;
        }
        let bytes = self.extractor.read_metadata(parts, &address.file).await??;
        let record = CoreMetadataRecord::unproven(bytes.into());
        match (&record, entry.metadata) {
            (CoreMetadataRecord::Present(metadata), Some(announced))
                if metadata.sha256 != announced && !sabotaged("announced-metadata") =>
            {
                Err(NotRead::OtherDigest)
            }
            _ => Ok(record),
        }
    }

    /// Waits until one more part may be held. What is held already counts for nothing meanwhile: a reader that waited
    /// for more could wait for ever.
    async fn make_room(
        &self,
        memory: &mut Option<OwnedSemaphorePermit>,
        parts: &HeldParts,
        range: &Range<u64>,
    ) -> Result<(), NotRead> {
        let more = range.end - range.start;
        if more > LONGEST_PART && !sabotaged("longest-part") {
            return Err(NotRead::TooLarge);
        }
        let mebibytes = u32::try_from((parts.held() + more).div_ceil(1 << 20)).unwrap_or(u32::MAX);
        if mebibytes > 1 {
            drop(memory.take());
            *memory = self.extractor.hold(mebibytes).await;
        }
        Ok(())
    }
}

/// One wheel at upstream.
struct PartSource<'a> {
    upstream: &'a Upstream,
    file: FileRequest,
    length: Option<u64>,
    etag: Option<String>,
}

impl<'a> PartSource<'a> {
    fn new(upstream: &'a Upstream, address: &FileAddress, entry: &IndexEntry) -> Self {
        let file = FileRequest {
            address: address.clone(),
            url: entry.url.clone(),
            resume: None,
            listed: entry.is_listed,
            brief: true,
        };
        Self { upstream, file, length: entry.expected.length, etag: None }
    }

    /// The end of the wheel, and which part that is.
    async fn tail(&mut self) -> Result<(HeldParts, Range<u64>), NotRead> {
        let range = match self.length {
            Some(length) => RangeOf::Between { first: length.saturating_sub(TAIL), last: length.saturating_sub(1) },
            None => RangeOf::Last(TAIL),
        };
        let FilePart { first, bytes, length, etag } = self.request(range).await?;
        (self.length, self.etag) = (Some(length), etag);
        Ok((HeldParts::new(length, first, bytes), first..length))
    }

    async fn extend(&self, parts: &mut HeldParts, range: Range<u64>) -> Result<(), NotRead> {
        let part = self.request(RangeOf::Between { first: range.start, last: range.end - 1 }).await?;
        parts.add(part.first, part.bytes);
        Ok(())
    }

    async fn request(&self, range: RangeOf) -> Result<FilePart, NotRead> {
        let request = PartRequest { file: self.file.clone(), range, length: self.length, etag: self.etag.clone() };
        match self.upstream.part(request).await? {
            PartReply::Part(part) => Ok(part),
            PartReply::Whole(reply) => Err(NotRead::Whole(reply)),
        }
    }
}
