//! A page that arrives, from upstream or from another replica: parsed, completed, compared, held and persisted, all on
//! helper threads.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::change_guard::advertise_known_metadata;
use super::index_cache::{FetchError, IndexCache};
use super::negative::NegativeReason;
use super::page_source::PageSource;
use super::shared_pages::Errand;
use super::{Cause, Route, unavailable};
use crate::cache::{FetchedAt, PageContent, PageKey, PublishedFile, Record, page_path};
use crate::fleet::Hint;
use crate::upstream::PageReply;
use wheelport_index::{File, Page, ProjectName, parse};
use wheelport_runtime::{Panicked, blocking, sabotaged};

/// An unchanged page is persisted again when its copy is this old.
const PERSIST_AGAIN: Duration = Duration::from_mins(10);

/// What a page that was taken in has changed.
struct Arrival {
    /// It is another than the one that was held.
    is_changed: bool,
    /// Files that were published here, and that upstream has the last word about now.
    settled: Vec<PublishedFile>,
}

impl IndexCache<PageSource> {
    /// Parses, completes, persists and holds a page, all on a blocking thread. Until then the reply holds its turn.
    /// With an errand, replicas hear of it.
    pub(super) async fn take_in(
        &self,
        route: &Arc<Route>,
        key: &PageKey,
        mut reply: PageReply,
        asked: Instant,
        errand: Option<Errand>,
    ) -> Result<Record<PageContent>, FetchError> {
        self.learn_first_seen(route, key).await;
        let (cache, wanted, is_shared) = (self.clone(), key.clone(), errand.is_some() && route.shared.is_some());
        let parsed = blocking(move || {
            let page = read_page(&mut reply, &wanted.project)?;
            let of_upstream = is_shared.then(|| page.clone());
            let (record, arrival) = cache.hold_listed(&wanted, page, FetchedAt::asked(asked));
            Ok::<_, parse::ParseError>((record, arrival, of_upstream))
        });
        let unreadable = |error: parse::ParseError| {
            FetchError::Failed(unavailable(Cause::Broken), format!("it cannot be read: {error}"))
        };
        let panicked = |panicked: Panicked| FetchError::Failed(panicked.into(), panicked.to_string());
        let (record, Arrival { is_changed, settled }, of_upstream) =
            parsed.await.map_err(panicked)?.map_err(unreadable)?;
        self.settle_published(route, key, settled);
        self.share_first_seen(route, key);
        self.weigh_events(route, key, is_changed);
        if let Some((errand, page)) = errand.zip(of_upstream) {
            self.share(route, key, errand, page, is_changed);
        }
        Ok(record)
    }

    /// Holds a page that another replica fetched.
    pub(super) async fn hold_shared(
        &self,
        route: &Route,
        key: &PageKey,
        page: Page,
        fetched: FetchedAt,
    ) -> Option<Record<PageContent>> {
        self.learn_first_seen(route, key).await;
        let (cache, wanted) = (self.clone(), key.clone());
        let (record, Arrival { settled, is_changed }) =
            blocking(move || cache.hold_listed(&wanted, page, fetched)).await.ok()?;
        self.settle_published(route, key, settled);
        self.share_first_seen(route, key);
        self.weigh_events(route, key, is_changed);
        Some(record)
    }

    /// A page that has changed when an event came about it proves that events come.
    fn weigh_events(&self, route: &Route, key: &PageKey, is_changed: bool) {
        if is_changed && self.source().internal.evidence.has_changed(key) {
            self.tell_that_events_come(route);
        }
    }

    /// Tells the other replicas that an event was right about a page of this repository.
    pub(super) fn tell_that_events_come(&self, route: &Route) {
        let Some(repository) = route.shared_repository().cloned() else { return };
        let hints = self.source().fleet.hints().clone();
        self.tasks().spawn("tell that events come", async move {
            hints.send(Hint::EventsProven { repository }).await;
        });
    }

    /// Completes, persists and holds a page as upstream gave it. Blocking.
    fn hold_listed(&self, key: &PageKey, mut page: Page, fetched: FetchedAt) -> (Record<PageContent>, Arrival) {
        let (listed, began) = (page.files.len(), Instant::now());
        self.source().advertise(&mut page.files);
        let advertised = began.elapsed();
        let held = self.records().get(key);
        self.clear_negative(key);
        let record = self.show(key, page, fetched);
        let shown = began.elapsed();
        let is_unchanged = held.as_ref().is_some_and(|held| Arc::ptr_eq(&held.content, &record.content));
        let was_held = held.is_some();
        if let Some(held) = held.filter(|_| !is_unchanged) {
            let lists =
                |file: &File| record.content.file(&file.name).is_some_and(|listed| listed.version == file.version);
            self.source().delisted.compare(key, &held.content.page, lists);
        }
        let settled = self.persist(key, &record, listed, is_unchanged);
        tracing::debug!(
            project = %key.project,
            files = listed,
            advertise = ?advertised,
            first_seen = ?shown.saturating_sub(advertised),
            persist = ?began.elapsed().saturating_sub(shown),
            "a page was taken in"
        );
        (record, Arrival { is_changed: was_held && !is_unchanged, settled })
    }

    /// Persists upstream's page, unless the copy on disk is the same and young. Blocking. Its first files are those
    /// that upstream lists; the others were published here, and are forgotten only when upstream's list with them is
    /// on disk: the copy there may be from before. Returns those that are forgotten.
    fn persist(
        &self,
        key: &PageKey,
        record: &Record<PageContent>,
        listed: usize,
        is_unchanged: bool,
    ) -> Vec<PublishedFile> {
        let (PageSource { persisted, published, .. }, path) = (self.source(), page_path(key));
        let content = &record.content;
        let by_upstream = &content.page.files[..listed.min(content.page.files.len())];
        let mut settled = published.of(key);
        settled.retain(|file| published.is_settled(file, by_upstream));
        if is_unchanged && settled.is_empty() && persisted.age(&path).is_some_and(|age| age < PERSIST_AGAIN) {
            return settled;
        }
        // Copied only then: a page may be large.
        let is_other = content.page.files.len() > listed || !content.refused.is_empty();
        let of_upstream = is_other.then(|| {
            let mut page = content.as_listed();
            page.files.truncate(listed);
            page
        });
        match persisted.persist_aged(&path, of_upstream.as_ref().unwrap_or(&content.page), record.fetched.age()) {
            Ok(()) => {
                published.forget_settled(key, by_upstream);
                settled
            }
            Err(error) => {
                tracing::warn!(project = %key.project, %error, "a page could not be persisted");
                Vec::new()
            }
        }
    }

    /// Serves what another replica fetched earlier, because upstream failed.
    pub(super) async fn fall_back(
        &self,
        route: &Route,
        key: &PageKey,
        page: Page,
        age: Duration,
        detail: String,
    ) -> Result<Record<PageContent>, FetchError> {
        tracing::warn!(
            route = %route.name, project = %key.project, detail,
            "upstream failed; a page that another replica fetched is served stale"
        );
        let failed = || FetchError::Failed(unavailable(Cause::Upstream), detail.clone());
        let record = self.hold_shared(route, key, page, FetchedAt::aged(age)).await.ok_or_else(failed)?;
        // Holding it has taken away the entry.
        self.set_negative(key, NegativeReason::Failed);
        Ok(record)
    }

    /// Holds a page in memory, with the files that were published here, and without changed bytes that are refused.
    /// Blocking. Content equal to the held one is kept as it is, so that its representations stay valid.
    pub(super) fn show(&self, key: &PageKey, mut page: Page, fetched: FetchedAt) -> Record<PageContent> {
        let published = &self.source().published;
        loop {
            let additions = published.additions();
            let listed = page.files.len();
            // A project in quarantine offers no files, not even those published here.
            if !page.is_quarantined() || sabotaged("quarantined-upload") {
                published.complete(key, &mut page);
            }
            let PageSource { changes, metadata, largest_wheel, .. } = self.source();
            let (refused, undated) = changes.compare(key, &mut page, listed);
            self.source().advertise(&mut page.files[listed..]);
            advertise_known_metadata(&mut page, &refused, metadata, *largest_wheel);
            let content = match self.records().get(key) {
                Some(held) if held.content.is_same(&page, &refused, &undated) => held.content,
                _ => Arc::new(PageContent::new(page, refused, undated)),
            };
            let record = Record { content, fetched };
            self.records().put(key, record.clone());
            // A file that is published meanwhile must not be hidden by a page that was completed before.
            if published.additions() == additions {
                return record;
            }
            page = record.content.as_listed();
        }
    }
}

/// Parses a page, and frees the response's bytes.
fn read_page(reply: &mut PageReply, project: &ProjectName) -> Result<Page, parse::ParseError> {
    let (body, began) = (std::mem::take(&mut reply.body), Instant::now());
    let parse::ParsedPage { page, skipped, unknown_left_out } = parse::page(reply.format, &body, &reply.url, project)?;
    if skipped > 0 {
        tracing::warn!(%project, skipped, "entries of a page could not be read and are left out");
    }
    if unknown_left_out > 0 {
        tracing::warn!(%project, unknown_left_out, "a page has more unknown keys than are kept; the rest is left out");
    }
    tracing::debug!(%project, files = page.files.len(), parse = ?began.elapsed(), "a page was parsed");
    Ok(page)
}
