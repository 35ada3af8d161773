//! A queue that is fair between clients: pure bookkeeping, without time and without waiting.
//!
//! Clients are served in rotation, so a client with a thousand entries delays another's single one by one entry, not by
//! a thousand. Background work comes last, but gets one entry in [`BACKGROUND_SHARE`], so that it is never starved: a
//! client may have joined it since. The queue is bounded; when it is full, the client with the most entries loses its
//! newest.

use std::collections::{HashMap, VecDeque};

use super::priority::Priority;
use crate::sabotage::sabotaged;

/// While clients wait, one entry in this many is taken from the background.
const BACKGROUND_SHARE: u32 = 10;

/// Entries by client, and those of the background.
#[derive(Debug)]
pub(super) struct FairQueue<T> {
    clients: HashMap<Priority, VecDeque<T>>,
    /// The clients with entries, the next one first.
    rotation: VecDeque<Priority>,
    background: VecDeque<T>,
    /// Entries of clients served since the last one of the background.
    clients_in_a_row: u32,
    len: usize,
    limit: usize,
}

impl<T> FairQueue<T> {
    /// An empty queue that holds at most `limit` entries.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            clients: HashMap::new(),
            rotation: VecDeque::new(),
            background: VecDeque::new(),
            clients_in_a_row: 0,
            len: 0,
            limit: limit.max(1),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds an entry. `Ok` may hold the entry that was displaced by it; `Err` returns the new entry when the queue has
    /// no room for it.
    pub(super) fn push(&mut self, priority: Priority, entry: T) -> Result<Option<T>, T> {
        let displaced = if self.len < self.limit {
            None
        } else {
            match self.displace(priority) {
                Some(displaced) => Some(displaced),
                None => return Err(entry),
            }
        };
        self.len += 1;
        match priority {
            Priority::Background => self.background.push_back(entry),
            Priority::Client(_) => {
                let entries = self.clients.entry(priority).or_default();
                if entries.is_empty() {
                    self.rotation.push_back(priority);
                }
                entries.push_back(entry);
            }
        }
        Ok(displaced)
    }

    /// Whose entry comes next, of those whose turn it may be.
    pub(super) fn next(&self, allowed: impl Fn(Priority) -> bool) -> Option<Priority> {
        let background = || Some(Priority::Background).filter(|next| !self.background.is_empty() && allowed(*next));
        if self.clients_in_a_row + 1 >= BACKGROUND_SHARE {
            background().or_else(|| self.next_client(&allowed))
        } else {
            self.next_client(&allowed).or_else(background)
        }
    }

    fn next_client(&self, allowed: impl Fn(Priority) -> bool) -> Option<Priority> {
        self.rotation.iter().copied().find(|client| allowed(*client))
    }

    /// The first entry of this priority.
    pub(super) fn peek(&self, priority: Priority) -> Option<&T> {
        match priority {
            Priority::Background => self.background.front(),
            Priority::Client(_) => self.clients.get(&priority)?.front(),
        }
    }

    /// Takes the first entry of this priority, whose turn is over then.
    pub(super) fn pop(&mut self, priority: Priority) -> Option<T> {
        let entry = if priority == Priority::Background {
            self.clients_in_a_row = 0;
            self.background.pop_front()?
        } else {
            let entries = self.clients.get_mut(&priority)?;
            let entry = entries.pop_front()?;
            self.rotation.retain(|client| *client != priority);
            if entries.is_empty() {
                self.clients.remove(&priority);
            } else {
                self.rotation.push_back(priority);
                if sabotaged("rotation") {
                    self.rotation.rotate_right(1);
                }
            }
            self.clients_in_a_row = self.clients_in_a_row.saturating_add(1);
            entry
        };
        self.len -= 1;
        Some(entry)
    }

    /// Removes the first entry of this priority that `matches`. Returns whether there was one.
    pub(super) fn remove(&mut self, priority: Priority, matches: impl Fn(&T) -> bool) -> bool {
        let entries = match priority {
            Priority::Background => Some(&mut self.background),
            Priority::Client(_) => self.clients.get_mut(&priority),
        };
        let Some(entries) = entries else { return false };
        let Some(index) = entries.iter().position(matches) else { return false };
        entries.remove(index);
        if entries.is_empty() && self.clients.remove(&priority).is_some() {
            self.rotation.retain(|client| *client != priority);
        }
        self.len -= 1;
        true
    }

    /// Frees one entry at the cost of the background, or of a client that has more entries than the newcomer would.
    fn displace(&mut self, newcomer: Priority) -> Option<T> {
        if newcomer == Priority::Background {
            return None;
        }
        let displaced = self.background.pop_back().or_else(|| {
            let own = self.clients.get(&newcomer).map_or(0, VecDeque::len);
            // More than one more, so the loser keeps an entry and its position in the rotation.
            let longest = self.clients.values_mut().max_by_key(|entries| entries.len())?;
            if longest.len() > own + 1 { longest.pop_back() } else { None }
        })?;
        self.len -= 1;
        Some(displaced)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    fn client(number: u8) -> Priority {
        Priority::client(IpAddr::V4(Ipv4Addr::new(10, 0, 0, number)))
    }

    fn pop<T>(queue: &mut FairQueue<T>) -> Option<T> {
        let next = queue.next(|_| true)?;
        queue.pop(next)
    }

    fn drained<T>(queue: &mut FairQueue<T>) -> Vec<T> {
        std::iter::from_fn(|| pop(queue)).collect()
    }

    #[test]
    fn clients_are_served_in_rotation_and_each_in_order() {
        let mut queue = FairQueue::new(100);
        for entry in ["a1", "a2", "a3", "a4"] {
            queue.push(client(1), entry).expect("room");
        }
        queue.push(client(2), "b1").expect("room");
        queue.push(client(3), "c1").expect("room");
        queue.push(client(3), "c2").expect("room");
        assert_eq!(queue.next(|_| true).and_then(|next| queue.peek(next)), Some(&"a1"));
        assert_eq!(drained(&mut queue), ["a1", "b1", "c1", "a2", "c2", "a3", "a4"]);
        assert!(queue.is_empty());
    }

    #[test]
    fn a_client_whose_turn_it_may_not_be_is_passed_over_and_keeps_its_position() {
        let mut queue = FairQueue::new(100);
        for (number, entry) in [(1, "a1"), (1, "a2"), (2, "b1")] {
            queue.push(client(number), entry).expect("room");
        }
        queue.push(Priority::Background, "behind").expect("room");
        let other = queue.next(|priority| priority != client(1)).expect("another client");
        assert_eq!(queue.pop(other), Some("b1"));
        assert_eq!(queue.next(|priority| priority != client(1)), Some(Priority::Background));
        assert_eq!(drained(&mut queue), ["a1", "a2", "behind"]);
    }

    #[test]
    fn the_background_comes_last_but_is_not_starved() {
        let mut queue = FairQueue::new(100);
        for _ in 0..3 {
            queue.push(Priority::Background, "behind").expect("room");
        }
        for _ in 0..20 {
            queue.push(client(1), "client").expect("room");
        }
        let order = drained(&mut queue);
        let behind: Vec<usize> = (0..order.len()).filter(|index| order[*index] == "behind").collect();
        assert_eq!(behind, [9, 19, 22]);
    }

    #[test]
    fn a_full_queue_displaces_the_newest_entry_of_the_longest() {
        let mut queue = FairQueue::new(4);
        queue.push(Priority::Background, "behind").expect("room");
        for entry in ["a1", "a2", "a3"] {
            queue.push(client(1), entry).expect("room");
        }
        assert_eq!(queue.push(Priority::Background, "more"), Err("more"));
        assert_eq!(queue.push(client(1), "a4"), Ok(Some("behind")));
        assert_eq!(queue.push(client(1), "a5"), Err("a5"), "no client has more");
        assert_eq!(queue.push(client(2), "b1"), Ok(Some("a4")));
        assert_eq!(queue.push(client(2), "b2"), Ok(Some("a3")));
        assert_eq!(queue.push(client(2), "b3"), Err("b3"), "it has as many as the other now");
        assert_eq!(drained(&mut queue), ["a1", "b1", "a2", "b2"]);
    }

    #[test]
    fn a_removed_entry_is_forgotten() {
        let mut queue = FairQueue::new(10);
        queue.push(client(1), 1).expect("room");
        queue.push(client(2), 2).expect("room");
        queue.push(client(2), 3).expect("room");
        assert!(queue.remove(client(1), |entry| *entry == 1));
        assert!(!queue.remove(client(1), |entry| *entry == 1));
        assert!(queue.remove(client(2), |entry| *entry == 2));
        assert_eq!(drained(&mut queue), [3]);
    }
}
