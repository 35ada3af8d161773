//! A queue that is fair between clients: pure bookkeeping, without time and without waiting.
//!
//! Clients take turns, so one with a thousand entries delays another's single one by one entry, not by a thousand. What
//! is done for nobody in particular comes last, but gets one turn in [`BACKGROUND_TURN`], so that it is never starved:
//! somebody may have joined it since. The queue is bounded, and when it is full, the one with the most entries
//! loses its newest.

use std::collections::{HashMap, VecDeque};

use wheelport_runtime::Priority;

/// While clients wait, every so-many-eth turn is for the background.
const BACKGROUND_TURN: u32 = 10;

/// Entries by caller.
#[derive(Debug)]
pub(super) struct FairQueue<T> {
    clients: HashMap<Priority, VecDeque<T>>,
    /// The clients with entries, the next one first.
    rotation: VecDeque<Priority>,
    background: VecDeque<T>,
    /// Turns of clients since the background had one.
    clients_in_a_row: u32,
    len: usize,
    limit: usize,
}

impl<T> FairQueue<T> {
    /// An empty queue for at most so many entries.
    pub fn new(limit: usize) -> Self {
        Self {
            clients: HashMap::new(),
            rotation: VecDeque::new(),
            background: VecDeque::new(),
            clients_in_a_row: 0,
            len: 0,
            limit: limit.max(1),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds an entry. `Ok` may hold the entry that had to leave for it, `Err` is the new entry, for which there is no room.
    pub fn push(&mut self, caller: Priority, entry: T) -> Result<Option<T>, T> {
        let displaced = if self.len < self.limit {
            None
        } else {
            match self.displace(caller) {
                Some(displaced) => Some(displaced),
                None => return Err(entry),
            }
        };
        self.len += 1;
        match caller {
            Priority::Background => self.background.push_back(entry),
            Priority::Client(_) => {
                let entries = self.clients.entry(caller).or_default();
                if entries.is_empty() {
                    self.rotation.push_back(caller);
                }
                entries.push_back(entry);
            }
        }
        Ok(displaced)
    }

    /// The entry whose turn is next.
    pub fn peek(&self) -> Option<&T> {
        if self.is_backgrounds_turn() {
            return self.background.front();
        }
        self.clients.get(self.rotation.front()?)?.front()
    }

    /// Takes out the entry whose turn it is.
    pub fn pop(&mut self) -> Option<T> {
        let entry = if self.is_backgrounds_turn() {
            self.clients_in_a_row = 0;
            self.background.pop_front()?
        } else {
            let caller = self.rotation.pop_front()?;
            let entries = self.clients.get_mut(&caller)?;
            let entry = entries.pop_front()?;
            if entries.is_empty() {
                self.clients.remove(&caller);
            } else {
                self.rotation.push_back(caller);
            }
            self.clients_in_a_row = self.clients_in_a_row.saturating_add(1);
            entry
        };
        self.len -= 1;
        Some(entry)
    }

    /// Takes out an entry that no longer waits.
    pub fn remove(&mut self, caller: Priority, is_it: impl Fn(&T) -> bool) -> bool {
        let entries = match caller {
            Priority::Background => Some(&mut self.background),
            Priority::Client(_) => self.clients.get_mut(&caller),
        };
        let Some(entries) = entries else { return false };
        let Some(at) = entries.iter().position(is_it) else { return false };
        entries.remove(at);
        if entries.is_empty() && self.clients.remove(&caller).is_some() {
            self.rotation.retain(|waiting| *waiting != caller);
        }
        self.len -= 1;
        true
    }

    fn is_backgrounds_turn(&self) -> bool {
        !self.background.is_empty() && (self.rotation.is_empty() || self.clients_in_a_row + 1 >= BACKGROUND_TURN)
    }

    /// Makes room at the cost of whoever has more entries than the newcomer would have.
    fn displace(&mut self, newcomer: Priority) -> Option<T> {
        if newcomer == Priority::Background {
            return None;
        }
        let displaced = self.background.pop_back().or_else(|| {
            let own = self.clients.get(&newcomer).map_or(0, VecDeque::len);
            // More than one more, so the loser keeps an entry and its place in the rotation.
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

    fn drained<T>(queue: &mut FairQueue<T>) -> Vec<T> {
        std::iter::from_fn(|| queue.pop()).collect()
    }

    #[test]
    fn clients_take_turns_and_each_is_served_in_order() {
        let mut queue = FairQueue::new(100);
        for entry in ["a1", "a2", "a3", "a4"] {
            queue.push(client(1), entry).expect("room");
        }
        queue.push(client(2), "b1").expect("room");
        queue.push(client(3), "c1").expect("room");
        queue.push(client(3), "c2").expect("room");
        assert_eq!(queue.peek(), Some(&"a1"));
        assert_eq!(drained(&mut queue), ["a1", "b1", "c1", "a2", "c2", "a3", "a4"]);
        assert!(queue.is_empty());
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
        let behind: Vec<usize> = (0..order.len()).filter(|at| order[*at] == "behind").collect();
        assert_eq!(behind, [9, 19, 22]);
    }

    #[test]
    fn when_it_is_full_the_longest_loses_its_newest() {
        let mut queue = FairQueue::new(4);
        queue.push(Priority::Background, "behind").expect("room");
        for entry in ["a1", "a2", "a3"] {
            queue.push(client(1), entry).expect("room");
        }
        assert_eq!(queue.push(Priority::Background, "more"), Err("more"));
        assert_eq!(queue.push(client(1), "a4"), Ok(Some("behind")));
        assert_eq!(queue.push(client(1), "a5"), Err("a5"), "nobody has more");
        assert_eq!(queue.push(client(2), "b1"), Ok(Some("a4")));
        assert_eq!(queue.push(client(2), "b2"), Ok(Some("a3")));
        assert_eq!(queue.push(client(2), "b3"), Err("b3"), "it has as many as the other now");
        assert_eq!(drained(&mut queue), ["a1", "b1", "a2", "b2"]);
    }

    #[test]
    fn who_leaves_is_forgotten() {
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
