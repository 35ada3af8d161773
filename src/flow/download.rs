//! The download of one file: fetch, write, verify, commit, while readers follow.
//!
//! Receiving, writing and hashing overlap (`cache/write_pipeline.rs`). Readers wait for the verification and for
//! nothing after it: while the file is synced and renamed, requests read it from where it was written.
//!
//! A download without readers goes on for a while, or to its end when more than half is there, because a client may
//! come back. Then it is given up: it holds a permit that others wait for.
//!
//! When upstream breaks off in the middle, the download resumes where it stopped, or starts over and skips the bytes it
//! has; readers notice nothing. What they got is verified at the end, because the hash runs over what was written.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::batch::{Next, gather, skip_bytes};
use super::error::{Cause, Error, unavailable};
use super::extract::MetadataExtractor;
use super::index_entry::{IndexEntries, IndexEntry};
use super::linked_digest::link_key;
use super::prepared_file::PreparedFile;
use super::route::Route;
use super::shared_files::{SharedFiles, SharedLookup, SharedReceipt};
use crate::cache::{Blob, Blobs, StorageError, VerifiedBlob, WriteError};
use crate::fleet::LeaseGuard;
use crate::upstream::{FileReply, FileRequest, Resume, UpstreamError};
use wheelport_index::{FileAddress, FileKind};
use wheelport_runtime::{blocking, sabotaged};

type Failure = crate::cache::DownloadFailure<Error>;
type Pipeline = crate::cache::WritePipeline<Error>;
pub(super) type Writer = crate::cache::DownloadWriter<Error>;

/// How long a download goes on without readers.
const UNREAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a download asks upstream in all.
const ATTEMPTS: u32 = 4;
/// How many files are synced and renamed at the same time; the others wait, already readable. How many can wait is
/// bounded by the size of the cache, where each has its room reserved.
const COMMITS_AT_ONCE: usize = 32;

/// Why an attempt ended early.
enum AttemptError {
    /// Another attempt may help.
    Broken(UpstreamError),
    /// Nothing will help.
    Failed(Failure),
}

/// What downloads work with.
pub(super) struct DownloadParts {
    entries: IndexEntries,
    blobs: Blobs,
    extractor: MetadataExtractor,
    shared: SharedFiles,
    /// Permits for downloads that are being committed.
    committing: Semaphore,
    /// Files that were served and could not be stored.
    commit_failures: AtomicU64,
}

impl DownloadParts {
    pub(super) fn new(entries: IndexEntries, blobs: Blobs, extractor: MetadataExtractor, shared: SharedFiles) -> Self {
        let (committing, commit_failures) = (Semaphore::new(COMMITS_AT_ONCE), AtomicU64::new(0));
        Self { entries, blobs, extractor, shared, committing, commit_failures }
    }

    /// Files that were served and could not be stored.
    pub(super) fn commit_failures(&self) -> u64 {
        self.commit_failures.load(Ordering::Relaxed)
    }
}

/// A download under way.
pub(super) struct DownloadTask<'a> {
    downloader: &'a DownloadParts,
    route: &'a Arc<Route>,
    address: &'a FileAddress,
    entry: IndexEntry,
    writer: Arc<Writer>,
    prepared: PreparedFile,
    pipeline: Option<Pipeline>,
    etag: Option<String>,
    resumable: bool,
    /// Held while this replica fetches the file for all.
    lease: Option<LeaseGuard>,
    /// Whether it came from what replicas share.
    is_shared: bool,
}

impl DownloadTask<'_> {
    /// Downloads a file and reports to `writer`. Readers have the whole file before this ends: it is committed behind
    /// them.
    pub(super) async fn run(
        downloader: &DownloadParts,
        route: &Arc<Route>,
        address: &FileAddress,
        entry: IndexEntry,
        writer: Writer,
        reply: Option<FileReply>,
    ) {
        if let Some(blob) = stored_meanwhile(downloader, route, address, &entry).await {
            return writer.stored_already(blob);
        }
        let (writer, began) = (Arc::new(writer), Instant::now());
        let mut task = DownloadTask {
            downloader,
            route,
            address,
            prepared: PreparedFile::begin(&downloader.blobs, &entry.expected),
            entry,
            writer: Arc::clone(&writer),
            pipeline: None,
            etag: None,
            resumable: false,
            lease: None,
            is_shared: false,
        };
        let fetched = tokio::select! {
            biased;
            fetched = task.obtain(reply) => fetched,
            () = given_up(&writer) => Err(Failure::Unread),
        };
        match fetched {
            Ok(verified) => {
                let blob = verified.blob();
                let is_shared = task.is_shared;
                let bytes = blob.length;
                tracing::info!(route = %route.name, file = %address.file, bytes, is_shared, "file fetched");
                if verified.proven && !is_shared {
                    drop(downloader.shared.offer(blob.clone(), task.lease.take()));
                }
                task.commit(verified).await;
                if task.entry.is_listed && address.file.kind() == FileKind::Wheel {
                    downloader.extractor.extract_in_background(route, address, &blob);
                }
            }
            Err(Failure::Unread) => {
                tracing::info!(route = %route.name, file = %address.file, "a download without readers was given up");
                writer.fail(Failure::Unread);
            }
            Err(failure) => {
                tracing::warn!(route = %route.name, file = %address.file, ?failure, "file could not be fetched");
                if matches!(failure, Failure::Upstream(Error::Integrity { .. })) {
                    // Before the readers hear of it, so that those who come back find what upstream says now.
                    downloader.entries.ask_page_again(route, address, began).await;
                }
                writer.fail(failure);
            }
        }
    }

    /// The file from what upstream has begun to send, from what replicas share, or from upstream.
    async fn obtain(&mut self, begun: Option<FileReply>) -> Result<VerifiedBlob, Failure> {
        let Some(sha256) = self.entry.sha256.filter(|_| begun.is_none()) else { return self.fetch(begun).await };
        match Box::pin(self.downloader.shared.find(self.route, Some(sha256))).await {
            SharedLookup::Alone => {}
            SharedLookup::Lead(lease) => self.lease = Some(lease),
            SharedLookup::Object(object) => {
                let (shared, expected) = (&self.downloader.shared, &self.entry.expected);
                match shared.receive(*object, sha256, expected, &mut self.prepared, &self.writer).await {
                    SharedReceipt::Verified(verified) => {
                        self.is_shared = true;
                        return Ok(*verified);
                    }
                    SharedReceipt::Nothing | SharedReceipt::Wrong { is_seen: false } => {}
                    SharedReceipt::Begun(pipeline) => self.pipeline = Some(*pipeline),
                    SharedReceipt::Wrong { is_seen: true } => {
                        return Err(Failure::Upstream(unavailable(Cause::Storage)));
                    }
                    SharedReceipt::Storage(error) => return Err(self.refused(error)),
                }
            }
        }
        self.fetch(None).await
    }

    async fn fetch(&mut self, mut begun: Option<FileReply>) -> Result<VerifiedBlob, Failure> {
        let upstream = self.route.upstream().await.map_err(Failure::Upstream)?;
        let mut pause = Duration::from_millis(100);
        for attempt in 1.. {
            let reply = match begun.take() {
                Some(reply) => Ok(reply),
                None => upstream.file(self.request().await?).await,
            };
            let outcome = match reply {
                Ok(reply) => self.take(reply).await,
                Err(error) => Err(AttemptError::Broken(error)),
            };
            match outcome {
                Ok(last) => return self.finish(last).await,
                Err(AttemptError::Failed(failure)) => return Err(failure),
                Err(AttemptError::Broken(error)) => {
                    if matches!(error, UpstreamError::CannotResume) {
                        self.resumable = false;
                    }
                    let written = self.written().await?;
                    // Once readers have the headers, only another attempt can help them, whether or not a byte arrived.
                    if self.pipeline.is_none() || attempt >= ATTEMPTS {
                        let Self { downloader, route, address, entry, .. } = self;
                        let meaning = downloader.entries.file_error(route, address, entry, &error).await;
                        return Err(Failure::Upstream(meaning));
                    }
                    tracing::info!(file = %self.address.file, written, %error, "upstream broke off; trying again");
                    tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
                    pause *= 2;
                }
            }
        }
        Err(Failure::Abandoned)
    }

    /// Bytes written so far, with those on their way.
    async fn written(&mut self) -> Result<u64, Failure> {
        let Some(pipeline) = &mut self.pipeline else { return Ok(0) };
        let settled = pipeline.settle().await;
        settled.map_err(|error| self.refused(error))
    }

    async fn request(&mut self) -> Result<FileRequest, Failure> {
        let offset = self.written().await?;
        let resume = (self.resumable && offset > 0).then(|| Resume { offset, etag: self.etag.clone() });
        Ok(FileRequest {
            address: self.address.clone(),
            url: self.entry.url.clone(),
            resume,
            // Where no page could be read, the file may be one that is listed and not imported yet.
            listed: self.entry.is_listed || self.entry.index_error.is_some(),
            brief: self.entry.is_brief,
        })
    }

    /// Takes one response of upstream to its end; returns the last batch, which is still to be written.
    async fn take(&mut self, mut reply: FileReply) -> Result<Vec<Bytes>, AttemptError> {
        if let (Some(expected), Some(found)) = (self.entry.expected.length, reply.length)
            && expected != found
            && !sabotaged("length-check")
        {
            tracing::error!(
                file = %self.address.file, expected, found,
                "upstream sends a file of another length than the index says"
            );
            return Err(AttemptError::Failed(Failure::Upstream(self.mismatch())));
        }
        self.entry.expected.length = self.entry.expected.length.or(reply.length);
        (self.etag, self.resumable) = (reply.etag.take(), reply.ranges);
        self.begin().await.map_err(|error| AttemptError::Failed(self.refused(error)))?;
        // After starting over, the bytes that are written already are skipped.
        let mut received = self.written().await.map_err(AttemptError::Failed)?;
        let mut skip = received.saturating_sub(reply.offset);
        loop {
            let Some(pipeline) = &mut self.pipeline else { return Err(internal("a download has no pipeline")) };
            let (mut batch, next) = gather(&mut reply.body, pipeline).await;
            skip_bytes(&mut batch, &mut skip);
            if let Some(lease) = &self.lease {
                received += batch.iter().map(|chunk| chunk.len() as u64).sum::<u64>();
                lease.progress(received, self.entry.expected.length);
            }
            if matches!(next, Next::End) {
                return Ok(batch);
            }
            let sent = pipeline.write(batch).await;
            sent.map_err(|error| AttemptError::Failed(self.refused(error)))?;
            if let Next::Broken(error) = next {
                return Err(AttemptError::Broken(error));
            }
        }
    }

    /// Reserves room and lets readers in, once.
    async fn begin(&mut self) -> Result<(), WriteError> {
        if self.pipeline.is_none() {
            let partial = self.prepared.take(&self.entry.expected).await?;
            self.pipeline = Some(Pipeline::begin(partial, self.entry.expected.length, Arc::clone(&self.writer)));
        }
        Ok(())
    }

    /// Writes the last batch and verifies the whole file.
    async fn finish(&mut self, last: Vec<Bytes>) -> Result<VerifiedBlob, Failure> {
        let Some(pipeline) = self.pipeline.take() else { return Err(Failure::Abandoned) };
        let finished = pipeline.finish(last, self.entry.expected.clone()).await;
        finished.map_err(|error| self.refused(error))
    }

    /// Syncs a verified file and renames it to its digest. Readers have all of it already, so a failure here only
    /// concerns later requests; those that come in the meantime join this download. A file that nothing vouches for is
    /// not stored.
    async fn commit(&self, verified: VerifiedBlob) {
        if !verified.proven && !sabotaged("unproven-file") {
            return self.writer.verified(verified.complete());
        }
        let sha256 = verified.sha256;
        let hashes = &self.entry.expected.hashes;
        let link = self.entry.sha256.is_none().then(|| link_key(self.route, self.address, hashes)).flatten();
        // Helper threads have other work too, however slow the disk is.
        let _permit = self.downloader.committing.acquire().await;
        let blobs = self.downloader.blobs.clone();
        let committed = blocking(move || {
            verified.commit()?;
            link.map_or(Ok(()), |key| blobs.link(key, sha256))
        });
        let committed = committed.await.unwrap_or_else(|panicked| Err(std::io::Error::other(panicked)));
        if let Err(error) = committed {
            self.downloader.commit_failures.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(file = %self.address.file, %error, "a fetched file could not be stored");
        }
    }

    /// What it means that bytes were not written.
    fn refused(&self, error: WriteError) -> Failure {
        match error {
            WriteError::Storage(error) => bypassed(&error),
            WriteError::Mismatch(mismatch) => {
                tracing::error!(
                    file = %self.address.file, %mismatch,
                    "upstream sent other bytes than the index says; they were discarded"
                );
                Failure::Upstream(self.mismatch())
            }
            WriteError::Interrupted => Failure::Upstream(Error::internal("writing a download was interrupted")),
        }
    }

    fn mismatch(&self) -> Error {
        Error::Integrity { file: self.address.file.clone() }
    }
}

/// Resolves when a download has had no reader for a while and is not worth finishing.
async fn given_up(writer: &Writer) {
    writer.unread_for(UNREAD_TIMEOUT).await;
    if writer.is_half_done() || sabotaged("unread-download") {
        std::future::pending::<()>().await;
    }
}

/// The file, if another download ended between the look into the cache and the start of this one: it is open then.
async fn stored_meanwhile(
    downloader: &DownloadParts,
    route: &Route,
    address: &FileAddress,
    entry: &IndexEntry,
) -> Option<Blob> {
    let sha256 = match entry.sha256 {
        Some(sha256) => sha256,
        None => downloader.entries.with_link(route, address, entry.clone()).await.ok()?.sha256?,
    };
    downloader.blobs.get_open(sha256, entry.expected.length)
}

fn internal(detail: &'static str) -> AttemptError {
    AttemptError::Failed(Failure::Upstream(Error::internal(detail)))
}

fn bypassed(error: &StorageError) -> Failure {
    tracing::warn!(%error, "a file cannot be stored and bypasses the cache");
    Failure::Storage
}
