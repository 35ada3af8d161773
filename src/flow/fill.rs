//! The fill of one file: fetch, write, verify, commit, while readers follow.
//!
//! When upstream breaks off in the middle, the fill goes on where it stopped, or starts over and passes over what it
//! has; readers notice nothing. What they got is part of what is verified at the end, because the hash runs over the
//! bytes as they were written.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;

use super::file::{Facts, link_key};
use super::{Flow, Route, blocking, explain, unavailable};
use crate::cache::{FillFailure, FillWriter, Head, Partial, StorageError, Whole};
use crate::error::{Cause, Error};
use crate::pypi::{FileAddress, FileKind};
use crate::upstream::{FileReply, FileRequest, Resume, UpstreamError};

/// How often a fill asks upstream in all.
const ATTEMPTS: u32 = 4;
/// What is written to disk in one go at most, in bytes.
const BATCH: usize = 1 << 20;

/// Why an attempt ended early.
enum Stop {
    /// Another attempt may help.
    Broken(UpstreamError),
    /// Nothing will help.
    Failed(FillFailure),
}

impl From<StorageError> for Stop {
    fn from(error: StorageError) -> Self {
        tracing::warn!(%error, "a file cannot be kept and is passed through");
        Self::Failed(FillFailure::Storage)
    }
}

/// A fill under way.
struct Filling<'a> {
    flow: &'a Flow,
    route: &'a Arc<Route>,
    address: &'a FileAddress,
    facts: Facts,
    writer: &'a FillWriter,
    partial: Option<Partial>,
    etag: Option<String>,
    resumable: bool,
}

impl Flow {
    /// Fills a file and says so to `writer`.
    pub(super) async fn run_fill(
        &self,
        route: &Arc<Route>,
        address: &FileAddress,
        facts: Facts,
        writer: FillWriter,
    ) {
        let mut filling = Filling {
            flow: self,
            route,
            address,
            facts,
            writer: &writer,
            partial: None,
            etag: None,
            resumable: false,
        };
        match filling.run().await {
            Ok(whole) => {
                tracing::info!(route = %route.name, file = %address.file, bytes = whole.length, "file fetched");
                if filling.facts.listed && address.file.kind() == FileKind::Wheel {
                    self.extract_behind(route, address, whole);
                }
            }
            Err(failure) => {
                tracing::warn!(route = %route.name, file = %address.file, ?failure, "file could not be fetched");
                writer.fail(failure);
            }
        }
    }
}

impl Filling<'_> {
    async fn run(&mut self) -> Result<Whole, FillFailure> {
        let upstream = self.route.upstream().await.map_err(FillFailure::Upstream)?;
        let mut pause = Duration::from_millis(100);
        for attempt in 1.. {
            let outcome = match upstream.file(self.request()).await {
                Ok(reply) => self.take(reply).await,
                Err(error) => Err(Stop::Broken(error)),
            };
            match outcome {
                Ok(()) => break,
                Err(Stop::Failed(failure)) => return Err(failure),
                Err(Stop::Broken(error)) => {
                    if matches!(error, UpstreamError::CannotResume) {
                        self.resumable = false;
                    }
                    let begun = self.written() > 0 || matches!(error, UpstreamError::CannotResume);
                    if !begun || attempt >= ATTEMPTS {
                        return Err(FillFailure::Upstream(self.explained(&error).await));
                    }
                    tracing::info!(file = %self.address.file, written = self.written(), %error, "upstream broke off; going on");
                    tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
                    pause *= 2;
                }
            }
        }
        self.finish().await
    }

    fn written(&self) -> u64 {
        self.partial.as_ref().map_or(0, Partial::written)
    }

    fn request(&self) -> FileRequest {
        let resume = (self.resumable && self.written() > 0)
            .then(|| Resume { offset: self.written(), etag: self.etag.clone() });
        FileRequest {
            address: self.address.clone(),
            url: self.facts.url.clone(),
            resume,
            // Where no page could be read, the file may be one that is listed and not imported yet.
            listed: self.facts.listed || self.facts.doubt.is_some(),
        }
    }

    /// Takes one answer of upstream, from its head to its end.
    async fn take(&mut self, mut reply: FileReply) -> Result<(), Stop> {
        if let (Some(expected), Some(found)) = (self.facts.expected.length, reply.length)
            && expected != found
        {
            tracing::error!(file = %self.address.file, expected, found, "upstream sends a file of another length than the index says");
            return Err(Stop::Failed(FillFailure::Upstream(self.integrity())));
        }
        self.facts.expected.length = self.facts.expected.length.or(reply.length);
        self.etag = reply.etag.take();
        self.resumable = reply.ranges;
        self.begin().await?;
        // After starting over, what is written already is passed over.
        let mut skip = self.written().saturating_sub(reply.offset);
        while let Some(piece) = reply.body.next().await {
            let mut batch = vec![piece.map_err(Stop::Broken)?];
            let mut size = batch[0].len();
            let mut broken = None;
            // What has arrived meanwhile goes along; nothing is waited for.
            while size < BATCH {
                match reply.body.next().now_or_never() {
                    Some(Some(Ok(more))) => {
                        size += more.len();
                        batch.push(more);
                    }
                    Some(Some(Err(error))) => {
                        broken = Some(error);
                        break;
                    }
                    Some(None) | None => break,
                }
            }
            self.write(batch, &mut skip).await?;
            if let Some(error) = broken {
                return Err(Stop::Broken(error));
            }
        }
        Ok(())
    }

    /// Makes room and lets readers in, once.
    async fn begin(&mut self) -> Result<(), Stop> {
        if self.partial.is_some() {
            return Ok(());
        }
        let (blobs, expected) = (self.flow.shared.blobs.clone(), self.facts.expected.clone());
        let partial =
            blocking(move || blobs.begin(expected.length, &expected.hashes)).await.map_err(internal)??;
        self.writer.begin(Head { file: partial.readers(), length: self.facts.expected.length });
        self.partial = Some(partial);
        Ok(())
    }

    async fn write(&mut self, batch: Vec<Bytes>, skip: &mut u64) -> Result<(), Stop> {
        let Some(mut partial) = self.partial.take() else { return Err(internal(Error::Internal)) };
        let mut passed_over = *skip;
        let (partial, passed_over, outcome) = blocking(move || {
            let outcome = batch.into_iter().try_for_each(|mut piece| {
                let over = piece.len().min(usize::try_from(passed_over).unwrap_or(usize::MAX));
                passed_over -= over as u64;
                let _ = piece.split_to(over);
                partial.write(&piece)
            });
            (partial, passed_over, outcome)
        })
        .await
        .map_err(internal)?;
        let written = partial.written();
        self.partial = Some(partial);
        *skip = passed_over;
        outcome?;
        // Before readers may have it: they were promised the length, and would take so many bytes for the whole file.
        if self.facts.expected.length.is_some_and(|length| written > length) {
            return Err(Stop::Failed(FillFailure::Upstream(self.integrity())));
        }
        self.writer.wrote(written);
        Ok(())
    }

    /// Verifies, commits, lets readers have the last byte.
    async fn finish(&mut self) -> Result<Whole, FillFailure> {
        let Some(partial) = self.partial.take() else { return Err(FillFailure::Abandoned) };
        let expected = self.facts.expected.clone();
        let verified = blocking(move || partial.verify(&expected)).await.map_err(FillFailure::Upstream)?;
        let verified = verified.map_err(|mismatch| {
            tracing::error!(file = %self.address.file, %mismatch, "upstream sent other bytes than the index says; they were discarded");
            FillFailure::Upstream(self.integrity())
        })?;
        let whole = Whole { length: verified.blob().length, sha256: verified.sha256 };
        if !verified.proven {
            self.writer.complete(whole);
            return Ok(whole);
        }
        let link =
            self.facts.sha256.is_none().then(|| link_key(self.route, self.address, &self.facts)).flatten();
        let blobs = self.flow.shared.blobs.clone();
        let kept = blocking(move || {
            verified.commit()?;
            link.map_or(Ok(()), |key| blobs.link(key, whole.sha256))
        });
        if let Ok(Err(error)) = kept.await {
            tracing::warn!(file = %self.address.file, %error, "a fetched file could not be kept");
        }
        self.writer.complete(whole);
        Ok(whole)
    }

    fn integrity(&self) -> Error {
        Error::Integrity { file: self.address.file.clone() }
    }

    /// What an error of upstream means. A 404 for a file that a page lists is only believed when the page, asked again,
    /// lists it no longer.
    async fn explained(&self, error: &UpstreamError) -> Error {
        let gone =
            || Error::NoSuchFile { project: self.address.project.clone(), file: self.address.file.clone() };
        if *error == UpstreamError::NotFound && self.facts.listed {
            let again =
                self.flow.page_younger_than(self.route, &self.address.project, Duration::from_secs(1)).await;
            return match again {
                Ok(answer) if answer.record.content.file(&self.address.file).is_none() => gone(),
                Ok(_) => unavailable(Cause::Upstream),
                Err(error) => error,
            };
        }
        explain(error, gone, &self.route.label)
    }
}

fn internal(error: Error) -> Stop {
    Stop::Failed(FillFailure::Upstream(error))
}
