//! Streaming a file that the cache cannot take: straight from upstream to one client, verified as it passes.
//!
//! The last chunk of the file is withheld until the digest of everything agrees, so the whole of a wrong file never
//! ends cleanly. A range that ends before the end of the file has been sent by then and is not covered by that.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use super::error::Error;
use super::index_entry::{IndexEntries, IndexEntry};
use super::route::Route;
use crate::cache::{Expected, HashedPrefix};
use crate::upstream::{FileBody, FileRequest};
use wheelport_index::FileAddress;
use wheelport_index::{Hasher, Hashes, Sha256};
use wheelport_runtime::sabotaged;

/// A file on its way from upstream to one client.
pub struct Bypass {
    body: FileBody,
    expected: Expected,
    hasher: Option<Hasher>,
    /// Bytes before this position are hashed already.
    hashed_from: u64,
    received: u64,
    /// The chunk that waits for the next one, or for the verification.
    withheld: Option<Bytes>,
    start: u64,
    end: Option<u64>,
    source: BypassSource,
}

/// Where the file comes from.
struct BypassSource {
    entries: IndexEntries,
    route: Arc<Route>,
    address: FileAddress,
    began: Instant,
}

impl BypassSource {
    /// The bytes are not those of the page, which is asked for again before the reader hears of it.
    async fn mismatch(&self) -> Error {
        self.entries.ask_page_again(&self.route, &self.address, self.began).await;
        Error::Integrity { file: self.address.file.clone() }
    }
}

impl Bypass {
    /// Fetches a file for one client alone, from `start` on.
    pub(super) async fn begin(
        entries: &IndexEntries,
        route: &Arc<Route>,
        address: &FileAddress,
        entry: &IndexEntry,
        start: u64,
    ) -> Result<Self, Error> {
        let request = FileRequest {
            address: address.clone(),
            url: entry.url.clone(),
            resume: None,
            listed: entry.is_listed,
            brief: entry.is_brief,
        };
        let (upstream, began) = (route.upstream().await?, Instant::now());
        let reply = match upstream.file(request).await {
            Ok(reply) => reply,
            Err(error) => return Err(entries.file_error(route, address, entry, &error).await),
        };
        let length = entry.expected.length.or(reply.length);
        Ok(Self {
            body: reply.body,
            hasher: Some(Hasher::new(entry.expected.hashes.besides_sha256())),
            expected: Expected { length, hashes: entry.expected.hashes.clone() },
            hashed_from: 0,
            received: 0,
            withheld: None,
            start,
            end: None,
            source: BypassSource {
                entries: entries.clone(),
                route: Arc::clone(route),
                address: address.clone(),
                began,
            },
        })
    }

    /// The length of the file in bytes, if known.
    pub(super) fn length(&self) -> Option<u64> {
        self.expected.length
    }

    /// Demands the bytes of a file whose beginning came from elsewhere, whatever the index says by now. Where that
    /// beginning was not checked, its hash is continued.
    pub(super) fn demand(&mut self, sha256: Sha256, prefix: Option<HashedPrefix>) {
        let mut hashes = Hashes::default();
        hashes.insert("sha256", &sha256.to_string());
        self.expected.hashes = hashes;
        self.hashed_from = prefix.as_ref().map_or(0, |prefix| prefix.length);
        self.hasher = Some(prefix.map_or_else(|| Hasher::new(None), |prefix| prefix.hasher()));
    }

    pub(super) fn restrict(&mut self, start: u64, end: Option<u64>) {
        (self.start, self.end) = (start, end);
    }

    /// The next chunk of the requested part.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if self.end.is_some_and(|end| self.released() >= end) {
                return Ok(None);
            }
            let Some(chunk) = self.next_of_file().await? else { return Ok(None) };
            let begins = self.released() - chunk.len() as u64;
            let from = clamp(self.start, begins, chunk.len());
            let to = self.end.map_or(chunk.len(), |end| clamp(end, begins, chunk.len()));
            if from < to {
                return Ok(Some(chunk.slice(from..to)));
            }
        }
    }

    /// Bytes that `next_of_file` has returned.
    fn released(&self) -> u64 {
        self.received - self.withheld.as_ref().map_or(0, |withheld| withheld.len() as u64)
    }

    /// The next chunk of the whole file; the last one only after verification.
    async fn next_of_file(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            match self.body.next().await {
                Some(Ok(chunk)) => {
                    if let Some(hasher) = &mut self.hasher {
                        hasher.update(&chunk[clamp(self.hashed_from, self.received, chunk.len())..]);
                    }
                    self.received += chunk.len() as u64;
                    // The client was promised the length, and would take that many bytes for the whole file.
                    if self.expected.length.is_some_and(|length| self.received > length) {
                        return Err(self.source.mismatch().await);
                    }
                    if let Some(ready) = self.withheld.replace(chunk).filter(|ready| !ready.is_empty()) {
                        return Ok(Some(ready));
                    }
                }
                Some(Err(error)) => return Err(Error::from_upstream(&error)),
                None => {
                    if let Some(hasher) = self.hasher.take() {
                        let right_length = self.expected.length.is_none_or(|length| length == self.received);
                        if (!right_length || hasher.finish().agrees_with(&self.expected.hashes) == Some(false))
                            && !sabotaged("bypass-digest")
                        {
                            return Err(self.source.mismatch().await);
                        }
                    }
                    return Ok(self.withheld.take().filter(|withheld| !withheld.is_empty()));
                }
            }
        }
    }
}

fn clamp(position: u64, begins: u64, length: usize) -> usize {
    usize::try_from(position.saturating_sub(begins)).unwrap_or(usize::MAX).min(length)
}
