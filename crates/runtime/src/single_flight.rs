//! Single flight: one piece of work per key at a time; every caller that asks for it meanwhile shares the outcome.
//!
//! The work runs as a task of the process or in the leader's own task, never in a client's future, so a client that
//! disconnects cancels nothing. The key is free again before followers see the outcome, and also when the leader
//! panics.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::joined::Joined;
use super::tasks::Tasks;

/// The work in progress, by key. `S` is what followers share: a [`Joined`] outcome, or something richer such as a file
/// that is read while it grows. Cheap to clone.
pub struct SingleFlight<K, S> {
    running: Arc<Mutex<HashMap<K, S>>>,
}

/// Whether a call started the work or joined it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It started the work.
    Leader,
    /// It joined work that was in progress.
    Follower,
}

/// What [`SingleFlight::enter`] found.
pub enum Entered<K: Hash + Eq, T> {
    /// The key was free: the caller does the work.
    Leader(Leader<K, T>),
    /// The work is in progress; the caller can wait for its outcome.
    Follower(Joined<T>),
}

/// The exclusive right to work on a key, and the duty to report the outcome. Dropping it frees the key without one.
pub struct Leader<K: Hash + Eq, T> {
    key: ClaimedKey<K, Joined<T>>,
    outcome: watch::Sender<Option<T>>,
}

/// A key of the leader, and what only the leader needs to start.
type Claim<K, S, L> = (ClaimedKey<K, S>, L);

impl<K, S> Default for SingleFlight<K, S> {
    fn default() -> Self {
        Self { running: Arc::default() }
    }
}

impl<K, S> Clone for SingleFlight<K, S> {
    fn clone(&self) -> Self {
        Self { running: Arc::clone(&self.running) }
    }
}

impl<K, S> SingleFlight<K, S>
where
    K: Hash + Eq + Clone + Send + 'static,
    S: Clone + Send + 'static,
{
    /// Shares the work for `key`, or starts it as a task: `start` makes what is shared and the work itself.
    pub fn share<F>(&self, key: K, tasks: &Tasks, name: &'static str, start: impl FnOnce() -> (S, F)) -> (S, Role)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (shared, claim) = self.claim(key, start);
        let Some((key, work)) = claim else { return (shared, Role::Follower) };
        tasks.spawn(name, async move {
            let _key = key;
            work.await;
        });
        (shared, Role::Leader)
    }

    /// How many keys have work in progress.
    pub fn len(&self) -> usize {
        self.running.lock().len()
    }

    /// Whether no work is in progress.
    pub fn is_empty(&self) -> bool {
        self.running.lock().is_empty()
    }

    /// What is shared under `key`. If the key was free, `begin` makes that, and the caller gets the key and whatever
    /// else `begin` returns.
    fn claim<L>(&self, key: K, begin: impl FnOnce() -> (S, L)) -> (S, Option<Claim<K, S, L>>) {
        let mut running = self.running.lock();
        if let Some(shared) = running.get(&key) {
            return (shared.clone(), None);
        }
        let (shared, lead) = begin();
        running.insert(key.clone(), shared.clone());
        (shared, Some((ClaimedKey { running: Arc::clone(&self.running), key }, lead)))
    }
}

impl<K, T> SingleFlight<K, Joined<T>>
where
    K: Hash + Eq + Clone + Send + 'static,
    T: Clone + Send + Sync + 'static,
{
    /// Joins the work for `key`, or starts it as a task. `work` is only called to start it.
    pub fn run<F>(&self, key: K, tasks: &Tasks, name: &'static str, work: impl FnOnce() -> F) -> (Joined<T>, Role)
    where
        F: Future<Output = T> + Send + 'static,
    {
        let (joined, claim) = self.claim(key, Joined::pending);
        let Some((key, outcome)) = claim else { return (joined, Role::Follower) };
        let (leader, work) = (Leader { key, outcome }, work());
        tasks.spawn(name, async move { leader.finish(work.await) });
        (joined, Role::Leader)
    }

    /// Joins the work for `key`, or makes the caller its leader, which does the work in its own task.
    pub fn enter(&self, key: K) -> Entered<K, T> {
        match self.claim(key, Joined::pending) {
            (_, Some((key, outcome))) => Entered::Leader(Leader { key, outcome }),
            (joined, None) => Entered::Follower(joined),
        }
    }
}

impl<K: Hash + Eq, T> Leader<K, T> {
    /// Frees the key and tells the followers.
    pub fn finish(self, outcome: T) {
        drop(self.key);
        self.outcome.send_replace(Some(outcome));
    }
}

/// A key that is taken until this is dropped.
struct ClaimedKey<K: Hash + Eq, S> {
    running: Arc<Mutex<HashMap<K, S>>>,
    key: K,
}

impl<K: Hash + Eq, S> Drop for ClaimedKey<K, S> {
    fn drop(&mut self) {
        self.running.lock().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::super::joined::JoinError;
    use super::*;

    type Flights = SingleFlight<u8, Joined<u8>>;

    #[tokio::test]
    async fn followers_share_the_outcome_of_the_leader() {
        let (flights, tasks) = (Flights::default(), Tasks::new());
        let (release, released) = oneshot::channel::<()>();
        let (first, role) = flights.run(1, &tasks, "test", || async {
            let _ = released.await;
            7
        });
        assert_eq!(role, Role::Leader);
        let (second, role) = flights.run(1, &tasks, "test", || async { unreachable!("a second leader") });
        assert_eq!((role, flights.len()), (Role::Follower, 1));
        let _ = release.send(());
        assert_eq!((first.finished().await, second.finished().await), (Ok(7), Ok(7)));
        assert!(flights.is_empty(), "the key is free before anyone hears of the outcome");
    }

    #[tokio::test]
    async fn a_leader_that_panics_frees_the_key() {
        let (flights, tasks) = (Flights::default(), Tasks::new());
        let (joined, _) = flights.run(1, &tasks, "test", || async { panic!("on purpose") });
        assert_eq!(joined.finished().await, Err(JoinError::Lost));
        assert!(tasks.join(Duration::from_secs(5)).await);
        assert!(flights.is_empty());
    }

    #[tokio::test]
    async fn a_leader_in_its_own_task_is_followed_until_it_finishes_or_leaves() {
        let flights = Flights::default();
        let Entered::Leader(leader) = flights.enter(1) else { panic!("the key was free") };
        let Entered::Follower(joined) = flights.enter(1) else { panic!("the key is taken") };
        leader.finish(7);
        assert_eq!(joined.finished().await, Ok(7));
        let Entered::Leader(leader) = flights.enter(1) else { panic!("the key is free again") };
        let Entered::Follower(joined) = flights.enter(1) else { panic!("the key is taken") };
        drop(leader);
        assert_eq!(joined.finished().await, Err(JoinError::Lost));
        assert!(matches!(flights.enter(1), Entered::Leader(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_times_out_leaves_the_work_running() {
        let (flights, tasks) = (Flights::default(), Tasks::new());
        let (joined, _) = flights.run(1, &tasks, "test", || async {
            tokio::time::sleep(Duration::from_secs(10)).await;
            7
        });
        assert_eq!(joined.clone().within(Duration::from_secs(1)).await, Err(JoinError::Elapsed));
        assert_eq!(joined.within(Duration::from_secs(10)).await, Ok(7));
    }

    #[tokio::test]
    async fn what_is_shared_can_be_richer_than_an_outcome() {
        let (flights, tasks) = (SingleFlight::<u8, Arc<str>>::default(), Tasks::new());
        let (release, released) = oneshot::channel::<()>();
        let start = || ("growing".into(), async { drop(released.await) });
        assert_eq!(flights.share(1, &tasks, "test", start), ("growing".into(), Role::Leader));
        let again = flights.share(1, &tasks, "test", || ("other".into(), async {}));
        assert_eq!(again, ("growing".into(), Role::Follower));
        let _ = release.send(());
        assert!(tasks.join(Duration::from_secs(5)).await);
        assert!(flights.is_empty());
    }
}
