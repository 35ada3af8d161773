//! What other replicas, and CodeArtifact's events, say has changed, as it concerns what this replica holds. A hint
//! marks what is held as doubtful, and nothing is asked before a request wants it.

use std::sync::Arc;

use super::doubts::DoubtKind;
use super::{Flow, Route};
use crate::cache::PageKey;
use crate::fleet::{Heard, Hint, HintListener, SharedRepository};
use wheelport_index::ProjectName;

impl Flow {
    /// Follows hints until the process ends.
    pub async fn follow_hints(self, routes: Vec<Arc<Route>>, mut listener: HintListener) {
        while let Some(heard) = listener.next().await {
            match heard {
                Heard::Gap => {
                    self.pages.cache().doubts().add_all();
                    self.exceptions.look_soon();
                    self.advisories.look_soon();
                }
                Heard::Hint(Hint::Exceptions) => self.exceptions.look_soon(),
                Heard::Hint(Hint::Advisories) => self.advisories.look_soon(),
                Heard::Hint(Hint::PageChanged { repository, project, generation }) => {
                    let kind = if generation == 0 { DoubtKind::Upstream } else { DoubtKind::Shared(generation) };
                    for (_, key) in concerned(&routes, &repository, &project) {
                        self.pages.cache().doubts().add(&key, kind);
                        self.pages.cache().clear_negative(&key);
                        self.pages.cache().source().internal.evidence.heard_of(&key);
                    }
                }
                Heard::Hint(Hint::Event { repository, project }) => {
                    for (route, key) in concerned(&routes, &repository, &project) {
                        let pages = self.pages.cache();
                        pages.doubts().add(&key, DoubtKind::Upstream);
                        pages.clear_negative(&key);
                        pages.source().internal.evidence.heard_of(&key);
                        if pages.source().internal.evidence.announce(&key) {
                            pages.tell_that_events_come(route);
                        }
                    }
                }
                Heard::Hint(Hint::Purge { repository, project }) => {
                    for (route, _) in concerned(&routes, &repository, &project) {
                        self.pages.forget_page(route, &project).await;
                        tracing::info!(route = %route.name, %project, "page purged, through another replica");
                    }
                }
                Heard::Hint(Hint::Accept { repository, project }) => {
                    for (_, key) in concerned(&routes, &repository, &project) {
                        self.pages.cache().doubts().add(&key, DoubtKind::Upstream);
                    }
                }
                Heard::Hint(Hint::EventsProven { repository }) => {
                    for route in routes.iter().filter(|route| route.shared_repository() == Some(&repository)) {
                        self.pages.cache().source().internal.evidence.prove(&route.repository);
                    }
                }
                // The request budget and `app` hear these themselves.
                Heard::Hint(Hint::SlowDown { .. } | Hint::Burnt { .. }) => {}
            }
        }
    }
}

/// One route for each repository that the hint names, as it is called here, and the key of the page.
fn concerned<'a>(
    routes: &'a [Arc<Route>],
    repository: &SharedRepository,
    project: &ProjectName,
) -> Vec<(&'a Arc<Route>, PageKey)> {
    let is_named = |route: &&Arc<Route>| route.shared.as_ref().is_some_and(|shared| shared.repository == *repository);
    let mut found: Vec<(&Arc<Route>, PageKey)> = Vec::new();
    for route in routes.iter().filter(is_named) {
        let key = route.key(project);
        if !found.iter().any(|(_, known)| *known == key) {
            found.push((route, key));
        }
    }
    found
}
