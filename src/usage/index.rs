//! Which replicas have written records of which days of a month: what one reads in place of a list of the store.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::day::UsageDay;

/// The longest index, in bytes.
pub const LARGEST_INDEX: usize = 1 << 20;
/// Processes of one day. Each start of one counts.
const MOST_WRITERS: usize = 1000;
/// The length of a writer's name.
const NAME: usize = 16;

/// The index of a month.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UsageIndex {
    days: BTreeMap<UsageDay, BTreeSet<String>>,
}

impl UsageIndex {
    /// What was written; an index that cannot be read is none.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let index: Self = serde_json::from_slice(bytes).ok()?;
        // The names become part of names of objects.
        let are_names = index.writers().all(|(_, writer)| is_writer(writer));
        are_names.then_some(index)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("days and names can be written to memory")
    }

    /// Adds records. Returns whether that is news; there is no place for a writer beyond a thousand of a day.
    pub fn add<'a>(&mut self, written: impl IntoIterator<Item = (UsageDay, &'a str)>) -> bool {
        let mut is_news = false;
        for (day, writer) in written {
            let writers = self.days.entry(day).or_default();
            if writers.len() < MOST_WRITERS {
                is_news |= writers.insert(writer.to_owned());
            }
        }
        is_news
    }

    /// All records.
    pub fn writers(&self) -> impl Iterator<Item = (UsageDay, &str)> {
        self.days.iter().flat_map(|(day, writers)| writers.iter().map(|writer| (*day, writer.as_str())))
    }
}

/// Whether this is the name of a process that writes records.
pub fn is_writer(name: &str) -> bool {
    name.len() == NAME && name.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_comes_back_and_names_nothing_else() {
        let day = UsageDay::of(1_795_824_000);
        let mut index = UsageIndex::default();
        assert!(index.add([(day, "00000000000000ab"), (day.next(), "00000000000000ab")]));
        assert!(!index.add([(day, "00000000000000ab")]));
        let read = UsageIndex::decode(&index.encode()).expect("an index");
        assert_eq!(read, index);
        assert_eq!(read.writers().count(), 2);
        for bad in ["", "[]", r#"{"days":{"2026-11-28":["../../blob/x0000"]}}"#, r#"{"days":{"2026":[]}}"#] {
            assert_eq!(UsageIndex::decode(bad.as_bytes()), None, "{bad}");
        }
        for number in 0..2 * MOST_WRITERS {
            index.add([(day, format!("{number:016x}").as_str())]);
        }
        assert_eq!(index.writers().count(), MOST_WRITERS + 1);
        assert!(index.encode().len() < LARGEST_INDEX / 31);
    }
}
