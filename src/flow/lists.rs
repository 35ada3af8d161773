//! Project lists, which CodeArtifact's index does not have: from its `ListPackages` API, cached and shared
//! like pages.

use std::sync::Arc;
use std::time::Duration;

use super::index_cache::{FetchError, IndexCache, IndexSource, Lifetimes, Need};
use super::list_source::ListSource;
use super::negative::NegativeReason;
use super::reader;
use super::shared_list::ConsultedList;
use super::{Error, IndexView, Lookup, Route};
use crate::cache::{FetchedAt, ListContent, Record, RepositoryId, list_path};
use wheelport_index::{ProjectList, ProjectName};
use wheelport_runtime::{Panicked, Tasks, blocking};

/// How long a refusal is believed.
const REFUSED_FOR: Duration = Duration::from_mins(1);

/// A project list and how the response came about.
pub type ListView = IndexView<ListContent>;

/// The project lists of all routes. Cheap to clone.
#[derive(Clone)]
pub struct ProjectListService {
    cache: IndexCache<ListSource>,
}

impl ProjectListService {
    pub(super) fn new(source: ListSource, memory: u64, lifetimes: Lifetimes, tasks: Tasks) -> Self {
        let lifetimes = Lifetimes { absent_for: REFUSED_FOR, doubt_for: REFUSED_FOR, ..lifetimes };
        Self { cache: IndexCache::new(source, memory, lifetimes, tasks) }
    }

    /// The project list of a route.
    pub fn get(&self, route: &Arc<Route>) -> Lookup<ListView> {
        if route.is_denied() {
            return Lookup::error(Error::denied());
        }
        let key = route.repository.clone();
        if route.may_read_cache() {
            return self.cache.get(route, key);
        }
        let (cache, route) = (self.cache.clone(), Arc::clone(route));
        Lookup::miss(async move {
            reader::restore(&cache.source().persisted, &route).await;
            cache.get(&route, key).wait().await
        })
    }

    /// Lists that are known to be missing or failing, for metrics.
    pub(super) fn negative_entries(&self) -> u64 {
        self.cache.negative_entries()
    }

    /// Bytes of lists in memory, for metrics.
    pub(super) fn bytes(&self) -> u64 {
        self.cache.records().bytes()
    }
}

impl IndexSource for ListSource {
    type Key = RepositoryId;
    type Content = ListContent;

    fn load(cache: &IndexCache<Self>, key: &RepositoryId) -> Option<Record<ListContent>> {
        let (list, fetched) = cache.source().persisted.load(&list_path(key), |_| true)?;
        Some(cache.show(key, list, fetched))
    }

    async fn fetch(
        cache: IndexCache<Self>,
        route: Arc<Route>,
        key: RepositoryId,
        need: Need,
    ) -> Result<Record<ListContent>, FetchError> {
        let errand = match cache.consult_list(&route, &key, need).await {
            ConsultedList::Found(list, fetched) => return cache.hold(&key, list, fetched).await,
            ConsultedList::Ask(errand) => errand,
        };
        match route.projects.projects().await {
            Ok(names) => {
                let list = blocking(move || normalised(&names)).await.map_err(panicked)?;
                cache.share_list(&route, *errand, list.clone());
                cache.hold(&key, list, FetchedAt::now()).await
            }
            Err(error @ (Error::Unavailable { .. } | Error::Internal { .. })) => {
                let detail = error.to_string();
                match errand.stale {
                    Some((list, age)) if !cache.is_expired(age) => {
                        tracing::warn!(
                            route = %route.name, detail,
                            "upstream failed; a project list that another replica fetched is served stale"
                        );
                        let record = cache.hold(&key, list, FetchedAt::aged(age)).await?;
                        // Holding it has taken away the entry.
                        cache.set_negative(&key, NegativeReason::Failed);
                        Ok(record)
                    }
                    _ => Err(FetchError::Failed(error, detail)),
                }
            }
            Err(refused) => {
                cache.records().remove(&key);
                cache.set_negative(&key, NegativeReason::Absent(refused.clone()));
                tracing::warn!(route = %route.name, error = %refused, "there is no project list");
                Err(FetchError::Absent(refused))
            }
        }
    }
}

impl IndexCache<ListSource> {
    /// Persists and holds a list.
    async fn hold(
        &self,
        key: &RepositoryId,
        list: ProjectList,
        fetched: FetchedAt,
    ) -> Result<Record<ListContent>, FetchError> {
        let (cache, key) = (self.clone(), key.clone());
        let held = blocking(move || {
            if let Err(error) = cache.source().persisted.persist_aged(&list_path(&key), &list, fetched.age()) {
                tracing::warn!(%error, "a project list could not be persisted");
            }
            cache.clear_negative(&key);
            cache.show(&key, list, fetched)
        });
        held.await.map_err(panicked)
    }

    fn show(&self, key: &RepositoryId, list: ProjectList, fetched: FetchedAt) -> Record<ListContent> {
        let content = match self.records().get(key) {
            Some(held) if held.content.list == list => held.content,
            _ => Arc::new(ListContent::new(list)),
        };
        let record = Record { content, fetched };
        self.records().put(key, record.clone());
        record
    }
}

fn normalised(names: &[String]) -> ProjectList {
    let mut projects: Vec<ProjectName> = names.iter().filter_map(|name| ProjectName::parse(name).ok()).collect();
    projects.sort_unstable();
    projects.dedup();
    ProjectList { projects }
}

fn panicked(panicked: Panicked) -> FetchError {
    FetchError::Failed(panicked.into(), panicked.to_string())
}
