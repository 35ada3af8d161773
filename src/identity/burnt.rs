//! Minted tokens that were given back before they expired: a bounded set, told to others where there are any.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;

use super::minted::TokenId;

/// The most tokens that are remembered.
const MAX_BURNT: usize = 50_000;

/// Called with every token that is given back here, and when it would have expired.
pub type BurnListener = Arc<dyn Fn(TokenId, u64) + Send + Sync>;

/// The tokens that were given back.
#[derive(Default)]
pub(super) struct BurntTokens {
    held: Mutex<HeldTokens>,
    listener: Mutex<Option<BurnListener>>,
}

#[derive(Default)]
struct HeldTokens {
    ids: HashSet<TokenId>,
    by_expiry: BTreeSet<(u64, TokenId)>,
}

impl BurntTokens {
    pub(super) fn listen(&self, listener: BurnListener) {
        *self.listener.lock() = Some(listener);
    }

    /// Somebody gave this token back here.
    pub(super) fn give_back(&self, id: TokenId, until: u64, now: u64) {
        self.burn(id, until, now);
        let listener = self.listener.lock().clone();
        if let Some(listener) = listener {
            listener(id, until);
        }
    }

    /// This token is good for nothing, here or elsewhere given back.
    pub(super) fn burn(&self, id: TokenId, until: u64, now: u64) {
        let mut held = self.held.lock();
        while let Some((expired, first)) = held.by_expiry.first().copied() {
            if expired > now && held.ids.len() < MAX_BURNT {
                break;
            }
            held.by_expiry.remove(&(expired, first));
            held.ids.remove(&first);
        }
        if held.ids.insert(id) {
            held.by_expiry.insert((until, id));
        }
    }

    pub(super) fn contains(&self, id: TokenId) -> bool {
        self.held.lock().ids.contains(&id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> TokenId {
        TokenId((number as u128).to_be_bytes())
    }

    #[test]
    fn a_burnt_token_is_remembered_until_it_expires_and_told_once() {
        let burnt = BurntTokens::default();
        let told = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&told);
        burnt.listen(Arc::new(move |id, until| heard.lock().push((id, until))));
        burnt.give_back(id(1), 100, 0);
        burnt.burn(id(2), 200, 0);
        assert!(burnt.contains(id(1)) && burnt.contains(id(2)) && !burnt.contains(id(3)));
        assert_eq!(*told.lock(), [(id(1), 100)], "what came from elsewhere is not told again");
        burnt.burn(id(3), 300, 150);
        assert!(!burnt.contains(id(1)) && burnt.contains(id(2)));
    }

    #[test]
    fn what_expires_first_gives_way() {
        let burnt = BurntTokens::default();
        for number in 0..=MAX_BURNT {
            burnt.burn(id(number), 1000 + number as u64, 0);
        }
        assert!(!burnt.contains(id(0)) && burnt.contains(id(1)) && burnt.contains(id(MAX_BURNT)));
        assert_eq!(burnt.held.lock().ids.len(), MAX_BURNT);
    }
}
