//! One fill per key. The leader is a task of ours, never a client's: a client that leaves stops nothing.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use wheelport_runtime::Tasks;

/// The fills under way, by key. `V` is what those who join share: a channel, or a growing file. Cheap to clone.
pub struct Flights<K, V> {
    under_way: Arc<Mutex<HashMap<K, V>>>,
}

impl<K, V> Clone for Flights<K, V> {
    fn clone(&self) -> Self {
        Self { under_way: Arc::clone(&self.under_way) }
    }
}

impl<K, V> Default for Flights<K, V> {
    fn default() -> Self {
        Self { under_way: Arc::default() }
    }
}

impl<K, V> Flights<K, V>
where
    K: Hash + Eq + Clone + Send + 'static,
    V: Clone + Send + 'static,
{
    /// Joins the fill for `key`, or starts one: `start` makes what is shared and the leader's work.
    ///
    /// Returns what is shared, and whether this call started the fill. The key is free again as soon as the leader's
    /// work ended in any way, a panic included.
    pub fn join<F>(&self, key: K, tasks: &Tasks, name: &'static str, start: impl FnOnce() -> (V, F)) -> (V, bool)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = under_way.get(&key) {
            return (shared.clone(), false);
        }
        let (shared, work) = start();
        under_way.insert(key.clone(), shared.clone());
        let landing = Landing { flights: self.clone(), key };
        drop(under_way);
        tasks.spawn(name, async move {
            let _landing = landing;
            work.await;
        });
        (shared, true)
    }

    /// How many fills are under way.
    pub fn len(&self) -> usize {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether no fill is under way.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Frees the key when the leader is done or dropped.
struct Landing<K: Hash + Eq, V> {
    flights: Flights<K, V>,
    key: K,
}

impl<K: Hash + Eq, V> Drop for Landing<K, V> {
    fn drop(&mut self) {
        self.flights.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::{oneshot, watch};

    use super::*;

    #[tokio::test]
    async fn those_who_come_later_join_the_leader() {
        let (flights, tasks) = (Flights::<u8, watch::Receiver<u8>>::default(), Tasks::new());
        let (release, released) = oneshot::channel::<()>();
        let (sender, receiver) = watch::channel(0);
        let (mut first, led) = flights.join(1, &tasks, "test", || {
            (receiver, async move {
                let _ = released.await;
                sender.send_replace(7);
            })
        });
        assert!(led);
        let (mut second, led) =
            flights.join(1, &tasks, "test", || (first.clone(), async { unreachable!("a second leader") }));
        assert!(!led);
        let _ = release.send(());
        for waiter in [&mut first, &mut second] {
            assert_eq!(waiter.wait_for(|value| *value != 0).await.map(|value| *value).ok(), Some(7));
        }
    }

    #[tokio::test]
    async fn a_leader_that_panics_frees_the_key() {
        let (flights, tasks) = (Flights::<u8, watch::Receiver<u8>>::default(), Tasks::new());
        let (sender, receiver) = watch::channel(0);
        let (mut waiter, _) = flights.join(1, &tasks, "test", || {
            (receiver, async move {
                let _sender = sender;
                panic!("on purpose");
            })
        });
        assert!(waiter.changed().await.is_err(), "the channel closes with the leader");
        assert!(tasks.join(std::time::Duration::from_secs(5)).await);
        assert!(flights.is_empty());
    }
}
