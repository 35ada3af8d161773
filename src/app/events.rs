//! From CodeArtifact's events to hints: each event is a hint to all replicas that the page of its project has changed,
//! on every route that shows its repository, itself or through an upstream.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;

use super::routes::ServedRepository;
use super::upstream_graph::{Reach, reach};
use crate::fleet::{Events, Hint, Hints, PackageEvent, SharedRepository};
use crate::flow::Route;
use wheelport_runtime::Tasks;

/// How often the upstreams of repositories are asked for.
const REFRESH: Duration = Duration::from_mins(10);
/// How soon they are asked for again where that failed.
const RETRY: Duration = Duration::from_mins(1);

/// A route, and the repositories it shows.
struct Watched {
    route: Arc<Route>,
    repository: Arc<ServedRepository>,
    reach: RwLock<Reach>,
}

/// Starts to receive, and to follow the upstreams of the routes' repositories.
pub(super) fn follow(
    events: Events,
    hints: Hints,
    routes: &[Arc<Route>],
    repositories: Vec<Arc<ServedRepository>>,
    tasks: &Tasks,
) {
    let watch = |(route, repository): (&Arc<Route>, Arc<ServedRepository>)| Watched {
        route: Arc::clone(route),
        repository,
        reach: RwLock::new(Reach::Domain),
    };
    let watched: Arc<[Watched]> = routes.iter().zip(repositories).map(watch).collect();
    let graph = Arc::clone(&watched);
    tasks.spawn_loop("follow upstreams", async move {
        loop {
            let pause = if refresh(&graph).await { REFRESH } else { RETRY };
            tokio::time::sleep(pause.mul_f64(0.9 + fastrand::f64() / 5.0)).await;
        }
    });
    tasks.spawn_loop("receive events", async move {
        let handle = |event| {
            let (watched, hints) = (Arc::clone(&watched), hints.clone());
            async move { tell(&watched, &hints, &event).await }
        };
        events.run(handle).await;
    });
}

/// Tells all replicas what an event is about. Says whether any route shows it.
async fn tell(watched: &[Watched], hints: &Hints, event: &PackageEvent) -> bool {
    let concerned = watched.iter().filter(|watched| watched.reach.read().covers(&watched.repository.domain, event));
    let mut told: Vec<&SharedRepository> = Vec::new();
    for repository in concerned.filter_map(|watched| watched.route.shared_repository()) {
        if !told.contains(&repository) {
            told.push(repository);
        }
    }
    for &repository in &told {
        let (repository, project) = (repository.clone(), event.project.clone());
        hints.spread(Hint::Event { repository, project }).await;
    }
    tracing::debug!(
        repository = event.repository, project = %event.project, version = event.version,
        operation = event.operation.as_str(), concerned = told.len(), "event received"
    );
    !told.is_empty()
}

/// Asks for the upstreams of all routes. What was known stays where that fails. Says whether all of them are known.
async fn refresh(watched: &[Watched]) -> bool {
    let mut are_known = true;
    for watched in watched {
        let ServedRepository { plane, domain, name } = watched.repository.as_ref();
        let found = reach(name, |upstream| async move { plane.describe_repository(domain, &upstream).await }).await;
        match found {
            Ok(found) => *watched.reach.write() = found,
            Err(error) => {
                are_known = false;
                tracing::warn!(
                    route = %watched.route.name, %error,
                    "the upstreams of a repository are not known; every event of its domain counts for it"
                );
            }
        }
    }
    are_known
}
