//! Project lists, which CodeArtifact's index does not have: from its `ListPackages` API, cached like pages.

use std::sync::Arc;
use std::time::Duration;

use super::index_cache::{FetchError, IndexCache, IndexSource, Lifetimes, Need};
use super::negative::NegativeReason;
use super::reader;
use super::{Error, IndexView, Lookup, Route};
use crate::cache::{FetchedAt, ListContent, PersistedIndex, Record, RepositoryId, list_path};
use wheelport_index::{ProjectList, ProjectName};
use wheelport_runtime::{Tasks, blocking};

/// How long a refusal is believed.
const REFUSED_FOR: Duration = Duration::from_mins(1);

/// A project list and how the response came about.
pub type ListView = IndexView<ListContent>;

/// The project lists of all routes. Cheap to clone.
#[derive(Clone)]
pub struct ProjectListService {
    cache: IndexCache<ListSource>,
}

pub(super) struct ListSource {
    pub persisted: Arc<PersistedIndex>,
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
        _need: Need,
    ) -> Result<Record<ListContent>, FetchError> {
        match route.projects.projects().await {
            Ok(names) => blocking(move || cache.take_in(&key, &names))
                .await
                .map_err(|panicked| FetchError::Failed(panicked.into(), panicked.to_string())),
            Err(error @ (Error::Unavailable { .. } | Error::Internal { .. })) => {
                let detail = error.to_string();
                Err(FetchError::Failed(error, detail))
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
    /// Normalises, persists and holds a list. Blocking.
    fn take_in(&self, key: &RepositoryId, names: &[String]) -> Record<ListContent> {
        let mut projects: Vec<ProjectName> = names.iter().filter_map(|name| ProjectName::parse(name).ok()).collect();
        projects.sort_unstable();
        projects.dedup();
        let list = ProjectList { projects };
        if let Err(error) = self.source().persisted.persist(&list_path(key), &list) {
            tracing::warn!(%error, "a project list could not be persisted");
        }
        self.clear_negative(key);
        self.show(key, list, FetchedAt::now())
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
