//! Hints that Redis did not take: told again when it is back. Without order and each once, because a hint may be
//! repeated and reordered. Bounded; what does not fit is what it was before, a hint that is lost.

use std::collections::HashSet;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::hints::Hint;
use wheelport_runtime::sabotaged;

/// Hints that wait at most.
const MOST: usize = 10_000;

/// What waits for Redis.
#[derive(Debug, Default)]
pub(super) struct UnsentHints {
    held: Mutex<HashSet<Hint>>,
    came: Notify,
}

impl UnsentHints {
    /// Keeps a hint, if it is worth anything later. Tokens that were given back are told again by `app`, which knows
    /// when they expire.
    pub(super) fn keep(&self, hint: Hint) {
        match hint {
            Hint::SlowDown { .. } | Hint::EventsProven { .. } | Hint::Burnt { .. } => return,
            _ if sabotaged("unsent-hints") => return,
            Hint::PageChanged { .. }
            | Hint::Event { .. }
            | Hint::Purge { .. }
            | Hint::Accept { .. }
            | Hint::Exceptions
            | Hint::Advisories => {}
        }
        let mut held = self.held.lock();
        if held.len() < MOST {
            held.insert(hint);
            self.came.notify_one();
        }
    }

    /// Resolves when there is a hint.
    pub(super) async fn filled(&self) {
        while self.held.lock().is_empty() {
            self.came.notified().await;
        }
    }

    /// Takes one out.
    pub(super) fn take(&self) -> Option<Hint> {
        let mut held = self.held.lock();
        let hint = held.iter().next().cloned()?;
        held.remove(&hint);
        Some(hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wheelport_index::ProjectName;

    fn purge(number: usize) -> Hint {
        let project = ProjectName::parse(&format!("p{number}")).expect("a name");
        Hint::Purge { repository: "acme/python".parse().expect("a repository"), project }
    }

    #[tokio::test]
    async fn each_hint_waits_once_and_the_number_is_bounded() {
        let unsent = UnsentHints::default();
        unsent.keep(purge(1));
        unsent.keep(purge(1));
        unsent.keep(Hint::Burnt { token: 1, until: 2 });
        assert_eq!(unsent.held.lock().len(), 1);
        unsent.filled().await;
        assert_eq!((unsent.take(), unsent.take()), (Some(purge(1)), None));
        (0..=MOST).for_each(|number| unsent.keep(purge(number)));
        assert_eq!(unsent.held.lock().len(), MOST);
    }
}
