//! The routes: each with its control plane, its token and its way to upstream, shared where settings agree.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::watch;

use super::StartError;
use super::fleet::{role, shared_route};
use crate::cache::RepositoryId;
use crate::config::RouteSettings;
use crate::control::{
    AccountId, AwsSettings, ControlError, ControlPlane, DomainId, DomainName, PackageOrigins, RepositoryName,
};
use crate::flow::{Cause, Error, OriginFacts, ProjectSource, Resolution, Route};
use crate::policy::{Moment, PackageOrigin};
use crate::token::{KeeperSettings, MintErrorKind, TokenHandle, keep};
use crate::upstream::{Client, Endpoint, Upstream};
use wheelport_index::ProjectName;
use wheelport_runtime::{Clock, Tasks};

/// Builds routes; those that agree share a control plane and a token.
pub(super) struct Routes<'a> {
    client: &'a Client,
    clock: &'a Clock,
    tasks: &'a Tasks,
    planes: HashMap<AwsSettings, Arc<ControlPlane>>,
    tokens: HashMap<(AwsSettings, DomainId), TokenHandle>,
    repositories: Vec<Arc<ServedRepository>>,
}

/// The routes, in the order of their settings, each with its repository.
pub(super) struct BuiltRoutes {
    pub(super) routes: Vec<Arc<Route>>,
    pub(super) repositories: Vec<Arc<ServedRepository>>,
}

impl<'a> Routes<'a> {
    /// Routes over what the process has one of.
    pub(super) fn new(client: &'a Client, clock: &'a Clock, tasks: &'a Tasks) -> Self {
        Self { client, clock, tasks, planes: HashMap::new(), tokens: HashMap::new(), repositories: Vec::new() }
    }

    pub(super) async fn build(mut self, settings: &[RouteSettings]) -> Result<BuiltRoutes, StartError> {
        let mut routes: Vec<Arc<Route>> = Vec::with_capacity(settings.len());
        for (route, reader) in settings.iter().zip(readers(settings)) {
            let built = self.route(route).await?.beside(&routes);
            routes.push(Arc::new(match reader {
                Some(reader) => built.with_reader(reader),
                None => built,
            }));
        }
        Ok(BuiltRoutes { routes, repositories: self.repositories })
    }

    async fn route(&mut self, settings: &RouteSettings) -> Result<Route, StartError> {
        let plane = self.plane(&settings.aws).await;
        let region = plane.region().ok_or_else(|| StartError::Region { route: Arc::clone(&settings.name) })?;
        let domain = DomainId { name: settings.domain.clone(), owner: settings.domain_owner.clone(), region };
        let token = self.token(&settings.aws, &domain, &plane);
        let upstream = self.upstream(settings, &plane, &domain, &token)?;
        let publisher = match &settings.publish_aws {
            Some(aws) => {
                let plane = self.plane(aws).await;
                Some(self.token(aws, &domain, &plane))
            }
            None => None,
        };
        let repository = ServedRepository { plane, domain: domain.clone(), name: settings.repository.clone() };
        let repository = Arc::new(repository);
        self.repositories.push(Arc::clone(&repository));
        let route = Route::new(
            Arc::clone(&settings.name),
            repository_id(&domain.name, domain.owner.as_ref(), &domain, settings),
            format!("{}/{}", settings.domain, settings.repository),
            token,
            repository,
            upstream,
        );
        let route = match shared_route(&domain, settings) {
            Some(shared) => route.with_shared(shared),
            None => route,
        };
        Ok(match publisher {
            Some(token) => route.with_publisher(token),
            None => route,
        })
    }

    async fn plane(&mut self, aws: &AwsSettings) -> Arc<ControlPlane> {
        if let Some(plane) = self.planes.get(aws) {
            return Arc::clone(plane);
        }
        let plane = Arc::new(ControlPlane::connect(aws).await);
        self.planes.insert(aws.clone(), Arc::clone(&plane));
        plane
    }

    fn token(&mut self, aws: &AwsSettings, domain: &DomainId, plane: &ControlPlane) -> TokenHandle {
        let keeper = || {
            let settings = KeeperSettings {
                requested_lifetime: aws.token_lifetime.requested(),
                clock: self.clock.clone(),
                ..KeeperSettings::new(domain.to_string())
            };
            keep(plane.token_source(domain, aws.token_lifetime), settings, self.tasks)
        };
        self.tokens.entry((aws.clone(), domain.clone())).or_insert_with(keeper).clone()
    }

    /// The way to the repository: known at once where it can be derived or is configured, else asked for until known.
    fn upstream(
        &self,
        settings: &RouteSettings,
        plane: &Arc<ControlPlane>,
        domain: &DomainId,
        token: &TokenHandle,
    ) -> Result<watch::Receiver<Resolution>, StartError> {
        let (client, token, name) = (self.client.clone(), token.clone(), Arc::clone(&settings.name));
        let connect = move |endpoint| Upstream::new(client.clone(), endpoint, token.clone(), Arc::clone(&name));
        if let Some(url) = &settings.endpoint {
            let endpoint = Endpoint::new(url.clone()).map_err(|error| StartError::Endpoint {
                route: Arc::clone(&settings.name),
                reason: error.to_string(),
            })?;
            return Ok(watch::channel(Resolution::Known(connect(endpoint))).1);
        }
        let (sender, receiver) = watch::channel(Resolution::Pending);
        let (plane, domain, repository) = (Arc::clone(plane), domain.clone(), settings.repository.clone());
        self.tasks.spawn_loop("resolve endpoint", async move {
            let failing = || drop(sender.send_replace(Resolution::Failing));
            let endpoint = resolve(&plane, &domain, &repository, failing).await;
            sender.send_replace(Resolution::Known(connect(endpoint)));
        });
        Ok(receiver)
    }
}

/// Asks where a repository is served, until that is known. Says `failing` when a second attempt was in vain as well.
async fn resolve(plane: &ControlPlane, domain: &DomainId, repository: &RepositoryName, failing: impl Fn()) -> Endpoint {
    const FIRST_PAUSE: Duration = Duration::from_secs(1);
    const LONGEST_PAUSE: Duration = Duration::from_secs(30);
    let mut pause = FIRST_PAUSE;
    loop {
        let found = match plane.repository_endpoint(domain, repository).await {
            Ok(url) => Endpoint::new(url).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match found {
            Ok(endpoint) => {
                tracing::info!(%repository, %domain, endpoint = %endpoint.base(), "repository endpoint known");
                return endpoint;
            }
            Err(error) => {
                tracing::error!(%repository, %domain, error, "the repository's endpoint is not known yet");
                if pause > FIRST_PAUSE {
                    failing();
                }
            }
        }
        tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// The identity of a repository in cache keys: what is configured, so that it is known without asking AWS.
fn repository_id(
    name: &DomainName,
    owner: Option<&AccountId>,
    domain: &DomainId,
    settings: &RouteSettings,
) -> RepositoryId {
    let endpoint = settings.endpoint.as_ref().map_or("", url::Url::as_str);
    RepositoryId::new(&[
        name.as_str(),
        settings.repository.as_str(),
        owner.map_or("", AccountId::as_str),
        domain.region.as_str(),
        endpoint,
    ])
}

/// The role of each route, where several roles read one repository: a name for it that is the same after a restart.
fn readers(routes: &[RouteSettings]) -> Vec<Option<Arc<str>>> {
    let repository = |route: &RouteSettings| {
        (route.domain.clone(), route.domain_owner.clone(), route.repository.clone(), route.endpoint.clone())
    };
    let reader = |route: &RouteSettings| {
        let own = role(&route.aws);
        let is_other = |other: &&RouteSettings| repository(other) == repository(route) && role(&other.aws) != own;
        routes.iter().any(|other| is_other(&other)).then(|| own.into())
    };
    routes.iter().map(reader).collect()
}

/// A repository, as the control plane tells of it.
pub(super) struct ServedRepository {
    pub(super) plane: Arc<ControlPlane>,
    pub(super) domain: DomainId,
    pub(super) name: RepositoryName,
}

impl ProjectSource for ServedRepository {
    fn projects(&self) -> BoxFuture<'_, Result<Vec<String>, Error>> {
        Box::pin(
            async move { self.plane.list_packages(&self.domain, &self.name).await.map_err(|error| list_error(&error)) },
        )
    }

    fn origins<'a>(
        &'a self,
        project: &'a ProjectName,
        with_versions: bool,
    ) -> BoxFuture<'a, Result<OriginFacts, Error>> {
        Box::pin(async move {
            let asked = self.plane.package_origins(&self.domain, &self.name, project.as_str(), with_versions);
            let action = "codeartifact:DescribePackage and codeartifact:ListPackageVersions";
            asked.await.map(origin_facts).map_err(|error| denied_or_away(&error, action))
        })
    }

    fn versions<'a>(&'a self, project: &'a ProjectName) -> BoxFuture<'a, Result<Vec<String>, Error>> {
        Box::pin(async move {
            let asked = self.plane.version_names(&self.domain, &self.name, project.as_str()).await;
            asked.map_err(|error| denied_or_away(&error, "codeartifact:ListPackageVersions"))
        })
    }

    fn taken_in<'a>(
        &'a self,
        project: &'a ProjectName,
        version: &'a str,
    ) -> BoxFuture<'a, Result<Option<Moment>, Error>> {
        Box::pin(async move {
            let asked = self.plane.published_time(&self.domain, &self.name, project.as_str(), version).await;
            let published = asked.map_err(|error| denied_or_away(&error, "codeartifact:DescribePackageVersion"))?;
            Ok(published.map(Moment))
        })
    }
}

/// What a failed call about packages means.
fn denied_or_away(error: &ControlError, action: &'static str) -> Error {
    match error.kind {
        MintErrorKind::Denied => Error::Denied { action },
        _ => unavailable(error),
    }
}

/// What AWS says of where a project comes from.
fn origin_facts(origins: PackageOrigins) -> OriginFacts {
    let origin = |is_external| if is_external { PackageOrigin::External } else { PackageOrigin::Internal };
    let versions = origins
        .versions
        .map(|versions| versions.into_iter().map(|(version, is_external)| (version, origin(is_external))).collect());
    OriginFacts { publish: origins.publish, upstream: origins.upstream, versions }
}

/// What a failed `ListPackages` means for a request.
fn list_error(error: &ControlError) -> Error {
    tracing::warn!(%error, "ListPackages failed");
    match error.kind {
        MintErrorKind::Denied => Error::ListNotOffered {
            reason: "CodeArtifact's own index has none, and this server's AWS role may not call \
                     codeartifact:ListPackages",
        },
        MintErrorKind::NotFound => Error::ListNotOffered { reason: "AWS does not know this domain or repository" },
        _ => unavailable(error),
    }
}

fn unavailable(error: &ControlError) -> Error {
    let cause = match error.kind {
        MintErrorKind::Throttled => Cause::Throttled,
        MintErrorKind::Unreachable => Cause::Connect,
        MintErrorKind::NoCredentials | MintErrorKind::ClockSkew => Cause::Token,
        MintErrorKind::Denied | MintErrorKind::NotFound | MintErrorKind::Other => Cause::Upstream,
    };
    Error::Unavailable { cause, retry_after: error.retry_after.unwrap_or(Duration::from_secs(5)) }
}
