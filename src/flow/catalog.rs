//! The projects of a route for people: the names that a query finds, page by page, with what is known of each.
//!
//! Names come from the project list; where there is none, from the pages that are cached, and the outcome says so. A
//! list is prepared for search when it changes, not when it is searched.

use std::sync::Arc;
use std::time::Duration;

use foldhash::quality::RandomState;

use super::name_index::NameIndex;
use super::project_facts::{KnownProjects, ProjectFacts};
use super::{Error, PageService, ProjectListService, Route, Served};
use crate::cache::ListContent;
use wheelport_index::{ProjectList, ProjectName, Sha256};
use wheelport_runtime::blocking;

/// Rows of one page.
pub const CATALOG_ROWS: usize = 50;
/// What prepared lists may take in memory together, in bytes.
const INDEX_MEMORY: u64 = 32 << 20;
/// Names that are taken from the cache.
const MOST_CACHED: usize = 20_000;
/// How long names from the cache are used.
const CACHED_NAMES_FOR: Duration = Duration::from_secs(15);

/// One page of what a query finds.
pub struct CatalogPage {
    pub rows: Vec<CatalogRow>,
    /// How many projects were found.
    pub found: usize,
    /// How many there are.
    pub total: usize,
    /// Why the names are only those that are cached.
    pub incomplete: Option<Error>,
    pub served: Served,
}

/// A project.
pub struct CatalogRow {
    pub project: ProjectName,
    /// Nothing where it is not known in time.
    pub facts: Option<Arc<ProjectFacts>>,
}

/// The catalogs of all routes. Cheap to clone.
#[derive(Clone)]
pub struct CatalogService {
    pages: PageService,
    lists: ProjectListService,
    known: KnownProjects,
    indexes: moka::sync::Cache<Sha256, Arc<NameIndex>, RandomState>,
    /// By route.
    cached: moka::sync::Cache<u64, Arc<NameIndex>, RandomState>,
}

impl CatalogService {
    pub(super) fn new(pages: PageService, lists: ProjectListService, known: KnownProjects) -> Self {
        let indexes = moka::sync::Cache::builder()
            .max_capacity(INDEX_MEMORY)
            .weigher(|_, index: &Arc<NameIndex>| u32::try_from(index.weight()).unwrap_or(u32::MAX))
            .build_with_hasher(RandomState::default());
        let cached = moka::sync::Cache::builder()
            .max_capacity(INDEX_MEMORY)
            .weigher(|_, index: &Arc<NameIndex>| u32::try_from(index.weight()).unwrap_or(u32::MAX))
            .time_to_live(CACHED_NAMES_FOR)
            .build_with_hasher(RandomState::default());
        Self { pages, lists, known, indexes, cached }
    }

    /// A page of the projects whose names hold all words of a query; page 0 is the first.
    pub async fn find(&self, route: &Arc<Route>, query: String, page: usize) -> Result<CatalogPage, Error> {
        let (index, served, incomplete) = self.names(route).await?;
        let searched = Arc::clone(&index);
        let skip = page.saturating_mul(CATALOG_ROWS);
        let found = blocking(move || searched.find(&query, skip, CATALOG_ROWS)).await?;
        let facts = self.known.of(route, &found.names).await;
        let rows = found.names.into_iter().zip(facts).map(|(project, facts)| CatalogRow { project, facts });
        Ok(CatalogPage { rows: rows.collect(), found: found.total, total: index.len(), incomplete, served })
    }

    /// The names of a route's projects, and why they are not all.
    async fn names(&self, route: &Arc<Route>) -> Result<(Arc<NameIndex>, Served, Option<Error>), Error> {
        match self.lists.get(route).wait().await {
            Ok(view) => Ok((self.index(view.content).await?, view.served, None)),
            Err(error @ Error::Denied { .. }) => Err(error),
            Err(error) if !route.may_read_cache() => Err(error),
            Err(error) => Ok((self.cached_names(route).await?, Served::Stale, Some(error))),
        }
    }

    async fn index(&self, list: Arc<ListContent>) -> Result<Arc<NameIndex>, Error> {
        let digest = list.digest;
        if let Some(index) = self.indexes.get(&digest) {
            return Ok(index);
        }
        let index = Arc::new(blocking(move || NameIndex::new(list)).await?);
        self.indexes.insert(digest, Arc::clone(&index));
        Ok(index)
    }

    async fn cached_names(&self, route: &Arc<Route>) -> Result<Arc<NameIndex>, Error> {
        if let Some(index) = self.cached.get(&route.id) {
            return Ok(index);
        }
        let mut projects = self.pages.cached_projects(route, MOST_CACHED).await;
        let prepare = move || {
            projects.sort_unstable();
            NameIndex::new(Arc::new(ListContent::new(ProjectList { projects })))
        };
        let index = Arc::new(blocking(prepare).await?);
        self.cached.insert(route.id, Arc::clone(&index));
        Ok(index)
    }
}
