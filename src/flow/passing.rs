//! Passing a file through when the cache cannot take it: straight from upstream to one client, verified all the same.
//!
//! The last piece is held back until the digest of everything agrees, so also here nobody gets a wrong file that ends
//! cleanly.

use std::sync::Arc;

use bytes::Bytes;

use super::file::Facts;
use super::{FileStream, Flow, OpenFile, Route, explain};
use crate::cache::Expected;
use crate::error::Error;
use crate::upstream::{FileBody, FileRequest};
use wheelport_index::{FileAddress, Hasher};

/// A file on its way from upstream to one client.
pub(super) struct Passing {
    body: FileBody,
    expected: Expected,
    hasher: Option<Hasher>,
    read: u64,
    /// The piece that waits for the next one, or for the verification.
    held: Option<Bytes>,
    start: u64,
    end: Option<u64>,
    error: Error,
}

impl Flow {
    /// Fetches a file for one client alone, from `start` on.
    pub(super) async fn pass_through(
        &self,
        route: &Arc<Route>,
        address: &FileAddress,
        facts: &Facts,
        start: u64,
    ) -> Result<OpenFile, Error> {
        let gone = || Error::NoSuchFile { project: address.project.clone(), file: address.file.clone() };
        let request =
            FileRequest { address: address.clone(), url: facts.url.clone(), resume: None, listed: facts.listed };
        let reply = route.upstream().await?.file(request).await.map_err(|error| explain(&error, gone, &route.label))?;
        let length = facts.expected.length.or(reply.length);
        let algorithm = facts.expected.hashes.strongest().map(|(algorithm, _)| algorithm);
        let passing = Passing {
            body: reply.body,
            expected: Expected { length, hashes: facts.expected.hashes.clone() },
            hasher: Some(Hasher::new(algorithm)),
            read: 0,
            held: None,
            start,
            end: None,
            error: Error::Integrity { file: address.file.clone() },
        };
        let stream = Box::new(FileStream::passing(passing));
        Ok(OpenFile::Passing { stream, length, sha256: facts.sha256 })
    }
}

impl Passing {
    pub(super) fn restrict(&mut self, start: u64, end: Option<u64>) {
        (self.start, self.end) = (start, end);
    }

    /// The next piece of the part asked for.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if self.end.is_some_and(|end| self.read_out() >= end) {
                return Ok(None);
            }
            let Some(piece) = self.next_whole().await? else { return Ok(None) };
            let begins = self.read_out() - piece.len() as u64;
            let from = clamp(self.start, begins, piece.len());
            let to = self.end.map_or(piece.len(), |end| clamp(end, begins, piece.len()));
            if from < to {
                return Ok(Some(piece.slice(from..to)));
            }
        }
    }

    /// Bytes that left `next_whole`.
    fn read_out(&self) -> u64 {
        self.read - self.held.as_ref().map_or(0, |held| held.len() as u64)
    }

    /// The next piece of the whole file; the last one only after verification.
    async fn next_whole(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            match self.body.next().await {
                Some(Ok(piece)) => {
                    if let Some(hasher) = &mut self.hasher {
                        hasher.update(&piece);
                    }
                    self.read += piece.len() as u64;
                    // The client was promised the length, and would take so many bytes for the whole file.
                    if self.expected.length.is_some_and(|length| self.read > length) {
                        return Err(self.error.clone());
                    }
                    if let Some(ready) = self.held.replace(piece).filter(|ready| !ready.is_empty()) {
                        return Ok(Some(ready));
                    }
                }
                Some(Err(error)) => {
                    return Err(explain(&error, || Error::Internal, ""));
                }
                None => {
                    if let Some(hasher) = self.hasher.take() {
                        let right_length = self.expected.length.is_none_or(|length| length == self.read);
                        if !right_length || hasher.finish().agrees_with(&self.expected.hashes) == Some(false) {
                            return Err(self.error.clone());
                        }
                    }
                    return Ok(self.held.take().filter(|held| !held.is_empty()));
                }
            }
        }
    }
}

fn clamp(position: u64, begins: u64, length: usize) -> usize {
    usize::try_from(position.saturating_sub(begins)).unwrap_or(usize::MAX).min(length)
}
