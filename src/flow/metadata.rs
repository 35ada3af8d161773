//! Core metadata of a wheel (PEP 658), which CodeArtifact does not have: recorded before, or taken from the stored
//! wheel, or read from the wheel's end at upstream, or by fetching the wheel first.
//!
//! pip and uv abort when advertised metadata cannot be had, so it does not depend on storage: where that fails, the
//! metadata is taken from the wheel as it comes from upstream.

use std::sync::Arc;

use super::downloader::{Downloader, FileDownload};
use super::extract::MetadataExtractor;
use super::index_entry::{IndexEntries, IndexEntry};
use super::metadata_by_range::{RangeRead, RangeReader};
use super::prefetch::Prefetcher;
use super::shown::{PageView, ShownPage};
use super::{Cause, Error, Lookup, PageService, REQUEST_TIMEOUT, Route, Served, role_served, unavailable};
use crate::cache::{Blob, Blobs, CachedMetadata, CoreMetadataRecord, DownloadFailure, MetadataStore};
use wheelport_index::{ClientAgent, FileAddress, FileKind, Sha256};
use wheelport_runtime::{Role, Waits, blocking, sabotaged};

/// The core metadata of a wheel and how the response came about.
pub struct ServedMetadata {
    pub metadata: CachedMetadata,
    pub served: Served,
}

/// The core metadata of all routes. Cheap to clone.
#[derive(Clone)]
pub struct MetadataService {
    pub(super) pages: PageService,
    pub(super) entries: IndexEntries,
    pub(super) downloader: Downloader,
    pub(super) blobs: Blobs,
    pub(super) store: MetadataStore,
    pub(super) extractor: MetadataExtractor,
    pub(super) by_range: RangeReader,
    pub(super) prefetcher: Prefetcher,
    /// The largest wheel that the cache can hold, in bytes.
    pub(super) largest_wheel: u64,
}

/// What the cache knows that bears on a wheel's metadata.
enum Held {
    Record(CoreMetadataRecord),
    Wheel(Blob),
    Nothing,
}

impl MetadataService {
    /// The core metadata of the wheel at `address`.
    ///
    /// A client that reads it requests the pages of the wheel's dependencies next, so they are prefetched. Metadata in
    /// memory was served recently, and its dependencies were prefetched then.
    /// `user_agent` is what the client says of itself.
    pub fn get(&self, route: &Arc<Route>, address: &FileAddress, user_agent: Option<&str>) -> Lookup<ServedMetadata> {
        let page = self.pages.get(route, &address.project);
        if let Lookup::Hit(view) = &page
            && let Some(CoreMetadataRecord::Present(metadata)) = self.in_memory(route, &view.shown, address)
            && !self.prefetcher.ahead().is_guess(&route.key(&address.project))
        {
            return Lookup::Hit(ServedMetadata { metadata, served: Served::Hit });
        }
        let (service, route, address) = (self.clone(), Arc::clone(route), address.clone());
        let agent = user_agent.and_then(ClientAgent::parse);
        Lookup::miss(async move {
            let found = service.get_missed(&route, &address, page, agent.as_ref()).await?;
            service.prefetcher.prefetch_dependencies(&route, &found.metadata.bytes, agent.as_ref());
            Ok(found)
        })
    }

    fn in_memory(&self, route: &Route, page: &ShownPage, address: &FileAddress) -> Option<CoreMetadataRecord> {
        let (wheel, _) = page.proven(address)?;
        self.store.in_memory(wheel).or_else(|| self.store.unproven_in_memory(&route.repository, wheel))
    }

    async fn get_missed(
        &self,
        route: &Arc<Route>,
        address: &FileAddress,
        page: Lookup<PageView>,
        agent: Option<&ClientAgent>,
    ) -> Result<ServedMetadata, Error> {
        let none = || Error::NoCoreMetadata { file: address.file.clone() };
        // Without a name to compare with, metadata could not be trusted; it is not advertised then either.
        if address.file.kind() != FileKind::Wheel || address.file.distribution().is_none() {
            return Err(none());
        }
        let entry = self.entries.find(route, address, page.wait().await).await?;
        if !entry.is_listed {
            let gone = || Error::NoSuchFile { project: address.project.clone(), file: address.file.clone() };
            return Err(entry.index_error.unwrap_or_else(gone));
        }
        let held = if entry.is_unjudged {
            Held::Nothing
        } else {
            self.held(route, entry.metadata_key(route, address), &entry).await?
        };
        if entry.is_refused() && !self.is_stored(&entry).await? {
            return Err(Error::ChangedFile { file: address.file.clone() });
        }
        let stored = match held {
            Held::Record(CoreMetadataRecord::Present(metadata)) => {
                self.was_read(route, address, &entry, agent, &metadata);
                return Ok(ServedMetadata { metadata, served: Served::Hit });
            }
            Held::Record(CoreMetadataRecord::Absent) => return Err(none()),
            Held::Wheel(blob) => Some(blob),
            Held::Nothing => None,
        };
        let too_large = entry.expected.length.is_some_and(|length| length > self.largest_wheel);
        if entry.expected.hashes.strongest().is_none() || too_large {
            return Err(none());
        }
        let shared = match (&stored, entry.sha256) {
            (None, Some(wheel)) => Waits::note("store", self.extractor.shared(route, address, wheel)).await,
            _ => None,
        };
        let (record, served) = match shared {
            Some(record) => (record, Served::Miss),
            None => self.extract(route, address, entry.clone(), stored).await?,
        };
        match record {
            CoreMetadataRecord::Present(metadata) => {
                self.was_read(route, address, &entry, agent, &metadata);
                Ok(ServedMetadata { metadata, served })
            }
            CoreMetadataRecord::Absent => Err(none()),
        }
    }

    fn was_read(
        &self,
        route: &Arc<Route>,
        address: &FileAddress,
        entry: &IndexEntry,
        agent: Option<&ClientAgent>,
        metadata: &CachedMetadata,
    ) {
        let (ahead, key) = (self.prefetcher.ahead(), route.key(&address.project));
        ahead.metadata_read(route, &key, address, entry, agent, metadata.is_proven);
    }

    /// What the wheel itself says: the stored one, or the one that is fetched into the cache, or past it.
    async fn extract(
        &self,
        route: &Arc<Route>,
        address: &FileAddress,
        entry: IndexEntry,
        stored: Option<Blob>,
    ) -> Result<(CoreMetadataRecord, Served), Error> {
        let wheel = if let Some(blob) = stored {
            Some((blob, Served::Hit))
        } else {
            let begun = match self.by_range.read(route, address, &entry).await {
                (RangeRead::Metadata(record), role) => return Ok((record, role_served(role))),
                (RangeRead::Begun(download), role) => Some((download.join(), role)),
                (RangeRead::Nothing, _) => None,
            };
            self.fetch_wheel(route, address, entry.clone(), begun).await?
        };
        if let Some((wheel, served)) = wheel {
            let extracting = self.extractor.extract(route, address, wheel).within(REQUEST_TIMEOUT);
            match Waits::note("extraction", extracting).await? {
                Err(Error::Unavailable { cause: Cause::Storage, .. }) => {}
                extracted => return Ok((extracted?, served)),
            }
        }
        if entry.is_unjudged {
            return Err(unavailable(Cause::Storage));
        }
        let entry = IndexEntry { is_brief: true, ..entry };
        let extracting = self.extractor.extract_past_cache(route, address, entry).within(REQUEST_TIMEOUT);
        Ok((Waits::note("extraction", extracting).await??, Served::Bypass))
    }

    /// What the cache holds for this wheel, found out in one go.
    async fn held(&self, route: &Route, key: Option<Sha256>, entry: &IndexEntry) -> Result<Held, Error> {
        if let Some(record) = key.and_then(|key| self.store.in_memory(key)) {
            return Ok(Held::Record(record));
        }
        let Some(wheel) = entry.sha256 else { return Ok(Held::Nothing) };
        let (store, blobs, length) = (self.store.clone(), self.blobs.clone(), entry.expected.length);
        let repository = route.repository.clone();
        let held = blocking(move || match store.get(wheel) {
            Some(record) => Held::Record(record),
            None => match blobs.get_verified(wheel, length) {
                Some(blob) => Held::Wheel(blob),
                None => store.unproven(&repository, wheel).map_or(Held::Nothing, Held::Record),
            },
        });
        Ok(Waits::note("disk", held).await?)
    }

    async fn is_stored(&self, entry: &IndexEntry) -> Result<bool, Error> {
        let Some(wheel) = entry.sha256 else { return Ok(false) };
        let (blobs, length) = (self.blobs.clone(), entry.expected.length);
        Ok(Waits::note("disk", blocking(move || blobs.get(wheel, length).is_some())).await?)
    }

    /// Fetches the wheel, or goes on with the download that has begun; it need not be committed to be read. `None` if
    /// the cache cannot take it.
    async fn fetch_wheel(
        &self,
        route: &Arc<Route>,
        address: &FileAddress,
        entry: IndexEntry,
        mut begun: Option<(FileDownload, Role)>,
    ) -> Result<Option<(Blob, Served)>, Error> {
        let lost = || Error::internal("a download ended without an outcome");
        let entry = IndexEntry { is_brief: true, ..entry };
        loop {
            let next = || self.downloader.download(route, address, entry.clone());
            let (mut download, role) = begun.take().unwrap_or_else(next);
            let verified = Waits::note("file", tokio::time::timeout(REQUEST_TIMEOUT, download.verified())).await;
            return match verified.map_err(|_| unavailable(Cause::Timeout))? {
                Ok(complete) => {
                    if entry.is_unjudged && !sabotaged("unjudged-metadata") {
                        self.entries.admit_bytes(route, address, complete.sha256).await?;
                    }
                    Ok(Some((download.blob().ok_or_else(lost)?, role_served(role))))
                }
                Err(DownloadFailure::Upstream(error)) => Err(error),
                Err(DownloadFailure::Storage) => Ok(None),
                Err(DownloadFailure::Unread) => {
                    tokio::task::yield_now().await;
                    continue;
                }
                Err(_) => Err(lost()),
            };
        }
    }
}
