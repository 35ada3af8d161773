//! What a project's files were when they were first seen, and what an operator accepted since. Pure.
//!
//! A file name stands for the same bytes for ever. A page that names other ones shows that a version was deleted and
//! published again, or that someone meddles with the repository; which of the two, only people can tell. So entries
//! are never removed, also not those of files that no page lists any more.

use std::collections::{BTreeMap, HashMap, HashSet};

use foldhash::quality::RandomState;
use serde::{Deserialize, Serialize};
use wheelport_index::{Algorithm, File, FileName, Hashes};

mod merge;

pub(super) use merge::Merge;

/// Files of one project at most. Beyond that, new ones are not recorded, so that a page cannot push old ones out.
const MOST_FILES: usize = 400_000;
/// Changes of one file at most. Beyond that, the oldest one that was not accepted goes.
const MOST_CHANGES: usize = 8;

/// The record of one project.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Ledger {
    /// When the first page of upstream was recorded that listed files; seconds since the Unix epoch.
    first_page: Option<u64>,
    files: BTreeMap<FileName, SeenFile>,
}

/// What a page says of the bytes of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenBytes {
    /// One digest: the SHA-256, or the strongest that the page has; none where it has none.
    #[serde(default, skip_serializing_if = "Hashes::is_empty")]
    pub digest: Hashes,
    /// The length in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct SeenFile {
    first: SeenBytes,
    /// Seconds since the Unix epoch.
    seen: u64,
    /// Whether the file stood on the first page of its project that was recorded.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    on_first_page: bool,
    /// Other bytes under the same name: in the order in which they were noticed or accepted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    changes: Vec<OtherBytes>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct OtherBytes {
    bytes: SeenBytes,
    /// Seconds since the Unix epoch.
    noticed: u64,
    /// Whether the page lists something else by now.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    past: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    accepted: Option<Acceptance>,
}

impl OtherBytes {
    fn accepted_at(&self) -> Option<u64> {
        self.accepted.as_ref().map(|acceptance| acceptance.at)
    }
}

/// An operator's word that other bytes are right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acceptance {
    /// Seconds since the Unix epoch.
    pub at: u64,
    pub reason: String,
    /// Who said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// A file whose bytes are not those that are known, and that is not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedFile {
    pub file: FileName,
    /// What was first seen, or accepted last.
    pub known: SeenBytes,
    /// What the page lists.
    pub listed: SeenBytes,
    /// When the file was first seen, and when the change was noticed; seconds since the Unix epoch.
    pub first_seen: u64,
    pub noticed: u64,
}

/// Since when a file is known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownSince {
    /// Seconds since the Unix epoch.
    pub at: u64,
    /// Whether its project was known before: then it came at that moment, and was not there long before.
    pub came_later: bool,
    /// Whether it stood on the first page of its project that was recorded.
    pub on_first_page: bool,
}

/// Since when the files of a page are known that have no time of upload.
pub type UndatedFiles = HashMap<FileName, KnownSince, RandomState>;

/// What a page showed.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Observation {
    /// Whether the record has to be written.
    pub is_altered: bool,
    /// Whether files were left out because there are too many.
    pub is_full: bool,
    /// What is not accepted.
    pub changed: Vec<ChangedFile>,
    /// Those of them that no page showed before.
    pub news: Vec<ChangedFile>,
    pub undated: UndatedFiles,
}

/// What one file of a page showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum News {
    Nothing,
    /// Something to be recorded.
    Detail,
    /// Other bytes, for the first time.
    Change,
}

/// How what a page says of a file relates to what is known of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Same,
    /// Nothing contradicts, and the page has a digest where there was none worth the name.
    Stronger,
    Other,
}

impl SeenBytes {
    /// What the entry of a file says.
    fn of(file: &File) -> Self {
        let mut digest = Hashes::default();
        let named = ["sha256", "sha512", "sha384", "blake2b_256", "blake2_256", "md5"];
        if let Some((name, value)) = named.iter().find_map(|name| Some((*name, file.hashes.get(name)?))) {
            digest.insert(name, value);
        }
        Self { digest, size: file.size }
    }

    /// How much is known: nothing, a digest that proves little, or one that proves what the bytes are.
    fn strength(&self) -> u8 {
        self.digest.iter().next().map_or(0, |(name, _)| if name == "md5" { 1 } else { 2 })
    }

    /// The digest as text, such as `sha256=…`.
    pub fn text(&self) -> String {
        self.digest.iter().next().map_or_else(|| "no digest".to_owned(), |(name, value)| format!("{name}={value}"))
    }

    fn compare(&self, file: &File) -> Comparison {
        let strength = |hashes: &Hashes| hashes.strongest().map(|(algorithm, _)| algorithm);
        let listed = strength(&file.hashes);
        let Some((name, value)) = self.digest.iter().next() else {
            return if listed.is_some() { Comparison::Stronger } else { Comparison::Same };
        };
        match file.hashes.get(name) {
            Some(found) if found == value => Comparison::Same,
            None if name == "md5" && listed > Some(Algorithm::Md5) => Comparison::Stronger,
            // Another digest, or none, does not say that the bytes are the same.
            Some(_) | None => Comparison::Other,
        }
    }
}

impl SeenFile {
    /// What the file is known to be: what was accepted last, else what was first seen.
    fn known(&self) -> &SeenBytes {
        self.changes.iter().rfind(|change| change.accepted.is_some()).map_or(&self.first, |change| &change.bytes)
    }

    fn known_mut(&mut self) -> &mut SeenBytes {
        let accepted = self.changes.iter_mut().rfind(|change| change.accepted.is_some());
        accepted.map_or(&mut self.first, |change| &mut change.bytes)
    }

    /// The change that the page shows and that is not accepted.
    fn pending(&self, file: &FileName) -> Option<ChangedFile> {
        let change = self.changes.iter().find(|change| change.accepted.is_none() && !change.past)?;
        Some(ChangedFile {
            file: file.clone(),
            known: self.known().clone(),
            listed: change.bytes.clone(),
            first_seen: self.seen,
            noticed: change.noticed,
        })
    }

    /// Takes in what a page says.
    fn observe(&mut self, file: &File, now: u64) -> News {
        let detail = |is_altered| if is_altered { News::Detail } else { News::Nothing };
        match self.known().compare(file) {
            Comparison::Same => return detail(self.settle(None)),
            Comparison::Stronger => {
                *self.known_mut() = SeenBytes::of(file);
                self.settle(None);
                return News::Detail;
            }
            Comparison::Other => {}
        }
        let listed = SeenBytes::of(file);
        if self.changes.iter().all(|change| change.accepted.is_some() || change.bytes.digest != listed.digest) {
            if self.changes.len() >= MOST_CHANGES
                && let Some(oldest) = self.changes.iter().position(|change| change.accepted.is_none())
            {
                self.changes.remove(oldest);
            }
            let digest = listed.digest.clone();
            self.changes.push(OtherBytes { bytes: listed, noticed: now, past: false, accepted: None });
            self.settle(Some(&digest));
            return News::Change;
        }
        detail(self.settle(Some(&listed.digest)))
    }

    /// Notes which of the changes that are not accepted is there now. Returns whether that is news.
    fn settle(&mut self, listed: Option<&Hashes>) -> bool {
        let mut is_altered = false;
        for change in self.changes.iter_mut().filter(|change| change.accepted.is_none()) {
            let past = Some(&change.bytes.digest) != listed;
            is_altered |= past != change.past;
            change.past = past;
        }
        is_altered
    }
}

impl Ledger {
    /// The record in place of one that was damaged: no file is taken for one of the first page.
    pub(super) fn in_place_of_damaged(now: u64) -> Self {
        Self { first_page: Some(now), files: BTreeMap::new() }
    }

    /// Takes in the files of a page, of which upstream lists the first `listed`.
    pub(super) fn observe(&mut self, files: &[File], listed: usize, now: u64) -> Observation {
        let mut seen = Observation::default();
        let is_first_page = self.first_page.is_none() && listed > 0;
        if is_first_page {
            (self.first_page, seen.is_altered) = (Some(now), true);
        }
        let lasting = files.iter().enumerate().filter(|(_, file)| !file.name.is_mutable());
        for (position, file) in lasting {
            if let Some(known) = self.files.get_mut(&file.name) {
                let news = known.observe(file, now);
                let changed = known.pending(&file.name);
                seen.is_altered |= news != News::Nothing;
                seen.news.extend(changed.clone().filter(|_| news == News::Change));
                seen.changed.extend(changed);
            } else if self.files.len() < MOST_FILES {
                let on_first_page = is_first_page && position < listed;
                let new = SeenFile { first: SeenBytes::of(file), seen: now, on_first_page, changes: Vec::new() };
                self.files.insert(file.name.clone(), new);
                seen.is_altered = true;
            } else {
                seen.is_full = true;
            }
        }
        seen.is_altered |= self.settle_unlisted(files);
        let undated = files.iter().filter(|file| file.upload_time.is_none());
        seen.undated = undated.filter_map(|file| Some((file.name.clone(), self.known_since(&file.name)?))).collect();
        seen
    }

    /// Since when a file is known, whether or not a page lists it.
    pub(super) fn known_since(&self, file: &FileName) -> Option<KnownSince> {
        let known = self.files.get(file)?;
        let on_first_page = known.on_first_page;
        Some(KnownSince { at: known.seen, came_later: !on_first_page && self.first_page.is_some(), on_first_page })
    }

    /// A change of a file that the page does not list is nothing to be decided about.
    fn settle_unlisted(&mut self, files: &[File]) -> bool {
        if self.files.values().all(|known| known.changes.is_empty()) {
            return false;
        }
        let names: HashSet<&FileName> = files.iter().map(|file| &file.name).collect();
        let unlisted = self.files.iter_mut().filter(|(name, _)| !names.contains(name));
        unlisted.fold(false, |is_altered, (_, known)| known.settle(None) || is_altered)
    }

    /// What a file is known to be.
    pub(super) fn known(&self, file: &FileName) -> Option<&SeenBytes> {
        self.files.get(file).map(SeenFile::known)
    }

    /// Whether nothing is recorded.
    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Everything that is not accepted.
    pub(super) fn changed(&self) -> Vec<ChangedFile> {
        self.files.iter().filter_map(|(name, known)| known.pending(name)).collect()
    }

    /// Accepts what the page lists now, of one file or of all. Returns what was accepted.
    pub(super) fn accept(&mut self, file: Option<&FileName>, acceptance: &Acceptance) -> Vec<ChangedFile> {
        let mut accepted = Vec::new();
        for (name, known) in &mut self.files {
            if file.is_some_and(|file| file != name) {
                continue;
            }
            let Some(pending) = known.pending(name) else { continue };
            // The last one that was accepted holds.
            let position = known.changes.iter().position(|change| change.accepted.is_none() && !change.past);
            let mut change = known.changes.remove(position.unwrap_or_default());
            change.accepted = Some(acceptance.clone());
            known.changes.push(change);
            accepted.push(pending);
        }
        accepted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wheelport_index::{CoreMetadata, Extra, VersionSegment, Yanked};

    fn file(name: &str, digests: &[(&str, char)]) -> File {
        let mut hashes = Hashes::default();
        for (algorithm, digit) in digests {
            let length = Algorithm::from_name(algorithm).expect("a known algorithm").hex_length();
            assert!(hashes.insert(algorithm, &digit.to_string().repeat(length)));
        }
        File {
            name: FileName::parse(name).expect("a file name"),
            version: VersionSegment::parse("1.0").expect("a version"),
            url: None,
            hashes,
            requires_python: None,
            size: Some(7),
            upload_time: None,
            yanked: Yanked::No,
            core_metadata: CoreMetadata::Absent,
            gpg_sig: None,
            provenance: None,
            extra: Extra::default(),
        }
    }

    /// The number of changes that are new, and of those that are there.
    fn observe(ledger: &mut Ledger, digests: &[(&str, char)], now: u64) -> (usize, usize) {
        let seen = ledger.observe(&[file("a-1.tar.gz", digests)], 1, now);
        (seen.news.len(), seen.changed.len())
    }

    fn accept(ledger: &mut Ledger, at: u64) -> usize {
        let acceptance = Acceptance { at, reason: "rebuilt".to_owned(), by: None };
        ledger.accept(Some(&FileName::parse("a-1.tar.gz").expect("a file name")), &acceptance).len()
    }

    #[test]
    fn a_change_is_news_once_and_stays_until_it_is_accepted_or_gone() {
        let mut ledger = Ledger::default();
        assert_eq!(observe(&mut ledger, &[("sha256", 'a')], 1), (0, 0));
        assert_eq!(observe(&mut ledger, &[("sha256", 'b')], 2), (1, 1));
        assert_eq!(observe(&mut ledger, &[("sha256", 'b')], 3), (0, 1), "known, and not accepted");
        assert_eq!(observe(&mut ledger, &[("sha256", 'a')], 4), (0, 0), "upstream is back at the first bytes");
        assert_eq!(accept(&mut ledger, 5), 0, "there is nothing to accept");
        assert_eq!(observe(&mut ledger, &[("sha256", 'b')], 6), (0, 1), "of several replicas, one may be late");
        assert_eq!(observe(&mut ledger, &[("sha256", 'c')], 7), (1, 1));
        assert_eq!(accept(&mut ledger, 8), 1);
        assert_eq!(observe(&mut ledger, &[("sha256", 'c')], 9), (0, 0));
        assert_eq!(observe(&mut ledger, &[("sha256", 'a')], 10), (1, 1), "what was accepted last is what is known");
        assert_eq!(ledger.changed()[0].known.text(), format!("sha256={}", "c".repeat(64)));
        let gone = ledger.observe(&[], 0, 11);
        assert_eq!((gone.is_altered, gone.changed.len(), ledger.changed().len()), (true, 0, 0));
        assert_eq!(ledger.files.len(), 1, "it is not forgotten");
    }

    #[test]
    fn only_the_same_digest_says_that_bytes_are_the_same() {
        for (known, listed, expected) in [
            (&[("sha256", 'a'), ("md5", 'a')][..], &[("sha256", 'a'), ("md5", 'b')][..], 0),
            (&[("sha256", 'a')], &[("sha512", 'a')], 1),
            (&[("sha256", 'a')], &[("md5", 'a')], 1),
            (&[("sha256", 'a')], &[], 1),
            (&[("sha512", 'a')], &[("sha512", 'a'), ("sha256", 'b')], 0),
            (&[("sha512", 'a')], &[("sha256", 'a')], 1),
            (&[("md5", 'a')], &[("sha256", 'b')], 0),
            (&[], &[("md5", 'b')], 0),
            (&[], &[], 0),
        ] {
            let mut ledger = Ledger::default();
            observe(&mut ledger, known, 1);
            assert_eq!(observe(&mut ledger, listed, 2), (expected, expected), "{known:?} {listed:?}");
        }
        let mut ledger = Ledger::default();
        for (digests, changed) in [(vec![("md5", 'a')], 0), (vec![("sha256", 'b')], 0), (vec![("sha256", 'c')], 1)] {
            assert_eq!(observe(&mut ledger, &digests, 1).1, changed, "the stronger digest counts from then on");
        }
    }

    #[test]
    fn the_first_page_is_told_from_what_came_later() {
        let mut ledger = Ledger::default();
        let files = [file("a-1.tar.gz", &[]), file("a-2.tar.gz", &[])];
        assert!(ledger.observe(&files[..1], 0, 1).is_altered, "published here, and upstream has no page yet");
        assert!(ledger.observe(&files, 2, 5).is_altered);
        assert!(!ledger.observe(&files, 2, 6).is_altered);
        ledger.observe(&[file("a-3.tar.gz", &[])], 1, 7);
        let seen: Vec<_> = ledger.files.values().map(|file| (file.seen, file.on_first_page)).collect();
        assert_eq!(seen, [(1, false), (5, true), (7, false)]);
        let mut again = Ledger::in_place_of_damaged(9);
        again.observe(&files, 2, 9);
        assert!(again.files.values().all(|file| !file.on_first_page), "that cannot be known any more");
    }

    /// A record that saw these digests one after the other, from a moment on.
    fn seen(digits: &str, from: u64) -> Ledger {
        let mut ledger = Ledger::default();
        for (digit, now) in digits.chars().zip(from..) {
            observe(&mut ledger, &[("sha256", digit)], now);
        }
        ledger
    }

    /// Merges both ways; returns the one that both are then.
    fn meet(mut one: Ledger, mut other: Ledger) -> Ledger {
        let (of_one, of_other) = (one.merge(&other), other.merge(&one));
        assert_eq!(of_one.is_lacking, of_other.is_altered);
        assert!(!of_other.is_lacking);
        let nothing = Merge::default();
        assert_eq!((one.merge(&other), other.merge(&one)), (nothing, Merge::default()), "{one:?} {other:?}");
        one
    }

    #[test]
    fn of_two_records_the_earlier_one_says_what_was_first() {
        for (one, other) in [(seen("a", 1), seen("b", 5)), (seen("b", 5), seen("a", 1))] {
            let mut both = meet(one, other);
            assert_eq!(both.changed().len(), 0);
            assert_eq!(observe(&mut both, &[("sha256", 'a')], 6), (0, 0));
            assert_eq!(observe(&mut both, &[("sha256", 'b')], 7), (1, 1));
        }
        let mut weak = Ledger::default();
        observe(&mut weak, &[("md5", 'a')], 1);
        let both = meet(weak, seen("b", 5));
        assert_eq!(both.files.values().map(|file| (file.first.strength(), file.seen)).collect::<Vec<_>>(), [(2, 1)]);
    }

    #[test]
    fn what_one_replica_accepted_is_accepted_for_the_other() {
        let (mut accepting, other) = (seen("ab", 1), seen("ab", 1));
        assert_eq!(accept(&mut accepting, 4), 1);
        for mut both in [meet(accepting.clone(), other.clone()), meet(other, accepting)] {
            assert_eq!(both.changed().len(), 0);
            assert_eq!(observe(&mut both, &[("sha256", 'b')], 5), (0, 0));
            assert_eq!(observe(&mut both, &[("sha256", 'c')], 6), (1, 1));
        }
        let (mut early, mut late) = (seen("ab", 1), seen("ac", 1));
        assert_eq!((accept(&mut early, 5), accept(&mut late, 9)), (1, 1));
        let mut both = meet(late, early);
        assert_eq!(observe(&mut both, &[("sha256", 'c')], 10), (0, 0), "the last acceptance holds");
    }

    #[test]
    fn a_replica_that_came_later_takes_no_file_for_one_of_the_first_page() {
        let (old, mut new) = (seen("a", 1), Ledger::default());
        new.observe(&[file("a-1.tar.gz", &[]), file("a-2.tar.gz", &[])], 2, 5);
        let both = meet(new, old);
        let seen: Vec<_> = both.files.values().map(|file| (file.seen, file.on_first_page)).collect();
        assert_eq!(seen, [(1, true), (5, false)]);
        let merged = meet(both.clone(), Ledger::in_place_of_damaged(9));
        assert_eq!(merged, both, "what was damaged comes back");
    }

    #[test]
    fn a_record_comes_back_and_is_bounded() -> Result<(), Box<dyn std::error::Error>> {
        let mut ledger = Ledger::default();
        observe(&mut ledger, &[("sha256", 'a')], 1);
        for digit in "bcdef0123456789".chars() {
            observe(&mut ledger, &[("sha256", digit)], 2);
        }
        assert_eq!(ledger.files.values().next().map(|file| file.changes.len()), Some(MOST_CHANGES));
        assert_eq!(accept(&mut ledger, 3), 1);
        let restored: Ledger = serde_json::from_slice(&serde_json::to_vec(&ledger)?)?;
        assert_eq!(restored, ledger);
        Ok(())
    }
}
