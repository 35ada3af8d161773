//! Counting where a response is made: one look-up in a map of the thread's own, without an allocation once the counter
//! is there. What is counted waits here until it is taken into the table of its day.

use std::borrow::Borrow;
use std::cell::Cell;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use foldhash::fast::RandomState;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::day::UsageDay;
use super::tally::Tally;
use wheelport_index::{FileAddress, ProjectName, VersionSegment};

/// Threads share a map only where there are more of them than maps.
const SHARDS: usize = 16;
/// Counters that wait in one map; downloads beyond them are counted as others.
const MOST_WAITING: usize = 4096;
/// As many are taken into the table at once, before the next interval.
const MANY_WAITING: usize = MOST_WAITING / 2;

/// What one counter counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageKey {
    pub day: UsageDay,
    pub route: Arc<str>,
    pub project: ProjectName,
    pub version: VersionSegment,
    pub identity: Option<Arc<str>>,
}

/// The same as it is looked up: nothing of it is owned.
#[derive(PartialEq, Eq, Hash)]
struct UsageKeyView<'a> {
    day: UsageDay,
    route: &'a str,
    project: &'a str,
    version: &'a str,
    identity: Option<&'a str>,
}

/// Lets a map of keys be asked with a view.
trait Viewed {
    fn view(&self) -> UsageKeyView<'_>;
}

impl Viewed for UsageKey {
    fn view(&self) -> UsageKeyView<'_> {
        UsageKeyView {
            day: self.day,
            route: &self.route,
            project: self.project.as_str(),
            version: self.version.as_str(),
            identity: self.identity.as_deref(),
        }
    }
}

impl Viewed for UsageKeyView<'_> {
    fn view(&self) -> UsageKeyView<'_> {
        UsageKeyView { ..*self }
    }
}

impl Hash for dyn Viewed + '_ {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.view().hash(state);
    }
}

impl PartialEq for dyn Viewed + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.view() == other.view()
    }
}

impl Eq for dyn Viewed + '_ {}

impl Hash for UsageKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.view().hash(state);
    }
}

impl<'a> Borrow<dyn Viewed + 'a> for UsageKey {
    fn borrow(&self) -> &(dyn Viewed + 'a) {
        self
    }
}

type Waiting = HashMap<UsageKey, Tally, RandomState>;

/// Counts downloads on any thread.
#[derive(Default)]
pub struct UsageCounter {
    shards: [Mutex<Waiting>; SHARDS],
    /// Downloads for which there was no place.
    missed: AtomicU64,
    many: Notify,
}

thread_local! {
    static SHARD: Cell<Option<usize>> = const { Cell::new(None) };
}

/// The position of this thread's map.
fn shard() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    SHARD.get().unwrap_or_else(|| {
        let position = THREADS.fetch_add(1, Ordering::Relaxed) % SHARDS;
        SHARD.set(Some(position));
        position
    })
}

impl UsageCounter {
    /// Counts one download, at so many seconds since the Unix epoch.
    pub fn count(&self, route: &Arc<str>, file: &FileAddress, identity: Option<&Arc<str>>, at: u64) {
        let day = UsageDay::of(at);
        let view = UsageKeyView {
            day,
            route,
            project: file.project.as_str(),
            version: file.version.as_str(),
            identity: identity.map(AsRef::as_ref),
        };
        let mut waiting = self.shards[shard()].lock();
        if let Some(tally) = waiting.get_mut(&view as &dyn Viewed) {
            return tally.add(Tally::once(at));
        }
        if waiting.len() >= MOST_WAITING {
            self.missed.fetch_add(1, Ordering::Relaxed);
        } else {
            let (route, project, version) = (Arc::clone(route), file.project.clone(), file.version.clone());
            let key = UsageKey { day, route, project, version, identity: identity.map(Arc::clone) };
            waiting.insert(key, Tally::once(at));
        }
        if waiting.len() >= MANY_WAITING {
            self.many.notify_one();
        }
    }

    /// Resolves when so much waits that it should be taken.
    pub async fn many(&self) {
        self.many.notified().await;
    }

    /// Takes what waits, and how many downloads found no place.
    pub fn take(&self) -> (Vec<(UsageKey, Tally)>, u64) {
        let mut taken = Vec::new();
        for shard in &self.shards {
            // The map keeps its memory, so that the next one who counts need not ask for it.
            let mut waiting = shard.lock();
            taken.extend(waiting.drain());
            waiting.shrink_to(MANY_WAITING);
        }
        (taken, self.missed.swap(0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(project: &str, version: &str) -> FileAddress {
        FileAddress {
            project: ProjectName::parse(project).expect("a project"),
            version: VersionSegment::parse(version).expect("a version"),
            file: wheelport_index::FileName::parse("a-1.tar.gz").expect("a file name"),
        }
    }

    #[test]
    fn downloads_are_counted_by_day_route_project_version_and_identity() {
        let counter = UsageCounter::default();
        let (main, other, ci): (Arc<str>, Arc<str>, Arc<str>) = ("main".into(), "other".into(), "ci".into());
        for at in [86_399, 10, 86_400] {
            counter.count(&main, &file("a", "1"), None, at);
        }
        counter.count(&main, &file("a", "1"), Some(&ci), 20);
        counter.count(&main, &file("a", "2"), None, 20);
        counter.count(&main, &file("b", "1"), None, 20);
        counter.count(&other, &file("a", "1"), None, 20);
        let (mut taken, missed) = counter.take();
        taken.sort_by_key(|(key, _)| (key.view().route.to_owned(), key.project.clone(), key.version.clone(), key.day));
        assert_eq!((taken.len(), missed), (6, 0));
        assert!(taken.iter().any(|(_, tally)| *tally == Tally { count: 2, first: 10, last: 86_399 }), "{taken:?}");
        assert!(counter.take().0.is_empty());
    }

    #[test]
    fn what_finds_no_place_is_counted() {
        let counter = UsageCounter::default();
        let route: Arc<str> = "main".into();
        for number in 0..MOST_WAITING + 3 {
            counter.count(&route, &file("a", &number.to_string()), None, 0);
        }
        counter.count(&route, &file("a", "0"), None, 0);
        let (taken, missed) = counter.take();
        assert_eq!((taken.len(), missed), (MOST_WAITING, 3));
    }

    #[test]
    fn all_threads_are_counted() {
        let counter = UsageCounter::default();
        let route: Arc<str> = "main".into();
        std::thread::scope(|scope| {
            for _ in 0..2 * SHARDS {
                scope.spawn(|| {
                    for _ in 0..100 {
                        counter.count(&route, &file("a", "1"), None, 0);
                    }
                });
            }
        });
        let counted: u64 = counter.take().0.iter().map(|(_, tally)| tally.count).sum();
        assert_eq!(counted, 3200);
    }
}
