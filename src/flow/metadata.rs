//! Core metadata of a wheel (PEP 658), which CodeArtifact does not have: recorded before, or taken from the stored
//! wheel, or by fetching the wheel first.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use super::file::Facts;
use super::{Flow, PATIENCE, Route, Served, blocking, outcome, unavailable};
use crate::cache::{AtHand, Blob, DownloadFailure, Sidecar, Sidecars};
use crate::error::{Cause, Error};
use wheelport_index::{FileAddress, FileKind, FileName, Sha256, wheel};

/// How long the extraction waits for the wheel itself; the requests that wait for it give up earlier.
const LONGEST_FILL: Duration = Duration::from_mins(30);

/// The core metadata of a wheel.
pub struct MetadataAnswer {
    /// The metadata, byte for byte as in the wheel.
    pub bytes: Bytes,
    /// Its SHA-256.
    pub sha256: Sha256,
    /// How it came about.
    pub served: Served,
}

impl Flow {
    /// The core metadata of the wheel at `address`. Who asks for it asks for what the wheel needs next, so that is begun
    /// here; metadata that is still in memory was given out lately, and what it needs was seen to then.
    pub async fn core_metadata(&self, route: &Arc<Route>, address: &FileAddress) -> Result<MetadataAnswer, Error> {
        if let Some(held) = self.core_metadata_at_hand(route, address) {
            let (sha256, bytes) = (held.sha256, held.bytes.clone());
            return Ok(MetadataAnswer { bytes, sha256, served: Served::Hit });
        }
        let answer = self.core_metadata_looked_up(route, address).await?;
        self.prefetch_needed(route, &answer.bytes);
        Ok(answer)
    }

    async fn core_metadata_looked_up(
        &self,
        route: &Arc<Route>,
        address: &FileAddress,
    ) -> Result<MetadataAnswer, Error> {
        let none = || Error::NoCoreMetadata { file: address.file.clone() };
        // Without a name to compare with, metadata could not be trusted; it is not announced then either.
        if address.file.kind() != FileKind::Wheel || address.file.distribution().is_none() {
            return Err(none());
        }
        let facts = self.facts(route, address).await?;
        if !facts.listed {
            let gone = || Error::NoSuchFile { project: address.project.clone(), file: address.file.clone() };
            return Err(facts.doubt.unwrap_or_else(gone));
        }
        let blob = match self.known(&facts).await? {
            Known::Sidecar(Sidecar::Present { sha256, bytes }) => {
                return Ok(MetadataAnswer { bytes, sha256, served: Served::Hit });
            }
            Known::Sidecar(Sidecar::Absent) => return Err(none()),
            Known::Wheel(blob) => Some(blob),
            Known::Nothing => None,
        };
        let too_large = facts.expected.length.is_some_and(|length| length > self.shared.disk.max_size());
        if facts.expected.hashes.strongest().is_none() || too_large {
            return Err(none());
        }
        let (wheel, served) = match blob {
            Some(blob) => (blob, Served::Hit),
            None => self.wheel(route, address, facts).await?,
        };
        let digest = wheel.sha256;
        let sidecar = outcome(self.extract(route, address, wheel), PATIENCE).await?;
        // It may not be written down yet, and counts as known from now on.
        self.shared.sidecars.remember(digest, &sidecar);
        match sidecar {
            Sidecar::Present { sha256, bytes } => Ok(MetadataAnswer { bytes, sha256, served }),
            Sidecar::Absent => Err(none()),
        }
    }

    /// Core metadata in memory, under a page in memory that is fresh: nothing has to be waited for.
    pub fn core_metadata_at_hand(&self, route: &Route, address: &FileAddress) -> Option<Arc<AtHand>> {
        self.on_fresh_page(route, address, |page, position| self.shared.sidecars.at_hand_of(page, position))
    }

    /// What the cache has for an answer about this wheel's metadata, found out in one go.
    async fn known(&self, facts: &Facts) -> Result<Known, Error> {
        let Some(wheel) = facts.sha256 else { return Ok(Known::Nothing) };
        let (sidecars, blobs) = (self.shared.sidecars.clone(), self.shared.blobs.clone());
        let length = facts.expected.length;
        blocking(move || match sidecars.get(wheel) {
            Some(sidecar) => Known::Sidecar(sidecar),
            None => blobs.get(wheel, length).map_or(Known::Nothing, Known::Wheel),
        })
        .await
    }

    /// Fetches the wheel.
    async fn wheel(&self, route: &Arc<Route>, address: &FileAddress, facts: Facts) -> Result<(Blob, Served), Error> {
        let (mut fill, led) = self.fill(route, address, facts);
        let filled = tokio::time::timeout(PATIENCE, fill.verified()).await;
        match filled.map_err(|_| unavailable(Cause::Timeout))? {
            // It need not be kept yet to be looked into.
            Ok(_) => Ok((fill.blob().ok_or(Error::Internal)?, Served::led(led))),
            Err(DownloadFailure::Upstream(error)) => Err(error),
            Err(DownloadFailure::Storage) => Err(unavailable(Cause::Storage)),
            Err(DownloadFailure::Abandoned) => Err(Error::Internal),
        }
    }

    /// Takes the metadata out of a wheel that has just been fetched, before anybody asks for it.
    pub(super) fn extract_behind(&self, route: &Arc<Route>, address: &FileAddress, blob: &Blob) {
        let (flow, route, address) = (self.clone(), Arc::clone(route), address.clone());
        let (sha256, length) = (blob.sha256, blob.length);
        self.shared.tasks.spawn("extract core metadata", async move {
            let (blobs, sidecars) = (flow.shared.blobs.clone(), flow.shared.sidecars.clone());
            let found = blocking(move || {
                let unknown = sidecars.digest(sha256).is_none();
                unknown.then(|| blobs.get(sha256, Some(length))).flatten()
            });
            if let Ok(Some(blob)) = found.await {
                let _ = outcome(flow.extract(&route, &address, blob), LONGEST_FILL).await;
            }
        });
    }

    fn extract(&self, route: &Arc<Route>, address: &FileAddress, blob: Blob) -> super::Waiter<Sidecar> {
        let (flow, route, address) = (self.clone(), Arc::clone(route), address.clone());
        let (waiter, _) =
            self.shared.extractions.join(blob.sha256, &self.shared.tasks, "extract core metadata", || {
                let (sender, waiter) = watch::channel(None);
                (waiter, async move {
                    let (wheel, file) = (blob.sha256, address.file.clone());
                    let extracted = blocking(move || look_into(&blob, &file)).await;
                    if let Ok(sidecar @ Sidecar::Present { .. }) = &extracted {
                        // Whoever waits need not wait until it is written down.
                        sender.send_replace(Some(Ok(sidecar.clone())));
                    }
                    if let Ok(sidecar) = extracted.clone() {
                        let sidecars = flow.shared.sidecars.clone();
                        let _ = blocking(move || keep(&sidecars, wheel, &sidecar)).await;
                    }
                    if matches!(extracted, Ok(Sidecar::Absent)) {
                        flow.announce_again(&route, &address.project).await;
                    }
                    sender.send_replace(Some(extracted));
                })
            });
        waiter
    }
}

/// Takes the metadata out of a wheel. Blocking.
fn look_into(blob: &Blob, file: &FileName) -> Sidecar {
    match wheel::core_metadata(&*blob.file, file) {
        Ok(bytes) => Sidecar::present(bytes.into()),
        Err(error) => {
            tracing::warn!(%file, %error, "a wheel has no core metadata that could be served");
            Sidecar::Absent
        }
    }
}

/// Records what was found; what cannot be recorded is served all the same. Blocking.
fn keep(sidecars: &Sidecars, wheel: Sha256, sidecar: &Sidecar) {
    if let Err(error) = sidecars.put(wheel, sidecar) {
        tracing::warn!(%error, "core metadata could not be kept");
    }
}

/// What the cache knows that bears on a wheel's metadata.
enum Known {
    Sidecar(Sidecar),
    Wheel(Blob),
    Nothing,
}
