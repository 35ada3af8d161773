//! What CodeArtifact's events were seen to be good for: which pages they announced, whether those pages had changed
//! then, and when a change of a page was last heard of. Tables with bounds, no decision.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::cache::{PageKey, RepositoryId};

/// Pages of which it is remembered that they changed, or that an event announced it.
const MAX_PAGES: u64 = 50_000;
/// How long it is remembered that a page changed: longer than any page is fresh.
const CHANGE_KEPT: Duration = Duration::from_mins(65);
/// An event and a change of its page that are further apart have nothing to do with each other.
const ANNOUNCED_KEPT: Duration = Duration::from_mins(10);
/// How often others are told that events come.
const TELL_EVERY: Duration = Duration::from_mins(10);

/// What is known of events, by page and by repository.
pub(super) struct EventEvidence {
    changed: moka::sync::Cache<PageKey, Instant>,
    announced: moka::sync::Cache<PageKey, Instant>,
    /// Pages that were asked for by their age before their event came.
    unannounced: moka::sync::Cache<PageKey, Instant>,
    /// When an event was last right about a page. Repositories of routes only.
    proven: Mutex<HashMap<RepositoryId, Instant>>,
}

impl Default for EventEvidence {
    fn default() -> Self {
        let table = || moka::sync::Cache::new(MAX_PAGES);
        Self { changed: table(), announced: table(), unannounced: table(), proven: Mutex::default() }
    }
}

impl EventEvidence {
    /// An event, or another replica, said that a page has changed.
    pub(super) fn heard_of(&self, key: &PageKey) {
        self.changed.insert(key.clone(), Instant::now());
    }

    /// An event came about a page. Says whether the other replicas have to hear that it was right.
    pub(super) fn announce(&self, key: &PageKey) -> bool {
        if self.unannounced.remove(key).is_some_and(|at| at.elapsed() < ANNOUNCED_KEPT) {
            return self.prove(&key.repository);
        }
        self.announced.insert(key.clone(), Instant::now());
        false
    }

    /// A page arrived and was another than the one before. Says whether the other replicas have to hear that an event
    /// was right.
    pub(super) fn has_changed(&self, key: &PageKey) -> bool {
        if self.announced.remove(key).is_some_and(|at| at.elapsed() < ANNOUNCED_KEPT) {
            return self.prove(&key.repository);
        }
        self.unannounced.insert(key.clone(), Instant::now());
        false
    }

    /// An event was right about a page of this repository, here or on another replica. Says whether that is news.
    pub(super) fn prove(&self, repository: &RepositoryId) -> bool {
        let now = Instant::now();
        let before = self.proven.lock().insert(repository.clone(), now);
        before.is_none_or(|before| now.duration_since(before) >= TELL_EVERY)
    }

    /// When a change of a page was last heard of, if that matters.
    pub(super) fn changed(&self, key: &PageKey) -> Option<Instant> {
        self.changed.get(key).filter(|at| at.elapsed() < CHANGE_KEPT)
    }

    /// When an event was last right about a page of a repository.
    pub(super) fn proven(&self, repository: &RepositoryId) -> Option<Instant> {
        self.proven.lock().get(repository).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wheelport_index::ProjectName;

    fn key(project: &str) -> PageKey {
        let project = ProjectName::parse(project).expect("a name");
        PageKey { repository: RepositoryId::new(&["acme", "python"]), project }
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_is_right_when_its_page_changes_at_about_the_same_time() {
        let (evidence, key, other) = (EventEvidence::default(), key("hello"), key("other"));
        assert!(!evidence.announce(&key));
        assert!(!evidence.has_changed(&other));
        assert_eq!(evidence.proven(&key.repository), None);
        tokio::time::advance(ANNOUNCED_KEPT).await;
        assert!(!evidence.has_changed(&key), "too long ago");
        tokio::time::advance(ANNOUNCED_KEPT).await;
        assert!(!evidence.announce(&key), "that change was another one");
        assert!(evidence.has_changed(&key));
        assert!(evidence.proven(&key.repository).is_some());
        tokio::time::advance(TELL_EVERY).await;
        assert!(!evidence.has_changed(&key), "one event proves once");
        assert!(evidence.announce(&key), "the page was asked for before its event came");
        assert!(!evidence.announce(&key));
        assert!(!evidence.has_changed(&key), "the others know");
    }
}
