//! The fill of one file: fetch, write, verify, keep, while readers follow.
//!
//! Receiving, writing and hashing overlap (`cache/write_pipeline.rs`). Readers wait for the verification and for nothing after it:
//! while the file is synced and gets its name, it is read, also by those who come then, from where it was written.
//!
//! When upstream breaks off in the middle, the fill goes on where it stopped, or starts over and passes over what it
//! has; readers notice nothing. What they got is part of what is verified at the end, because the hash runs over the
//! bytes as they were written.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use tokio::task::JoinHandle;

use super::file::{Facts, link_key};
use super::{Flow, Route, blocking, explain, unavailable};
use crate::cache::{
    Blob, DownloadFailure, DownloadWriter, PartialBlob, StorageError, VerifiedBlob, WriteError, WritePipeline,
};
use crate::error::{Cause, Error};
use crate::upstream::{FileBody, FileReply, FileRequest, Resume, UpstreamError};
use wheelport_index::{FileAddress, FileKind};

/// How often a fill asks upstream in all.
const ATTEMPTS: u32 = 4;
/// What is written to disk in one go at most, in bytes.
const BATCH: usize = 1 << 20;
/// How many files are synced and given their names at the same time; the others wait in line, already readable. How many
/// can wait is bounded by the size of the cache, where each has its room reserved.
pub(super) const KEPT_AT_ONCE: usize = 32;

/// Why an attempt ended early.
enum Stop {
    /// Another attempt may help.
    Broken(UpstreamError),
    /// Nothing will help.
    Failed(DownloadFailure<Error>),
}

/// What follows a batch.
enum After {
    More,
    End,
    Broken(UpstreamError),
}

impl From<StorageError> for Stop {
    fn from(error: StorageError) -> Self {
        Self::Failed(passed_through(&error))
    }
}

/// A fill under way.
struct Filling<'a> {
    flow: &'a Flow,
    route: &'a Arc<Route>,
    address: &'a FileAddress,
    facts: Facts,
    writer: Arc<DownloadWriter<Error>>,
    /// What is made ready while upstream is asked.
    early: Option<JoinHandle<Option<PartialBlob>>>,
    pipeline: Option<WritePipeline<Error>>,
    etag: Option<String>,
    resumable: bool,
}

impl Flow {
    /// Fills a file and says so to `writer`. Readers have the whole file before this ends: it is kept behind them.
    pub(super) async fn run_fill(
        &self,
        route: &Arc<Route>,
        address: &FileAddress,
        facts: Facts,
        writer: DownloadWriter<Error>,
    ) {
        if let Some(blob) = self.kept_meanwhile(route, address, &facts).await {
            return writer.stored_already(blob);
        }
        let writer = Arc::new(writer);
        let mut filling = Filling {
            flow: self,
            route,
            address,
            facts,
            writer: Arc::clone(&writer),
            early: None,
            pipeline: None,
            etag: None,
            resumable: false,
        };
        match filling.run().await {
            Ok(verified) => {
                let blob = verified.blob();
                tracing::info!(route = %route.name, file = %address.file, bytes = blob.length, "file fetched");
                filling.keep(verified).await;
                if filling.facts.listed && address.file.kind() == FileKind::Wheel {
                    self.extract_behind(route, address, &blob);
                }
            }
            Err(failure) => {
                tracing::warn!(route = %route.name, file = %address.file, ?failure, "file could not be fetched");
                writer.fail(failure);
            }
        }
    }

    /// The file, if another fill ended between the look into the cache and the start of this one: it is open then.
    async fn kept_meanwhile(&self, route: &Route, address: &FileAddress, facts: &Facts) -> Option<Blob> {
        let sha256 = match facts.sha256 {
            Some(sha256) => sha256,
            None => self.with_link(route, address, facts.clone()).await.ok()?.sha256?,
        };
        self.shared.blobs.get_open(sha256, facts.expected.length)
    }
}

impl Filling<'_> {
    async fn run(&mut self) -> Result<VerifiedBlob, DownloadFailure<Error>> {
        let upstream = self.route.upstream().await.map_err(DownloadFailure::Upstream)?;
        self.prepare();
        let mut pause = Duration::from_millis(100);
        for attempt in 1.. {
            let request = self.request().await?;
            let outcome = match upstream.file(request).await {
                Ok(reply) => self.take(reply).await,
                Err(error) => Err(Stop::Broken(error)),
            };
            match outcome {
                Ok(last) => return self.finish(last).await,
                Err(Stop::Failed(failure)) => return Err(failure),
                Err(Stop::Broken(error)) => {
                    if matches!(error, UpstreamError::CannotResume) {
                        self.resumable = false;
                    }
                    let written = self.written().await?;
                    let begun = written > 0 || matches!(error, UpstreamError::CannotResume);
                    if !begun || attempt >= ATTEMPTS {
                        return Err(DownloadFailure::Upstream(self.explained(&error).await));
                    }
                    tracing::info!(file = %self.address.file, written, %error, "upstream broke off; going on");
                    tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
                    pause *= 2;
                }
            }
        }
        Err(DownloadFailure::Abandoned)
    }

    /// Makes a file of known length ready to be written while upstream is asked, if there is room for it as it is.
    fn prepare(&mut self) {
        let (blobs, hashes) = (self.flow.shared.blobs.clone(), self.facts.expected.hashes.clone());
        self.early = self
            .facts
            .expected
            .length
            .map(|length| tokio::task::spawn_blocking(move || blobs.try_begin(length, &hashes)));
    }

    /// Bytes written so far, with those on their way.
    async fn written(&mut self) -> Result<u64, DownloadFailure<Error>> {
        let Some(pipeline) = &mut self.pipeline else { return Ok(0) };
        let settled = pipeline.settle().await;
        settled.map_err(|error| self.refused(error))
    }

    async fn request(&mut self) -> Result<FileRequest, DownloadFailure<Error>> {
        let offset = self.written().await?;
        let resume = (self.resumable && offset > 0).then(|| Resume { offset, etag: self.etag.clone() });
        Ok(FileRequest {
            address: self.address.clone(),
            url: self.facts.url.clone(),
            resume,
            // Where no page could be read, the file may be one that is listed and not imported yet.
            listed: self.facts.listed || self.facts.doubt.is_some(),
        })
    }

    /// Takes one answer of upstream, from its head to its end; gives the last batch back, which is still to be written.
    async fn take(&mut self, mut reply: FileReply) -> Result<Vec<Bytes>, Stop> {
        if let (Some(expected), Some(found)) = (self.facts.expected.length, reply.length)
            && expected != found
        {
            tracing::error!(file = %self.address.file, expected, found, "upstream sends a file of another length than the index says");
            return Err(Stop::Failed(DownloadFailure::Upstream(self.integrity())));
        }
        self.facts.expected.length = self.facts.expected.length.or(reply.length);
        self.etag = reply.etag.take();
        self.resumable = reply.ranges;
        self.begin().await?;
        // After starting over, what is written already is passed over.
        let mut skip = self.written().await.map_err(Stop::Failed)?.saturating_sub(reply.offset);
        loop {
            let Some(pipeline) = &mut self.pipeline else { return Err(internal()) };
            let (mut batch, after) = gather(&mut reply.body, pipeline).await;
            pass_over(&mut batch, &mut skip);
            if matches!(after, After::End) {
                return Ok(batch);
            }
            let sent = pipeline.write(batch).await;
            sent.map_err(|error| Stop::Failed(self.refused(error)))?;
            if let After::Broken(error) = after {
                return Err(Stop::Broken(error));
            }
        }
    }

    /// Makes room and lets readers in, once.
    async fn begin(&mut self) -> Result<(), Stop> {
        if self.pipeline.is_some() {
            return Ok(());
        }
        let early = match self.early.take() {
            Some(early) => early.await.ok().flatten(),
            None => None,
        };
        let (blobs, expected) = (self.flow.shared.blobs.clone(), self.facts.expected.clone());
        let partial = match early {
            Some(partial) => partial,
            None => {
                blocking(move || blobs.begin(expected.length, &expected.hashes)).await.map_err(|_| internal())??
            }
        };
        let readers = Arc::clone(&self.writer);
        self.pipeline = Some(WritePipeline::begin(partial, self.facts.expected.length, readers));
        Ok(())
    }

    /// Writes the last batch and verifies the whole.
    async fn finish(&mut self, last: Vec<Bytes>) -> Result<VerifiedBlob, DownloadFailure<Error>> {
        let Some(pipeline) = self.pipeline.take() else { return Err(DownloadFailure::Abandoned) };
        let finished = pipeline.finish(last, self.facts.expected.clone()).await;
        finished.map_err(|error| self.refused(error))
    }

    /// Syncs a verified file and gives it its name. Readers have all of it already, so whatever happens here is only
    /// about the next ones; who asks in the meantime joins this fill. A file that nothing vouches for is not kept.
    async fn keep(&self, verified: VerifiedBlob) {
        if !verified.proven {
            return self.writer.verified(verified.complete());
        }
        let sha256 = verified.sha256;
        let link = self.facts.sha256.is_none().then(|| link_key(self.route, self.address, &self.facts)).flatten();
        // Helper threads are for other work too, however slow the disk is.
        let _place = self.flow.shared.keeping.acquire().await;
        let blobs = self.flow.shared.blobs.clone();
        let kept = blocking(move || {
            verified.commit()?;
            link.map_or(Ok(()), |key| blobs.link(key, sha256))
        });
        let kept = kept.await.unwrap_or_else(|error| Err(std::io::Error::other(error.to_string())));
        if let Err(error) = kept {
            self.flow.shared.not_kept.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(file = %self.address.file, %error, "a fetched file could not be kept");
        }
    }

    /// What it means that bytes were not taken.
    fn refused(&self, error: WriteError) -> DownloadFailure<Error> {
        match error {
            WriteError::Storage(error) => passed_through(&error),
            WriteError::Mismatch(mismatch) => {
                tracing::error!(file = %self.address.file, %mismatch, "upstream sent other bytes than the index says; they were discarded");
                DownloadFailure::Upstream(self.integrity())
            }
            WriteError::Interrupted => DownloadFailure::Upstream(Error::Internal),
        }
    }

    fn integrity(&self) -> Error {
        Error::Integrity { file: self.address.file.clone() }
    }

    /// What an error of upstream means. A 404 for a file that a page lists is only believed when the page, asked again,
    /// lists it no longer.
    async fn explained(&self, error: &UpstreamError) -> Error {
        let gone = || Error::NoSuchFile { project: self.address.project.clone(), file: self.address.file.clone() };
        if *error == UpstreamError::NotFound && self.facts.listed {
            let again = self.flow.page_younger_than(self.route, &self.address.project, Duration::from_secs(1)).await;
            return match again {
                Ok(answer) if answer.record.content.file(&self.address.file).is_none() => gone(),
                Ok(_) => unavailable(Cause::Upstream),
                Err(error) => error,
            };
        }
        explain(error, gone, &self.route.label)
    }
}

fn internal() -> Stop {
    Stop::Failed(DownloadFailure::Upstream(Error::Internal))
}

fn passed_through(error: &StorageError) -> DownloadFailure<Error> {
    tracing::warn!(%error, "a file cannot be kept and is passed through");
    DownloadFailure::Storage
}

/// The next piece, what arrives while the batch before is still being written, and what else is there then. So whoever
/// is slower decides how large a batch is: nothing waits while there is nothing to do, and few batches are made otherwise.
async fn gather(body: &mut FileBody, pipeline: &mut WritePipeline<Error>) -> (Vec<Bytes>, After) {
    let (mut batch, mut size, mut is_idle) = (Vec::new(), 0, false);
    loop {
        let next = if batch.is_empty() {
            body.next().await
        } else if is_idle {
            let Some(next) = body.next().now_or_never() else { return (batch, After::More) };
            next
        } else {
            tokio::select! {
                biased;
                next = body.next() => next,
                () = pipeline.idle() => {
                    is_idle = true;
                    continue;
                }
            }
        };
        match next {
            Some(Ok(piece)) => {
                size += piece.len();
                batch.push(piece);
            }
            Some(Err(error)) => return (batch, After::Broken(error)),
            None => return (batch, After::End),
        }
        if size >= BATCH {
            return (batch, After::More);
        }
    }
}

/// Leaves out the first `skip` bytes, as far as they are in this batch.
fn pass_over(batch: &mut Vec<Bytes>, skip: &mut u64) {
    for piece in &mut *batch {
        let over = piece.len().min(usize::try_from(*skip).unwrap_or(usize::MAX));
        *skip -= over as u64;
        let _ = piece.split_to(over);
    }
    batch.retain(|piece| !piece.is_empty());
}
