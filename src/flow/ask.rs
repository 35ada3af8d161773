//! Asking upstream for a page, and noting what the response shows of the route: that projects exist, that its role may
//! read, or that it may not.

use std::sync::Arc;

use tokio::time::Instant;

use super::access::Denial;
use super::canary::{AskError, Verdict, settle};
use super::error::{Cause, Error, unavailable};
use super::index_cache::{FetchError, IndexCache};
use super::page_source::PageSource;
use super::reader;
use super::route::Route;
use super::shared_pages::Errand;
use crate::cache::{PageContent, PageKey, Record, list_path};
use crate::notices::Notice;
use crate::upstream::{UpstreamError, Witness};
use wheelport_index::{ProjectList, ProjectName};
use wheelport_runtime::blocking;

/// Projects among which canaries are chosen.
const CANDIDATES: usize = 16;

impl From<FetchError> for AskError {
    fn from(error: FetchError) -> Self {
        let detail = match &error {
            FetchError::Failed(_, detail) => detail.clone(),
            FetchError::Absent(_) | FetchError::Prefetch => String::new(),
        };
        Self::Failed(error.into(), detail)
    }
}

impl IndexCache<PageSource> {
    /// Fetches a page and holds it. The errand is taken by a success, and says how replicas share it.
    pub(super) async fn ask(
        &self,
        route: &Arc<Route>,
        key: &PageKey,
        errand: &mut Option<Errand>,
    ) -> Result<Record<PageContent>, AskError> {
        let failed = |error: Error, detail: String| AskError::Failed(error, detail);
        let upstream = route.upstream().await.map_err(|error| {
            let detail = error.to_string();
            failed(error, detail)
        })?;
        let asked = Instant::now();
        match upstream.page(&key.project).await {
            Ok(reply) => {
                let witness = reply.witness;
                let record = Box::pin(self.take_in(route, key, reply, asked, errand.take())).await?;
                if let Some(witness) = witness {
                    self.note_success(route, key, &witness).await;
                }
                Ok(record)
            }
            Err(UpstreamError::NotFound(witness)) => Err(AskError::Missing(witness)),
            Err(error @ UpstreamError::Denied { witness, .. }) => {
                Err(failed(self.note_denial(route, &witness).await, error.to_string()))
            }
            Err(error) => Err(failed(Error::from_upstream(&error), error.to_string())),
        }
    }

    /// Settles a 404. `project` is the one whose existence is in question, if it is not just that of a file.
    pub(super) async fn settle(&self, route: &Arc<Route>, project: Option<&ProjectName>, missing: &Witness) -> Verdict {
        let canaries = self.canaries(route, project);
        let ask = |canary: ProjectName| async move {
            Box::pin(self.ask(route, &route.key(&canary), &mut None)).await.map(drop)
        };
        settle(route, missing, canaries, ask).await
    }

    /// Projects that exist as far as is known: others than the one in question, and that one only where it is the only
    /// one.
    async fn canaries(&self, route: &Route, project: Option<&ProjectName>) -> Vec<ProjectName> {
        let mut known = route.standing.existing();
        fastrand::shuffle(&mut known);
        if known.len() < CANDIDATES / 2 && route.may_read_cache() {
            let mut stored = self.stored_projects(route).await;
            fastrand::shuffle(&mut stored);
            stored.retain(|stored| !known.contains(stored));
            known.extend(stored);
        }
        if known.len() > 1 {
            known.retain(|known| Some(known) != project);
        }
        known
    }

    async fn stored_projects(&self, route: &Route) -> Vec<ProjectName> {
        let (cache, repository) = (self.clone(), route.repository.clone());
        let stored = blocking(move || {
            let persisted = &cache.source().persisted;
            let mut projects = persisted.some_projects(&repository, CANDIDATES);
            if projects.len() <= 1
                && let Some((list, _)) = persisted.load::<ProjectList>(&list_path(&repository), |_| true)
            {
                projects.extend(fastrand::choose_multiple(list.projects, CANDIDATES));
            }
            projects
        });
        stored.await.unwrap_or_default()
    }

    async fn note_success(&self, route: &Route, key: &PageKey, witness: &Witness) {
        let change = route.standing.succeeded(witness, &key.project);
        if change.opens {
            tracing::info!(route = %route.name, "upstream lets this role read again; the route is open");
            self.source().notices.tell(Notice::RouteReopened { route: Arc::clone(&route.name) });
        }
        if change.is_first {
            reader::record(&self.source().persisted, route).await;
            self.share_right(route);
        }
    }

    /// Notes that upstream denied a page, and says what that means for the request.
    async fn note_denial(&self, route: &Route, witness: &Witness) -> Error {
        match route.standing.denied(witness) {
            Denial::Known => return Error::denied(),
            Denial::Unconfirmed => {}
            Denial::NeedsNewToken => route.token.reject(witness.generation),
            Denial::Closes => {
                tracing::error!(
                    route = %route.name,
                    "upstream denies this role to read, also with a new token; nothing of this route is served until \
                     it is allowed codeartifact:ReadFromRepository (`wheelport check` says more)"
                );
                self.source().notices.tell(Notice::RouteClosed { route: Arc::clone(&route.name) });
                reader::forget(&self.source().persisted, route).await;
                self.withdraw_right(route).await;
                return Error::denied();
            }
        }
        unavailable(Cause::Denied)
    }
}
