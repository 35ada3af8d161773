//! How the records of two replicas become one, whichever of them is taken into the other. Pure.

use std::cmp::Reverse;

use super::{Ledger, MOST_CHANGES, MOST_FILES, OtherBytes, SeenBytes, SeenFile};
use wheelport_index::Hashes;

/// What came of taking in the record of another replica.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::cache) struct Merge {
    /// It knew something new.
    pub is_altered: bool,
    /// It lacks something.
    pub is_lacking: bool,
}

impl Merge {
    fn note(&mut self, is_altered: bool, is_lacking: bool) {
        self.is_altered |= is_altered;
        self.is_lacking |= is_lacking;
    }
}

impl SeenFile {
    /// Takes in what another replica has recorded of the file. Returns whether that was news, and whether the other
    /// lacks something. What the page lists now is for each to see, and no difference.
    fn take_in(&mut self, theirs: Self) -> (bool, bool) {
        let essence = |file: &Self| {
            let changes = file.changes.iter().map(|change| (change.bytes.clone(), change.accepted.clone()));
            (file.first.clone(), file.seen, file.on_first_page, changes.collect::<Vec<_>>())
        };
        let (mine_before, theirs_before) = (essence(self), essence(&theirs));
        if mine_before == theirs_before {
            return (false, false);
        }
        // Never equal for different ones, so that all replicas come to the same.
        let rank = |file: &Self| {
            let SeenBytes { size, .. } = file.first;
            (Reverse(file.first.strength()), file.seen, file.first.text(), Reverse(size), file.on_first_page)
        };
        let changes = theirs.changes.clone();
        if rank(&theirs) < rank(self) {
            (self.first, self.on_first_page) = (theirs.first, theirs.on_first_page);
        }
        self.seen = self.seen.min(theirs.seen);
        for change in changes {
            let is_same = |known: &&mut OtherBytes| {
                known.bytes.digest == change.bytes.digest && known.accepted == change.accepted
            };
            match self.changes.iter_mut().find(is_same) {
                Some(known) => {
                    known.noticed = known.noticed.min(change.noticed);
                    known.bytes.size = known.bytes.size.max(change.bytes.size);
                }
                None => self.changes.push(change),
            }
        }
        // A change that one has noticed and the other has accepted since is accepted.
        let accepted_at = |change: &OtherBytes| Some((change.bytes.digest.clone(), change.accepted_at()?));
        let accepted: Vec<_> = self.changes.iter().filter_map(accepted_at).collect();
        self.changes.retain(|change| {
            let is_settled = |(digest, at): &(Hashes, u64)| *digest == change.bytes.digest && *at >= change.noticed;
            change.accepted.is_some() || !accepted.iter().any(is_settled)
        });
        self.changes.sort_by_key(|change| (change.accepted_at(), change.noticed, change.bytes.text()));
        let surplus = self.changes.len().saturating_sub(MOST_CHANGES);
        self.changes.drain(..surplus);
        let merged = essence(self);
        (merged != mine_before, merged != theirs_before)
    }
}

impl Ledger {
    /// Takes in what another replica has recorded of the same project. What both recorded differently was recorded by
    /// the earlier one, and the acceptance that came last holds.
    pub(in crate::cache) fn merge(&mut self, theirs: &Self) -> Merge {
        let mut merge = Merge::default();
        let first_page = self.first_page.into_iter().chain(theirs.first_page).min();
        merge.note(first_page != self.first_page, first_page != theirs.first_page);
        // What a later first page showed may have come since the earlier one.
        if first_page != self.first_page {
            self.files.values_mut().for_each(|file| file.on_first_page = false);
        }
        let is_theirs_first = first_page == theirs.first_page;
        for (name, theirs) in &theirs.files {
            if is_theirs_first && self.files.get(name) == Some(theirs) {
                continue;
            }
            let mut theirs = theirs.clone();
            theirs.on_first_page &= is_theirs_first;
            if let Some(mine) = self.files.get_mut(name) {
                let (is_altered, is_lacking) = mine.take_in(theirs);
                merge.note(is_altered, is_lacking);
            } else if self.files.len() < MOST_FILES {
                self.files.insert(name.clone(), theirs);
                merge.note(true, false);
            }
        }
        merge.is_lacking |= self.files.keys().any(|name| !theirs.files.contains_key(name));
        self.first_page = first_page;
        merge
    }
}
