//! Tokens that were given back before they expired, among replicas: a token that is given back to one is good for
//! nothing on any.
//!
//! ```text
//! given back here ─► the record in the store, merged on condition ─► hint ─► the others
//! ```
//!
//! The store holds them where there is one, so that a replica that hears no hints, or starts later, looks them up. With
//! Redis alone there is nothing to look up, so a replica repeats its own until they expire: the others may have been
//! away. What is told are numbers, which are good for nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{Receiver, channel};
use tokio::time::{Instant, sleep_until};

use crate::fleet::{
    Fleet, Heard, Hint, HintListener, HintSent, ObjectKey, ObjectStore, ObjectTag, ObjectWrite, StoreError,
};
use crate::identity::{Identities, TokenId};
use wheelport_runtime::{Clock, Tasks, sabotaged};

/// Tokens that were given back and that others wait to be told of; more are not told.
const WAITING_BURNT: usize = 1024;
/// Tokens that this replica tells of until they expire; of more, the first to expire are told no longer.
const MOST_TOLD: usize = 10_000;
/// How often they are told again with Redis alone.
const TELL_AGAIN: Duration = Duration::from_secs(30);
/// How soon that is tried again where Redis, or the store, is away.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// How often the record in the store is looked at while hints are heard.
const LOOK_RARELY: Duration = Duration::from_secs(30);
/// How often it is looked at while they are not.
const LOOK_OFTEN: Duration = Duration::from_millis(800);
/// How often the record is read and written again because another replica has changed it meanwhile.
const MERGE_TRIES: u32 = 8;
/// The longest record, in bytes.
const LARGEST_RECORD: usize = 4 << 20;
/// Tokens in the record at most; beyond that the first to expire are left out.
const MOST_SHARED: usize = 50_000;

/// Tokens by their numbers, in hexadecimal digits, and when each expires, in seconds since the epoch.
type BurntRecord = BTreeMap<String, u64>;

/// Shares what is given back, as far as anything is shared.
pub(super) fn share(identities: &Arc<Identities>, fleet: &Fleet, clock: Clock, tasks: &Tasks) {
    if fleet.is_alone() {
        return;
    }
    let (given_back, to_tell) = channel(WAITING_BURNT);
    identities.on_burn(Arc::new(move |TokenId(id), until| {
        let _ = given_back.try_send((u128::from_be_bytes(id), until));
    }));
    let sharing = BurntSharing {
        fleet: fleet.clone(),
        identities: Arc::clone(identities),
        clock,
        own: BTreeMap::new(),
        is_untold: false,
        seen: None,
    };
    tasks.spawn_loop("share burnt tokens", sharing.run(to_tell, fleet.hints().listen()));
}

struct BurntSharing {
    fleet: Fleet,
    identities: Arc<Identities>,
    clock: Clock,
    /// What was given back here and has not expired; with a store, what is not in it yet.
    own: BTreeMap<u128, u64>,
    /// Whether some of that was not told yet.
    is_untold: bool,
    /// The version of the record that was read last.
    seen: Option<ObjectTag>,
}

impl BurntSharing {
    async fn run(mut self, mut given_back: Receiver<(u128, u64)>, mut hints: HintListener) {
        let mut next = Instant::now();
        loop {
            let is_due = tokio::select! {
                Some((token, until)) = given_back.recv() => {
                    self.remember(token, until);
                    true
                }
                Some(heard) = hints.next() => self.hear(&heard),
                () = sleep_until(next) => true,
            };
            if is_due {
                let pause = self.round().await;
                next = Instant::now() + pause;
            }
        }
    }

    fn remember(&mut self, token: u128, until: u64) {
        self.own.insert(token, until);
        self.is_untold = true;
        if self.own.len() > MOST_TOLD
            && let Some(first) = self.own.iter().min_by_key(|(_, until)| **until).map(|(token, _)| *token)
        {
            self.own.remove(&first);
        }
    }

    /// Says whether there is something to do now.
    fn hear(&self, heard: &Heard) -> bool {
        match *heard {
            Heard::Hint(Hint::Burnt { token, until }) => {
                if !sabotaged("burnt-elsewhere") {
                    self.identities.burn(TokenId(token.to_be_bytes()), until);
                }
                false
            }
            Heard::Gap => true,
            Heard::Hint(_) => false,
        }
    }

    /// Tells what there is to tell, and looks at what others have told. Returns when to do so again.
    async fn round(&mut self) -> Duration {
        let now = self.clock.unix_seconds();
        self.own.retain(|_, until| *until > now);
        let Some(store) = self.fleet.store().cloned() else {
            let pause = if self.tell().await { TELL_AGAIN } else { TRY_AGAIN };
            if sabotaged("burnt-again") {
                self.own.clear();
            }
            return pause;
        };
        match self.agree(&store).await {
            Ok(()) => {
                self.tell().await;
                self.own.clear();
                if self.fleet.hints().is_hearing() { LOOK_RARELY } else { LOOK_OFTEN }
            }
            Err(error) => {
                tracing::debug!(%error, "the tokens that were given back to other replicas are not known");
                if self.is_untold {
                    self.tell().await;
                }
                TRY_AGAIN
            }
        }
    }

    /// Tells of what was given back here. Says whether Redis took all of it.
    async fn tell(&mut self) -> bool {
        let mut is_told = true;
        for (&token, &until) in &self.own {
            is_told &= self.fleet.hints().send(Hint::Burnt { token, until }).await == HintSent::Sent;
        }
        self.is_untold = !is_told;
        is_told
    }

    /// Takes in the record in the store, and adds to it what was given back here.
    async fn agree(&mut self, store: &ObjectStore) -> Result<(), StoreError> {
        let key = ObjectKey::burnt();
        if sabotaged("burnt-store") {
            return Ok(());
        }
        for attempt in 1..=MERGE_TRIES {
            // What is to be added needs the whole record; else another version alone is worth reading.
            let known = self.seen.as_ref().filter(|_| self.own.is_empty());
            let (record, tag) = match store.read(&key, known, LARGEST_RECORD).await {
                Ok((bytes, tag)) => (read_record(&bytes), tag),
                Err(StoreError::Missing) => (BurntRecord::new(), None),
                Err(StoreError::NotModified) => return Ok(()),
                Err(error) => return Err(error),
            };
            self.take_in(&record);
            self.seen.clone_from(&tag);
            let Some(bytes) = merged(record, &self.own, self.clock.unix_seconds()) else { return Ok(()) };
            match store.put(&key, bytes.into(), tag.map_or(ObjectWrite::Create, ObjectWrite::Replace)).await {
                Ok(tag) => {
                    self.seen = Some(tag);
                    return Ok(());
                }
                Err(StoreError::Exists | StoreError::Missing) if attempt < MERGE_TRIES => {
                    tokio::time::sleep(Duration::from_millis(10).mul_f64(f64::from(attempt) * fastrand::f64())).await;
                }
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::Raced)
    }

    fn take_in(&self, record: &BurntRecord) {
        let now = self.clock.unix_seconds();
        for (token, &until) in record {
            if let Ok(token) = u128::from_str_radix(token, 16)
                && until > now
            {
                self.identities.burn(TokenId(token.to_be_bytes()), until);
            }
        }
    }
}

/// What cannot be read counts as empty: it is bounded, and what it held expires within minutes.
fn read_record(bytes: &[u8]) -> BurntRecord {
    serde_json::from_slice(bytes).unwrap_or_else(|error| {
        tracing::warn!(%error, "the record of tokens that were given back is not legible and is begun again");
        BurntRecord::new()
    })
}

/// The record with these tokens and without those that have expired; none if it has all of them.
fn merged(mut record: BurntRecord, own: &BTreeMap<u128, u64>, now: u64) -> Option<Vec<u8>> {
    let name = |token: &u128| format!("{token:032x}");
    if own.keys().all(|token| record.contains_key(&name(token))) {
        return None;
    }
    record.extend(own.iter().map(|(token, until)| (name(token), *until)));
    record.retain(|_, until| *until > now);
    while record.len() > MOST_SHARED {
        let first = record.iter().min_by_key(|(_, until)| **until).map(|(token, _)| token.clone())?;
        record.remove(&first);
    }
    serde_json::to_vec(&record).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_has_what_both_had_and_has_not_expired() {
        let own = BTreeMap::from([(1, 100), (2, 10)]);
        let record = BurntRecord::from([(format!("{:032x}", 3), 100), (format!("{:032x}", 4), 10)]);
        let bytes = merged(record, &own, 50).expect("something new");
        let record = read_record(&bytes);
        let tokens: Vec<u128> = record.keys().filter_map(|token| u128::from_str_radix(token, 16).ok()).collect();
        assert_eq!(tokens, [1, 3]);
        assert_eq!(merged(record, &BTreeMap::from([(1, 100)]), 50), None);
        assert!(read_record(b"no record").is_empty());
    }
}
