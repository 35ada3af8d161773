//! What the index says of one file, found on the page of its project.
//!
//! A file address works without its page having been requested first. When upstream is away, a page of any age will do,
//! because files never change.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use url::Url;

use super::canary::Verdict;
use super::changed_files::KnownFile;
use super::judge::Judge;
use super::linked_digest::link_key;
use super::shown::PageView;
use super::{Cause, Error, PageService, Route, unavailable};
use crate::cache::{Blobs, Expected, PageContent};
use crate::upstream::UpstreamError;
use wheelport_index::{CoreMetadata, FileAddress, Sha256};
use wheelport_runtime::{blocking, sabotaged};

/// A file that is missing from a page older than this may be newer than the page.
const LISTING_AGE: Duration = Duration::from_secs(5);

/// How long readers of a file that is not what its page says wait for the page before they are told.
const PAGE_TIMEOUT: Duration = Duration::from_secs(5);

/// A file up to this size is small, in bytes.
const SMALL: u64 = 1 << 20;

/// What the index says of a file.
#[derive(Debug, Clone, Default)]
pub(super) struct IndexEntry {
    /// Where upstream keeps it, if not at its address below the page.
    pub url: Option<Url>,
    /// Length and digests.
    pub expected: Expected,
    /// The SHA-256, from the page or recorded when the file was fetched.
    pub sha256: Option<Sha256>,
    /// Whether a page lists the file.
    pub is_listed: bool,
    /// The SHA-256 of its core metadata, where the page announces it: what upstream says, or what the wheel has said.
    pub metadata: Option<Sha256>,
    /// Where length and digests come from.
    pub source: EntrySource,
    /// The file is small, or fetched for something short in it: it need not stand behind large ones.
    pub is_brief: bool,
    /// A rule names digests, and that of the file is known only when all of it is here.
    pub is_unjudged: bool,
    /// Why that is unknown, where no page young enough could be had.
    pub index_error: Option<Error>,
}

/// Where the length and the digests of an entry come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum EntrySource {
    #[default]
    Page,
    /// From what was first seen: upstream lists other bytes by now, which are refused and not fetched.
    Refusal,
    /// From what was first seen: no page lists the file any more, and other bytes are refused.
    Record,
}

impl IndexEntry {
    /// The key under which the core metadata of this wheel is held in memory: the wheel's own SHA-256, or what stands
    /// for it while that is not known.
    pub(super) fn metadata_key(&self, route: &Route, address: &FileAddress) -> Option<Sha256> {
        self.sha256.or_else(|| link_key(route, address, &self.expected.hashes))
    }

    /// Whether only the stored bytes may be served.
    pub(super) fn is_refused(&self) -> bool {
        self.source == EntrySource::Refusal
    }
}

/// Finds entries.
#[derive(Clone)]
pub(super) struct IndexEntries {
    pages: PageService,
    judge: Judge,
    blobs: Blobs,
}

impl IndexEntries {
    pub(super) fn new(pages: PageService, judge: Judge, blobs: Blobs) -> Self {
        Self { pages, judge, blobs }
    }

    /// The entry of a file that may be served, on the page that was looked up for it or on a newer one. A page that
    /// says that its project is in quarantine is an error, because a file that no page lists is served all the same.
    pub(super) async fn find(
        &self,
        route: &Arc<Route>,
        address: &FileAddress,
        page: Result<PageView, Error>,
    ) -> Result<IndexEntry, Error> {
        let (content, index_error) = self.page_of(route, address, page).await?;
        if let Some(content) = &content
            && let Some(entry) = entry_of(address, content)?
        {
            let entry = self.with_link(route, address, entry).await?;
            self.judge.admit(route, address, Some(content), entry.sha256, None).await?;
            return Ok(self.with_doubt(route, address, entry));
        }
        let index_error = index_error.filter(|error| !matches!(error, Error::NoSuchProject { .. }));
        let unlisted = IndexEntry { index_error, ..IndexEntry::default() };
        let KnownFile { bytes, since } = self.pages.known_file(route, address).await;
        let known = bytes.as_ref().and_then(|bytes| bytes.hashes.sha256());
        let entry = match bytes.filter(|_| self.pages.refuses_changes(route)) {
            Some(expected) => IndexEntry { expected, source: EntrySource::Record, ..unlisted },
            None => unlisted,
        };
        self.judge.admit(route, address, content.as_ref(), known, since).await?;
        Ok(self.with_doubt(route, address, entry))
    }

    /// The entry, with whether its bytes have to be judged when they are known.
    fn with_doubt(&self, route: &Route, address: &FileAddress, entry: IndexEntry) -> IndexEntry {
        let is_known = entry.sha256.is_some() || entry.expected.hashes.sha256().is_some();
        let is_unjudged = !is_known && self.judge.needs_digest(route, &address.project);
        IndexEntry { is_unjudged, ..entry }
    }

    /// What is known of the page of a file, a newer one where that does not list the file, and why none is.
    async fn page_of(
        &self,
        route: &Arc<Route>,
        address: &FileAddress,
        page: Result<PageView, Error>,
    ) -> Result<(Option<Arc<PageContent>>, Option<Error>), Error> {
        let project = &address.project;
        Ok(match page {
            Ok(PageView { shown, fetched, .. }) => match shown.content.listed(address) {
                Some(_) => (Some(shown.content), None),
                None if fetched.age() < LISTING_AGE => (Some(shown.content), None),
                None => match self.pages.younger_than(route, project, LISTING_AGE).await {
                    Ok(view) => (Some(view.content), None),
                    Err(error) => (None, Some(error)),
                },
            },
            Err(denied @ Error::Denied { .. }) => return Err(denied),
            Err(error) if !route.may_read_cache() => return Err(error),
            Err(error @ Error::Unavailable { .. }) => {
                (self.pages.held(route, project).await.map(|record| record.content), Some(error))
            }
            Err(error) => (None, Some(error)),
        })
    }

    /// Lets bytes be served of which only now is known which they are.
    pub(super) async fn admit_bytes(
        &self,
        route: &Arc<Route>,
        address: &FileAddress,
        sha256: Sha256,
    ) -> Result<(), Error> {
        let since = self.pages.known_file(route, address).await.since;
        let content = self.pages.held(route, &address.project).await.map(|record| record.content);
        self.judge.admit(route, address, content.as_ref(), Some(sha256), since).await
    }

    /// What it means that upstream did not send a file. A 404 is an absence only when it is proven, and when a page
    /// that was fetched since does not list the file: of a listed one it may be the moment before its import.
    pub(super) async fn file_error(
        &self,
        route: &Arc<Route>,
        address: &FileAddress,
        entry: &IndexEntry,
        error: &UpstreamError,
    ) -> Error {
        let UpstreamError::NotFound(missing) = error else { return Error::from_upstream(error) };
        if entry.is_listed {
            match self.pages.younger_than(route, &address.project, missing.arrived.elapsed()).await {
                Ok(view) if view.content.file(&address.file).is_none() || sabotaged("still-listed") => {}
                Ok(_) => return unavailable(Cause::Upstream),
                Err(Error::NoSuchProject { .. }) => {}
                Err(error) => return error,
            }
        } else if let Some(error) = &entry.index_error
            && !sabotaged("unread-page")
        {
            return error.clone();
        }
        match self.pages.settle_file(route, missing).await {
            verdict if verdict == Verdict::Absent || sabotaged("proven-file") => {
                match self.pages.file_is_gone(route, address).await {
                    Ok(()) => Error::NoSuchFile { project: address.project.clone(), file: address.file.clone() },
                    Err(error) => error,
                }
            }
            Verdict::Doubt(cause) => unavailable(cause),
            Verdict::Absent | Verdict::Outdated => unavailable(Cause::Unproven),
        }
    }

    /// Asks for the page again, because a file is not what the page says that was there before `since`. So the next
    /// request knows what upstream says now.
    pub(super) async fn ask_page_again(&self, route: &Arc<Route>, address: &FileAddress, since: Instant) {
        if !sabotaged("page-again") {
            let asking = self.pages.younger_than(route, &address.project, since.elapsed());
            let _ = tokio::time::timeout(PAGE_TIMEOUT, asking).await;
        }
    }

    /// The entry, with the SHA-256 that was recorded when the file was fetched, where the index names none.
    pub(super) async fn with_link(
        &self,
        route: &Route,
        address: &FileAddress,
        mut entry: IndexEntry,
    ) -> Result<IndexEntry, Error> {
        if entry.sha256.is_none()
            && let Some(key) = link_key(route, address, &entry.expected.hashes)
        {
            let blobs = self.blobs.clone();
            entry.sha256 = blocking(move || blobs.linked(key)).await?;
        }
        Ok(entry)
    }
}

/// What a page says of a file, if it lists it at this address.
pub(super) fn entry_of(address: &FileAddress, content: &PageContent) -> Result<Option<IndexEntry>, Error> {
    if content.page.is_quarantined() && !sabotaged("quarantined-file") {
        return Err(Error::Quarantined { project: address.project.clone() });
    }
    let Some(file) = content.listed(address) else { return Ok(None) };
    let is_refused = content.refused.contains_key(&address.file);
    Ok(Some(IndexEntry {
        url: file.url.as_deref().cloned(),
        expected: Expected { length: file.size, hashes: file.hashes.clone() },
        sha256: file.hashes.sha256(),
        is_listed: true,
        metadata: match &file.core_metadata {
            CoreMetadata::Hashed(hashes) => hashes.sha256(),
            CoreMetadata::Available | CoreMetadata::Absent => None,
        },
        source: if is_refused { EntrySource::Refusal } else { EntrySource::Page },
        is_brief: file.size.is_some_and(|size| size <= SMALL),
        is_unjudged: false,
        index_error: None,
    }))
}
