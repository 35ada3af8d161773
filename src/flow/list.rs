//! The project list of a route, which CodeArtifact's index does not have: asked from its `ListPackages` API.
//!
//! One list per route is held in memory, by the same freshness windows as pages but with its own `list_fresh_for`.

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{FAILURE_PAUSE, Flow, PATIENCE, Route, Served, Waiter, blocking, outcome, page};
use crate::cache::{Coding, Decision, Policy, Rendering, Written};
use crate::error::Error;
use wheelport_index::{ProjectList, ProjectName, render};

/// How long a refusal is believed.
const REFUSED_FOR: Duration = Duration::from_mins(1);
const GZIP_LEVEL: u32 = 6;
const ZSTD_LEVEL: i32 = 9;

/// Where the names of a repository's projects come from.
pub trait ProjectSource: Send + Sync + 'static {
    /// All projects, in any order and spelling.
    fn projects(&self) -> BoxFuture<'_, Result<Vec<String>, Error>>;
}

/// The list of one route.
#[derive(Default)]
pub struct ListState {
    held: Mutex<Option<Held>>,
    fetch: Mutex<Option<Waiter<Arc<Listed>>>>,
}

#[derive(Clone)]
struct Held {
    outcome: Result<Arc<Listed>, Error>,
    at: Instant,
    failed: Option<Instant>,
}

/// A project list and its renderings.
pub struct Listed {
    list: ProjectList,
    renderings: Mutex<HashMap<(Written, Coding), Arc<Rendering>>>,
}

impl Flow {
    /// The project list of a route in one representation.
    pub async fn project_list(
        &self,
        route: &Arc<Route>,
        written: Written,
        coding: Coding,
    ) -> Result<(Arc<Rendering>, Served), Error> {
        let (listed, served) = self.listed_projects(route).await?;
        if let Some(rendering) = lock(&listed.renderings).get(&(written, coding)) {
            return Ok((Arc::clone(rendering), served));
        }
        let rendered = blocking(move || {
            let body = match written {
                Written::Json => render::list_json(&listed.list),
                Written::Html => render::list_html(&listed.list),
            };
            let rendering = Arc::new(code(body.into(), coding)?);
            lock(&listed.renderings).insert((written, coding), Arc::clone(&rendering));
            Ok::<_, Error>(rendering)
        });
        Ok((rendered.await??, served))
    }

    async fn listed_projects(&self, route: &Arc<Route>) -> Result<(Arc<Listed>, Served), Error> {
        let policy = Policy { fresh_for: self.shared.list_fresh_for, ..self.shared.policy };
        let held = lock(&route.list.held).clone();
        match held {
            Some(Held { outcome: Ok(listed), at, failed }) => match policy.decide(at.elapsed()) {
                Decision::Fresh => Ok((listed, Served::Hit)),
                _ if failed.is_some_and(|failed| failed.elapsed() < FAILURE_PAUSE) => Ok((listed, Served::Stale)),
                Decision::Expired => self.fetch_list(route).await,
                Decision::Revalidate | Decision::Refetch => {
                    self.start_list(route);
                    Ok((listed, Served::Revalidating))
                }
            },
            Some(Held { outcome: Err(refused), at, .. }) if at.elapsed() < REFUSED_FOR => Err(refused),
            _ => self.fetch_list(route).await,
        }
    }

    async fn fetch_list(&self, route: &Arc<Route>) -> Result<(Arc<Listed>, Served), Error> {
        let (waiter, led) = self.start_list(route);
        Ok((outcome(waiter, PATIENCE).await?, Served::led(led)))
    }

    fn start_list(&self, route: &Arc<Route>) -> (Waiter<Arc<Listed>>, bool) {
        let mut fetch = lock(&route.list.fetch);
        if let Some(waiter) = fetch.as_ref().filter(|waiter| waiter.borrow().is_none() && waiter.has_changed().is_ok())
        {
            return (waiter.clone(), false);
        }
        let (sender, waiter) = watch::channel(None);
        *fetch = Some(waiter.clone());
        drop(fetch);
        let route = Arc::clone(route);
        self.shared.tasks.spawn("list projects", async move {
            let outcome = route.projects.projects().await.map(|names| Arc::new(Listed::new(&names)));
            if let Err(error) = &outcome {
                tracing::warn!(route = %route.name, %error, "the project list cannot be had");
            }
            keep(&mut lock(&route.list.held), &outcome);
            sender.send_replace(Some(outcome));
        });
        (waiter, true)
    }
}

impl Listed {
    fn new(names: &[String]) -> Self {
        let mut projects: Vec<ProjectName> = names.iter().filter_map(|name| ProjectName::parse(name).ok()).collect();
        projects.sort_unstable();
        projects.dedup();
        Self { list: ProjectList { projects }, renderings: Mutex::default() }
    }
}

/// Remembers the outcome of a fetch: a failure that passes leaves what is held in place.
fn keep(held: &mut Option<Held>, outcome: &Result<Arc<Listed>, Error>) {
    let passes = matches!(outcome, Err(Error::Unavailable { .. } | Error::Internal));
    match held {
        Some(Held { outcome: Ok(_), failed, .. }) if passes => *failed = Some(Instant::now()),
        _ if passes => {}
        _ => *held = Some(Held { outcome: outcome.clone(), at: Instant::now(), failed: None }),
    }
}

/// Applies a content coding and computes the entity tag. Blocking.
pub(super) fn code(body: Bytes, coding: Coding) -> Result<Rendering, Error> {
    let coded = match coding {
        Coding::Identity => Ok(body),
        Coding::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(GZIP_LEVEL));
            encoder.write_all(&body).and_then(|()| encoder.finish()).map(Bytes::from)
        }
        Coding::Zstd => zstd::bulk::compress(&body, ZSTD_LEVEL).map(Bytes::from),
    };
    let body = coded.map_err(|error| {
        tracing::error!(%error, "compressing a page failed");
        Error::Internal
    })?;
    let tags = page::tags(&body);
    Ok(Rendering { body, tags, heads: Default::default() })
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
