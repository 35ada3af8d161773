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
/// A page that has changed later than this after an event has not changed because of it.
const ANNOUNCED_KEPT: Duration = Duration::from_mins(10);
/// How often others are told that events come.
const TELL_EVERY: Duration = Duration::from_mins(10);

/// What is known of events, by page and by repository.
pub(super) struct EventEvidence {
    changed: moka::sync::Cache<PageKey, Instant>,
    announced: moka::sync::Cache<PageKey, Instant>,
    /// When an event was last right about a page. Repositories of routes only.
    proven: Mutex<HashMap<RepositoryId, Instant>>,
}

impl Default for EventEvidence {
    fn default() -> Self {
        let table = || moka::sync::Cache::new(MAX_PAGES);
        Self { changed: table(), announced: table(), proven: Mutex::default() }
    }
}

impl EventEvidence {
    /// An event, or another replica, said that a page has changed.
    pub(super) fn heard_of(&self, key: &PageKey) {
        self.changed.insert(key.clone(), Instant::now());
    }

    /// An event came about a page.
    pub(super) fn announce(&self, key: &PageKey) {
        self.announced.insert(key.clone(), Instant::now());
    }

    /// A page arrived and was another than the one before. Says whether the other replicas have to hear that an event
    /// was right.
    pub(super) fn has_changed(&self, key: &PageKey) -> bool {
        let Some(at) = self.announced.remove(key) else { return false };
        at.elapsed() < ANNOUNCED_KEPT && self.prove(&key.repository)
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
    async fn an_event_is_right_when_its_page_changes_soon_after_it() {
        let (evidence, key, other) = (EventEvidence::default(), key("hello"), key("other"));
        assert!(!evidence.has_changed(&key), "without an event");
        evidence.announce(&key);
        assert!(!evidence.has_changed(&other));
        assert_eq!(evidence.proven(&key.repository), None);
        tokio::time::advance(ANNOUNCED_KEPT).await;
        assert!(!evidence.has_changed(&key), "too long ago");
        evidence.announce(&key);
        assert!(evidence.has_changed(&key));
        assert!(evidence.proven(&key.repository).is_some());
        assert!(!evidence.has_changed(&key), "one event proves once");
        evidence.announce(&key);
        assert!(!evidence.has_changed(&key), "the others know");
    }
}
