//! A route: one name under which one CodeArtifact repository is served, and the way to its upstream.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::error::{Cause, Error, unavailable};
use super::standing::Standing;
use crate::cache::{PageKey, RepositoryId};
use crate::fleet::SharedRepository;
use crate::policy::{Moment, PackageOrigin};
use crate::token::TokenHandle;
use crate::upstream::{EndpointState, Upstream};
use wheelport_index::ProjectName;
use wheelport_runtime::sabotaged;

/// Where the names of a repository's projects come from, and what is known of them besides their pages.
pub trait ProjectSource: Send + Sync + 'static {
    /// All projects, in any order and spelling.
    fn projects(&self) -> BoxFuture<'_, Result<Vec<String>, Error>>;

    /// Where the versions of a project come from. Single versions are needed only `with_versions`, or where the
    /// controls leave it open.
    fn origins<'a>(
        &'a self,
        project: &'a ProjectName,
        with_versions: bool,
    ) -> BoxFuture<'a, Result<OriginFacts, Error>>;

    /// The versions of a project that the repository has taken in, in any spelling.
    fn versions<'a>(&'a self, project: &'a ProjectName) -> BoxFuture<'a, Result<Vec<String>, Error>>;

    /// When the repository took a version in; `None` where it has none of that name.
    fn taken_in<'a>(
        &'a self,
        project: &'a ProjectName,
        version: &'a str,
    ) -> BoxFuture<'a, Result<Option<Moment>, Error>>;
}

/// What the repository says of where a project's versions come from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OriginFacts {
    /// Whether versions may be published to the repository.
    pub publish: bool,
    /// Whether versions may come from outside.
    pub upstream: bool,
    /// Single versions, where they were asked for.
    pub versions: Option<Vec<(String, PackageOrigin)>>,
}

/// What is known of the address of a repository.
#[derive(Debug, Clone)]
pub enum Resolution {
    /// It is being asked for.
    Pending,
    /// It was asked for in vain, and is asked for again.
    Failing,
    Known(Upstream),
}

impl Resolution {
    fn known(&self) -> Option<&Upstream> {
        match self {
            Self::Known(upstream) => Some(upstream),
            Self::Pending | Self::Failing => None,
        }
    }
}

/// One served repository, as it is now or as of a date.
#[derive(Clone)]
pub struct Route {
    /// Tells the routes of a process apart.
    pub(super) id: u64,
    /// Only what was uploaded until then is served.
    pub(super) as_of: Option<Moment>,
    /// The name in addresses.
    pub name: Arc<str>,
    /// The repository in cache keys.
    pub repository: RepositoryId,
    /// The repository in words, for logs: `domain/repository`.
    pub label: String,
    /// The token's keeper, for readiness and metrics.
    pub token: TokenHandle,
    pub(super) projects: Arc<dyn ProjectSource>,
    /// What upstream's responses have shown.
    pub(super) standing: Arc<Standing>,
    /// The role that reads, where routes with other roles read the same repository.
    pub(super) reader: Option<Arc<str>>,
    /// What it is among replicas; nothing is shared without.
    pub(super) shared: Option<SharedRoute>,
    upstream: watch::Receiver<Resolution>,
    publisher: Option<TokenHandle>,
}

/// A route among the replicas that are configured alike.
#[derive(Debug, Clone)]
pub struct SharedRoute {
    pub repository: SharedRepository,
    /// The role that reads, as it is configured: safe in the name of an object.
    pub role: Arc<str>,
    /// Whether files are published through it.
    pub takes_uploads: bool,
}

impl std::fmt::Debug for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Route({})", self.name)
    }
}

impl Route {
    /// A route whose upstream may become known later: where only AWS can tell a repository's address, the process
    /// serves what it has cached until AWS has responded.
    pub fn new(
        name: Arc<str>,
        repository: RepositoryId,
        label: String,
        token: TokenHandle,
        projects: Arc<dyn ProjectSource>,
        upstream: watch::Receiver<Resolution>,
    ) -> Self {
        static ROUTES: AtomicU64 = AtomicU64::new(0);
        let (id, standing) = (ROUTES.fetch_add(1, Ordering::Relaxed), Arc::default());
        Self {
            id,
            as_of: None,
            name,
            repository,
            label,
            token,
            projects,
            standing,
            reader: None,
            shared: None,
            upstream,
            publisher: None,
        }
    }

    /// The same route as of a date: it serves only what was uploaded until then. Rules are those of the present.
    #[must_use]
    pub fn as_of(&self, moment: Moment) -> Arc<Self> {
        Arc::new(Self { as_of: Some(moment), ..self.clone() })
    }

    /// The same route beside others: with those that have its repository and its token it shares what is known of them,
    /// and with all that have its repository the right to ask whether upstream still knows a project.
    #[must_use]
    pub fn beside(self, others: &[Arc<Self>]) -> Self {
        let mut same = others.iter().filter(|other| other.repository == self.repository).peekable();
        let Some(first) = same.peek().map(|other| Arc::clone(&other.standing)) else { return self };
        let standing = match same.find(|other| other.token.is_same(&self.token)) {
            Some(other) => Arc::clone(&other.standing),
            None => Arc::new(first.of_other_token()),
        };
        Self { standing, ..self }
    }

    /// The same route, whose uploads use a token of another role: the one for reading need not be able to publish.
    #[must_use]
    pub fn with_publisher(self, token: TokenHandle) -> Self {
        Self { publisher: Some(token), ..self }
    }

    /// The tokens that it uses.
    pub fn tokens(&self) -> impl Iterator<Item = &TokenHandle> {
        [&self.token].into_iter().chain(&self.publisher)
    }

    /// The same route, whose repository is also read by routes with other roles: what they have cached is served only
    /// after this role has shown that it may read. `reader` tells roles apart and is safe as a file name.
    #[must_use]
    pub fn with_reader(self, reader: Arc<str>) -> Self {
        Self { reader: Some(reader), ..self }
    }

    /// The same route, of which replicas share what they know.
    #[must_use]
    pub fn with_shared(self, shared: SharedRoute) -> Self {
        Self { shared: Some(shared), ..self }
    }

    /// What replicas call the repository among themselves.
    pub fn shared_repository(&self) -> Option<&SharedRepository> {
        self.shared.as_ref().map(|shared| &shared.repository)
    }

    /// Whether what is cached of the repository may be served.
    pub(super) fn may_read_cache(&self) -> bool {
        !self.standing.is_closed() && (self.reader.is_none() || self.standing.has_read() || sabotaged("roles-apart"))
    }

    /// Whether a request to upstream would most likely fail, or take long, as far as is known. What is cached is served
    /// at once then.
    pub(super) fn is_down(&self) -> bool {
        self.token.is_lacking()
            || self.standing.is_failing()
            || self.upstream.borrow().known().is_none_or(Upstream::is_unreachable)
    }

    /// Whether the role may no longer read the repository, so that nothing of it is served.
    pub fn is_denied(&self) -> bool {
        self.standing.is_closed()
    }

    /// Whether upstream denies the existence of everything at the moment.
    pub fn is_missing_everything(&self) -> bool {
        self.standing.is_outage()
    }

    /// The way to upstream for uploads.
    pub(super) async fn publisher(&self) -> Result<Upstream, Error> {
        let upstream = self.upstream().await?;
        Ok(self.publisher.as_ref().map_or(upstream.clone(), |token| upstream.with_token(token.clone())))
    }

    /// The way to upstream, as soon as it is known. Fails at once where its address was asked for in vain.
    pub(super) async fn upstream(&self) -> Result<Upstream, Error> {
        const LONGEST: Duration = Duration::from_secs(10);
        let mut known = self.upstream.clone();
        let is_decided = |found: &Resolution| !matches!(found, Resolution::Pending);
        match tokio::time::timeout(LONGEST, known.wait_for(is_decided)).await {
            Ok(Ok(found)) => found.known().cloned().ok_or_else(|| unavailable(Cause::Connect)),
            Ok(Err(_)) | Err(_) => Err(unavailable(Cause::Connect)),
        }
    }

    /// Whether the address of the upstream is known.
    pub fn is_resolved(&self) -> bool {
        self.upstream.borrow().known().is_some()
    }

    /// The requests per second that upstream is asked at most, now; `None` until its address is known.
    pub fn rate_limit(&self) -> Option<f64> {
        self.upstream.borrow().known().map(Upstream::rate_limit)
    }

    /// Whether requests go to upstream, and why not; `None` until its address is known.
    pub fn endpoint_state(&self) -> Option<EndpointState> {
        self.upstream.borrow().known().map(Upstream::endpoint_state)
    }

    /// The most requests to upstream in one second of the last minute; routes of one quota share it.
    pub fn busiest_second(&self) -> Option<u32> {
        self.upstream.borrow().known().map(Upstream::busiest_second)
    }

    /// Whether upstream has spare capacity for work in the background.
    pub(super) fn has_room(&self) -> bool {
        !self.standing.is_closed() && self.upstream.borrow().known().is_some_and(Upstream::has_spare_capacity)
    }

    pub(super) fn key(&self, project: &ProjectName) -> PageKey {
        PageKey { repository: self.repository.clone(), project: project.clone() }
    }
}
