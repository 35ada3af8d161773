//! The page flow: memory, freshness, one fetch per project, stale fallback.
//!
//! ```text
//! page ─► in memory? ─no─► persisted? ─► decide by age ─► Fresh: serve
//!                                          │ Revalidate: serve, fetch behind
//!                                          │ Refetch: fetch, serve what is held if that fails or takes long
//!                                          └ Expired, missing: fetch
//! ```

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use super::{
    FAILURE_PAUSE, Flow, PATIENCE, Route, STALE_PATIENCE, Served, Waiter, announce, blocking, explain, outcome,
    unavailable,
};
use crate::cache::{Coding, Decision, PageKey, PageRecord, Rendering, Stamp, Trouble, Written};
use crate::error::{Cause, Error};
use crate::upstream::{PageReply, UpstreamError};
use wheelport_index::{File, Page, ProjectName, Sha256, parse, render};
use wheelport_runtime::Priority;

/// A known project is believed to be gone when upstream said so twice, so far apart.
const GONE_AFTER: Duration = Duration::from_secs(30);
/// An unchanged page is persisted again when its copy is so old.
const PERSIST_AGAIN: Duration = Duration::from_mins(10);

/// Why a page did not come.
pub(super) enum NotFetched {
    /// Upstream says that there is no such project.
    Missing(Error),
    /// Upstream could not be asked, or its answer is of no use; with what happened, for a log.
    Failed(Error, String),
}

impl NotFetched {
    /// What it means for those who wait.
    pub fn into_error(self) -> Error {
        match self {
            Self::Missing(error) | Self::Failed(error, _) => error,
        }
    }
}

/// A page and how it came about.
#[derive(Clone)]
pub struct PageAnswer {
    /// What is known of the project.
    pub record: PageRecord,
    /// How it came about.
    pub served: Served,
}

impl Flow {
    /// The page of a project.
    pub async fn page(&self, route: &Arc<Route>, project: &ProjectName) -> Result<PageAnswer, Error> {
        let key = route.key(project);
        let held = match self.shared.pages.get(&key) {
            Some(record) => Some(record),
            None if self.is_known_missing(&key) => return Err(no_such_project(route, project)),
            None => self.load(&key).await,
        };
        let Some(held) = held else { return self.fetched(route, &key, PATIENCE).await };
        if let Some(served) = self.usable_at_once(route, &key, &held) {
            return Ok(PageAnswer { record: held, served });
        }
        if self.shared.policy.decide(held.fetched.age()) == Decision::Expired {
            return self.fetched(route, &key, PATIENCE).await;
        }
        match self.fetched(route, &key, STALE_PATIENCE).await {
            Err(Error::Unavailable { .. } | Error::Internal) => Ok(PageAnswer { record: held, served: Served::Stale }),
            fetched => fetched,
        }
    }

    /// The page, asked from upstream now unless what is held is younger than `age`.
    pub(super) async fn page_younger_than(
        &self,
        route: &Arc<Route>,
        project: &ProjectName,
        age: Duration,
    ) -> Result<PageAnswer, Error> {
        let key = route.key(project);
        match self.shared.pages.get(&key) {
            Some(record) if record.fetched.age() < age => Ok(PageAnswer { record, served: Served::Hit }),
            _ => self.fetched(route, &key, PATIENCE).await,
        }
    }

    /// What is held of a project, of whatever age; files stay the same for ever.
    pub(super) async fn held_page(&self, route: &Route, project: &ProjectName) -> Option<PageRecord> {
        let key = route.key(project);
        match self.shared.pages.get(&key) {
            Some(record) => Some(record),
            None => self.load(&key).await,
        }
    }

    /// A page and one of its representations, if both are in memory and need not be waited for.
    pub fn page_at_hand(
        &self,
        route: &Arc<Route>,
        project: &ProjectName,
        written: Written,
        coding: Coding,
    ) -> Option<(Arc<Rendering>, Served)> {
        let key = route.key(project);
        let record = self.shared.pages.get(&key)?;
        let rendering = self.shared.pages.rendering_of(&record.content, written, coding)?;
        let served = self.usable_at_once(route, &key, &record)?;
        Some((rendering, served))
    }

    /// How a page in memory may be served without waiting; one that is due is fetched behind.
    fn usable_at_once(&self, route: &Arc<Route>, key: &PageKey, held: &PageRecord) -> Option<Served> {
        match self.shared.policy.decide(held.fetched.age()) {
            Decision::Fresh => Some(Served::Hit),
            Decision::Revalidate => {
                if !self.is_in_trouble(key) {
                    // Who gets this answer does not wait for the next one.
                    Priority::Background.start(|| self.fetch(route, key));
                }
                Some(Served::Revalidating)
            }
            Decision::Refetch if self.is_in_trouble(key) => Some(Served::Stale),
            Decision::Refetch | Decision::Expired => None,
        }
    }

    /// The bytes of one representation of a page, rendered and compressed once per change.
    pub async fn rendering(
        &self,
        record: &PageRecord,
        written: Written,
        coding: Coding,
    ) -> Result<Arc<Rendering>, Error> {
        let content = Arc::clone(&record.content);
        let revision = content.revision;
        if let Some(rendering) = self.shared.pages.rendering(revision, written, coding) {
            return Ok(rendering);
        }
        let flow = self.clone();
        let (waiter, _) =
            self.shared.renderings.join((revision, written, coding), &self.shared.tasks, "render", || {
                let (sender, waiter) = watch::channel(None);
                (waiter, async move {
                    let rendered = blocking(move || {
                        let pages = &flow.shared.pages;
                        let body = match pages.rendering(revision, written, Coding::Identity) {
                            Some(identity) => identity.body.clone(),
                            None => match written {
                                Written::Json => render::json(&content.page).into(),
                                Written::Html => render::html(&content.page).into(),
                            },
                        };
                        let rendering = Arc::new(super::list::code(body, coding)?);
                        pages.keep_rendering(revision, written, coding, Arc::clone(&rendering));
                        Ok(rendering)
                    });
                    sender.send_replace(Some(rendered.await.and_then(|rendered| rendered)));
                })
            });
        outcome(waiter, PATIENCE).await
    }

    /// Makes the page anew from what upstream said last, because what can be announced on it has changed.
    pub(super) async fn announce_again(&self, route: &Route, project: &ProjectName) {
        let key = route.key(project);
        let Some(held) = self.shared.pages.get(&key) else { return };
        let flow = self.clone();
        let _ = blocking(move || {
            let mut page = held.content.page.clone();
            flow.announce(&mut page.files);
            flow.show(&key, page, held.fetched, held.persisted);
        })
        .await;
    }

    /// Forgets a page, so that the next request asks upstream.
    pub async fn purge(&self, route: &Route, project: &ProjectName) {
        let key = route.key(project);
        self.forget(&key).await;
        self.shared.pages.clear_note(&key);
    }

    pub(super) fn is_known_missing(&self, key: &PageKey) -> bool {
        let note = self.shared.pages.note(key);
        note.is_some_and(|note| note.trouble == Trouble::Missing && note.at.elapsed() < self.shared.missing_for)
    }

    /// Whether upstream should be left alone about this page for a moment, since there is something to serve.
    pub(super) fn is_in_trouble(&self, key: &PageKey) -> bool {
        self.shared.pages.note(key).is_some_and(|note| {
            let pause = if note.trouble == Trouble::Missing { GONE_AFTER } else { FAILURE_PAUSE };
            note.at.elapsed() < pause
        })
    }

    /// Brings the persisted copy into memory, if there is one.
    pub(super) async fn load(&self, key: &PageKey) -> Option<PageRecord> {
        let (flow, wanted) = (self.clone(), key.clone());
        let (waiter, _) = self.shared.loads.join(key.clone(), &self.shared.tasks, "load page", || {
            let (sender, waiter) = watch::channel(None);
            (waiter, async move {
                let loaded = blocking(move || {
                    let (mut page, stamp) = flow.shared.pages.load(&wanted)?;
                    flow.announce(&mut page.files);
                    Some(flow.show(&wanted, page, stamp, stamp))
                });
                sender.send_replace(Some(loaded.await));
            })
        });
        outcome(waiter, PATIENCE).await.ok().flatten()
    }

    async fn fetched(&self, route: &Arc<Route>, key: &PageKey, patience: Duration) -> Result<PageAnswer, Error> {
        let (waiter, led) = self.fetch(route, key);
        let record = outcome(waiter, patience).await?;
        Ok(PageAnswer { record, served: Served::led(led) })
    }

    /// Starts or joins the fetch of a page; it goes on whoever waits for it.
    fn fetch(&self, route: &Arc<Route>, key: &PageKey) -> (Waiter<PageRecord>, bool) {
        let (flow, route, wanted) = (self.clone(), Arc::clone(route), key.clone());
        self.shared.fetches.join(key.clone(), &self.shared.tasks, "fetch page", || {
            let (sender, waiter) = watch::channel(None);
            (waiter, async move {
                let fetched = flow.ask_upstream(&route, &wanted).await;
                sender.send_replace(Some(fetched));
            })
        })
    }

    pub(super) async fn ask_upstream(&self, route: &Route, key: &PageKey) -> Result<PageRecord, Error> {
        let asked = self.ask_quietly(route, key).await;
        if let Err(NotFetched::Failed(_, detail)) = &asked {
            self.shared.pages.set_note(key, Trouble::Failed);
            tracing::warn!(route = %route.name, project = %key.project, detail, "a page could not be fetched");
        }
        asked.map_err(NotFetched::into_error)
    }

    /// Asks upstream for a page and remembers it, or that there is none. A failure is the caller's to note.
    pub(super) async fn ask_quietly(&self, route: &Route, key: &PageKey) -> Result<PageRecord, NotFetched> {
        let unresolved = |error: Error| {
            let detail = error.to_string();
            NotFetched::Failed(error, detail)
        };
        let upstream = route.upstream().await.map_err(unresolved)?;
        match upstream.page(&key.project).await {
            Ok(reply) => self.take_in(key, reply).await,
            Err(UpstreamError::NotFound) => self.missing(route, key).await.map_err(NotFetched::Missing),
            Err(error) => {
                let explained = explain(&error, || no_such_project(route, &key.project), &route.label);
                Err(NotFetched::Failed(explained, error.to_string()))
            }
        }
    }

    /// Parses, persists and remembers a page, all off the async threads.
    async fn take_in(&self, key: &PageKey, reply: PageReply) -> Result<PageRecord, NotFetched> {
        let (flow, wanted) = (self.clone(), key.clone());
        let parsed = blocking(move || {
            let parse::ParsedPage { page, skipped } =
                parse::page(reply.form, &reply.body, &reply.url, &wanted.project)?;
            if skipped > 0 {
                tracing::warn!(project = %wanted.project, skipped, "a page has entries that name no file with an address");
            }
            let pages = &flow.shared.pages;
            let held = pages.get(&wanted);
            let mut announced = page.clone();
            flow.announce(&mut announced.files);
            flow.add_published(&wanted, &mut announced);
            let unchanged = held
                .filter(|held| held.persisted.age() < PERSIST_AGAIN && held.content.page == announced)
                .map(|held| held.persisted);
            let persisted = unchanged.unwrap_or_else(|| {
                if let Err(error) = pages.persist(&wanted, &page) {
                    tracing::warn!(project = %wanted.project, %error, "a page could not be persisted");
                }
                Stamp::now()
            });
            pages.clear_note(&wanted);
            Ok::<_, parse::ParseError>(flow.show(&wanted, announced, Stamp::now(), persisted))
        });
        let failed = |error, detail| NotFetched::Failed(error, detail);
        let parsed = parsed.await.map_err(|error| failed(error, "a panic".to_owned()))?;
        parsed.map_err(|error| failed(unavailable(Cause::Broken), format!("it cannot be read: {error}")))
    }

    /// Upstream says that there is no such project: believed at once for an unknown one, and for a known one only when
    /// it is said again a while later.
    async fn missing(&self, route: &Route, key: &PageKey) -> Result<PageRecord, Error> {
        let usable = |record: &PageRecord| self.shared.policy.decide(record.fetched.age()) != Decision::Expired;
        if let Some(held) = self.shared.pages.get(key).filter(usable) {
            let first = self.shared.pages.note(key).filter(|note| note.trouble == Trouble::Missing);
            match first {
                None => self.shared.pages.set_note(key, Trouble::Missing),
                Some(note) if note.at.elapsed() < GONE_AFTER => {}
                Some(_) => return self.gone(route, key).await,
            }
            tracing::warn!(route = %route.name, project = %key.project, "upstream no longer knows this project; asking again before believing it");
            return Ok(held);
        }
        self.gone(route, key).await
    }

    /// Forgets a project, unless files of it were published here that upstream's index does not know yet.
    async fn gone(&self, route: &Route, key: &PageKey) -> Result<PageRecord, Error> {
        // In this order: what is published while this goes on clears the note that forgetting leaves.
        self.forget(key).await;
        let (flow, wanted) = (self.clone(), key.clone());
        let published = blocking(move || {
            flow.shared.published.has(&wanted).then(|| {
                flow.shared.pages.clear_note(&wanted);
                let page = Page::empty(wanted.project.clone());
                flow.show(&wanted, page, Stamp::now(), Stamp::now())
            })
        });
        published.await?.ok_or_else(|| no_such_project(route, &key.project))
    }

    /// Completes what is announced of the core metadata of files. Blocking.
    pub(super) fn announce(&self, files: &mut [File]) {
        announce::core_metadata(files, &self.shared.sidecars, self.shared.disk.max_size());
    }

    /// Puts files that were published here onto a page whose upstream does not list them yet. Blocking.
    fn add_published(&self, key: &PageKey, page: &mut Page) {
        let listed = page.files.len();
        self.shared.published.complete(key, page);
        self.announce(&mut page.files[listed..]);
    }

    /// Puts a page into memory, with what was published here. Blocking.
    pub(super) fn show(&self, key: &PageKey, mut page: Page, fetched: Stamp, persisted: Stamp) -> PageRecord {
        loop {
            let additions = self.shared.published.additions();
            self.add_published(key, &mut page);
            let record = self.shared.pages.put(key, page, fetched, persisted);
            // A file that was published meanwhile must not be hidden by a page that was put together before.
            if self.shared.published.additions() == additions {
                return record;
            }
            page = record.content.page.clone();
        }
    }

    async fn forget(&self, key: &PageKey) {
        self.shared.pages.set_note(key, Trouble::Missing);
        let (flow, key) = (self.clone(), key.clone());
        if let Ok(Err(error)) = blocking(move || flow.shared.pages.remove(&key)).await {
            tracing::warn!(%error, "a persisted page could not be removed");
        }
    }
}

fn no_such_project(route: &Route, project: &ProjectName) -> Error {
    Error::NoSuchProject { route: Arc::clone(&route.name), project: project.clone() }
}

/// The strong entity tags of some bytes as one media type and as another: the first half of their SHA-256.
pub(super) fn tags(bytes: &[u8]) -> [Bytes; 2] {
    let digest = Sha256::of(bytes).to_string();
    let digest = &digest[..32];
    [format!("\"{digest}\"").into(), format!("\"{digest}-v1\"").into()]
}
