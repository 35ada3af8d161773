//! What was counted on a day, as it is written: JSON under zstd, each name once, and rows of numbers.
//!
//! ```text
//! {"layout": 1, "day": "2026-11-28", "names": ["ci", "main", "hello", "1.0"],
//!  "rows": [[ROUTE, PROJECT, VERSION, TAKER, COUNT, FIRST, SPAN], …], "others": [[ROUTE, COUNT, FIRST, SPAN], …]}
//! ```
//!
//! ROUTE, PROJECT and VERSION are positions in `names`. TAKER is 0 where no identity is known, 1 for several that are
//! counted together, else a position plus 2. FIRST is a second of the day, and SPAN the seconds from it to the last
//! download. Whatever is read is checked: who writes to the store may be another version, or no one of ours.

use std::collections::HashMap;
use std::io::{self, Read as _};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::day::{DAY, UsageDay};
use super::tally::{Taker, Tally};
use wheelport_runtime::sabotaged;

const LAYOUT: u32 = 1;
const COMPRESSION_LEVEL: i32 = 3;
/// The longest record before it is compressed, in bytes.
const LONGEST: u64 = 64 << 20;
/// The longest name in a record, in bytes.
const LONGEST_NAME: usize = 4096;

/// A record of one day. Whatever it holds is consistent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DayRecord {
    day: UsageDay,
    names: Vec<Arc<str>>,
    rows: Vec<[u64; 7]>,
    others: Vec<[u64; 4]>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenDay<N> {
    layout: u32,
    day: UsageDay,
    names: Vec<N>,
    rows: Vec<[u64; 7]>,
    others: Vec<[u64; 4]>,
}

/// One counter.
#[derive(Debug, Clone, Copy)]
pub struct RecordRow<'a> {
    pub route: &'a Arc<str>,
    pub project: &'a Arc<str>,
    pub version: &'a Arc<str>,
    pub taker: Taker<&'a Arc<str>>,
    pub tally: Tally,
}

/// Bytes that are no record of a day.
#[derive(Debug, thiserror::Error)]
pub enum UnreadableUsage {
    #[error("it cannot be expanded or is no JSON of this kind: {0}")]
    Malformed(#[from] io::Error),
    #[error("it is of layout {0}, which this version does not know")]
    Layout(u32),
    #[error("it says {0}")]
    Inconsistent(&'static str),
}

impl DayRecord {
    pub(super) fn new<'a>(
        day: UsageDay,
        rows: impl Iterator<Item = ([&'a Arc<str>; 3], Taker<Arc<str>>, Tally)>,
        others: impl Iterator<Item = (&'a Arc<str>, Tally)>,
    ) -> Self {
        let mut record = Self { day, names: Vec::new(), rows: Vec::new(), others: Vec::new() };
        let mut positions = HashMap::<Arc<str>, u64>::new();
        let begins = day.begins();
        for (release, taker, Tally { count, first, last }) in rows {
            let [route, project, version] = release.map(|name| record.position(&mut positions, name));
            let taker = match taker {
                Taker::Unknown => 0,
                Taker::Others => 1,
                Taker::Named(name) => record.position(&mut positions, &name) + 2,
            };
            record.rows.push([route, project, version, taker, count, first - begins, last - first]);
        }
        for (route, Tally { count, first, last }) in others {
            let route = record.position(&mut positions, route);
            record.others.push([route, count, first - begins, last - first]);
        }
        record
    }

    fn position(&mut self, positions: &mut HashMap<Arc<str>, u64>, name: &Arc<str>) -> u64 {
        *positions.entry(Arc::clone(name)).or_insert_with(|| {
            self.names.push(Arc::clone(name));
            self.names.len() as u64 - 1
        })
    }

    pub fn day(&self) -> UsageDay {
        self.day
    }

    /// The counters.
    pub fn rows(&self) -> impl Iterator<Item = RecordRow<'_>> {
        self.rows.iter().map(|&[route, project, version, taker, count, first, span]| RecordRow {
            route: self.name(route),
            project: self.name(project),
            version: self.name(version),
            taker: match taker {
                0 => Taker::Unknown,
                1 => Taker::Others,
                name => Taker::Named(self.name(name - 2)),
            },
            tally: self.tally(count, first, span),
        })
    }

    /// By route, what has no counter of its own.
    pub fn others(&self) -> impl Iterator<Item = (&Arc<str>, Tally)> {
        self.others.iter().map(|&[route, count, first, span]| (self.name(route), self.tally(count, first, span)))
    }

    fn name(&self, position: u64) -> &Arc<str> {
        let position = usize::try_from(position).ok();
        position.and_then(|position| self.names.get(position)).expect("positions were checked")
    }

    fn tally(&self, count: u64, first: u64, span: u64) -> Tally {
        let first = self.day.begins() + first;
        Tally { count, first, last: first + span }
    }

    /// As it is written.
    pub fn encode(&self) -> io::Result<Vec<u8>> {
        let Self { day, names, rows, others } = self;
        let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
        let written = WrittenDay { layout: LAYOUT, day: *day, names, rows: rows.clone(), others: others.clone() };
        let json = serde_json::to_vec(&written).map_err(io::Error::other)?;
        if json.len() as u64 >= LONGEST {
            return Err(io::Error::other("there are too many names to be written"));
        }
        zstd::stream::encode_all(json.as_slice(), COMPRESSION_LEVEL)
    }

    /// What was written.
    pub fn decode(bytes: &[u8]) -> Result<Self, UnreadableUsage> {
        let expanded = io::BufReader::new(zstd::stream::Decoder::with_buffer(bytes)?.take(LONGEST));
        let written: WrittenDay<Arc<str>> = serde_json::from_reader(expanded).map_err(io::Error::from)?;
        let WrittenDay { layout, day, names, rows, others } = written;
        if layout != LAYOUT {
            return Err(UnreadableUsage::Layout(layout));
        }
        let record = Self { day, names, rows, others };
        match record.fault().filter(|_| !sabotaged("usage-record")) {
            Some(fault) => Err(UnreadableUsage::Inconsistent(fault)),
            None => Ok(record),
        }
    }

    fn fault(&self) -> Option<&'static str> {
        let is_name = |position: u64| position < self.names.len() as u64;
        let is_tally = |count: u64, first: u64, span: u64| count > 0 && first < DAY && span < DAY && first + span < DAY;
        if self.names.iter().any(|name| name.is_empty() || name.len() > LONGEST_NAME) {
            return Some("a name that is empty or too long");
        }
        for &[route, project, version, taker, count, first, span] in &self.rows {
            let is_taker = taker < 2 || is_name(taker - 2);
            if ![route, project, version].into_iter().all(is_name) || !is_taker {
                return Some("a row of a name that is not in it");
            }
            if !is_tally(count, first, span) {
                return Some("a row of no download, or of another day");
            }
        }
        let is_other = |&[route, count, first, span]: &[u64; 4]| is_name(route) && is_tally(count, first, span);
        (!self.others.iter().all(is_other)).then_some("others of no route, or of another day")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Result<DayRecord, UnreadableUsage> {
        DayRecord::decode(&zstd::stream::encode_all(text.as_bytes(), 1).expect("memory takes everything"))
    }

    #[test]
    fn a_record_comes_back() {
        let names: Vec<Arc<str>> = ["main", "hello", "1.0", "ci:ö"].map(Arc::from).to_vec();
        let day = UsageDay::of(3 * DAY);
        let tally = Tally { count: 7, first: 3 * DAY + 5, last: 3 * DAY + 9 };
        let release = [&names[0], &names[1], &names[2]];
        let takers = [Taker::Unknown, Taker::Others, Taker::Named(Arc::clone(&names[3]))];
        let rows = takers.clone().into_iter().map(|taker| (release, taker, tally));
        let record = DayRecord::new(day, rows, [(&names[0], tally)].into_iter());
        let read = DayRecord::decode(&record.encode().expect("memory takes everything")).expect("a record");
        assert_eq!(read, record);
        assert_eq!(read.rows().map(|row| row.taker.map(Arc::clone)).collect::<Vec<_>>(), takers);
        assert!(read.rows().all(|row| row.tally == tally && **row.project == *"hello"));
        assert_eq!(read.others().map(|(route, tally)| (&**route, tally)).collect::<Vec<_>>(), [("main", tally)]);
    }

    #[test]
    fn what_is_inconsistent_is_no_record() {
        let of = |layout: u32, names: &str, rows: &str, others: &str| {
            json(&format!(
                r#"{{"layout":{layout},"day":"2026-11-28","names":{names},"rows":{rows},"others":{others}}}"#
            ))
        };
        assert!(of(1, r#"["a"]"#, "[[0,0,0,2,1,0,86399]]", "[[0,1,86399,0]]").is_ok());
        assert!(matches!(of(2, "[]", "[]", "[]"), Err(UnreadableUsage::Layout(2))));
        for (names, rows, others) in [
            (r#"["a"]"#, "[[0,1,0,0,1,0,0]]", "[]"),
            (r#"["a"]"#, "[[0,0,0,3,1,0,0]]", "[]"),
            (r#"["a"]"#, "[[0,0,0,0,0,0,0]]", "[]"),
            (r#"["a"]"#, "[[0,0,0,0,1,86400,0]]", "[]"),
            (r#"["a"]"#, "[[0,0,0,0,1,1,86399]]", "[]"),
            (r#"["a"]"#, "[[0,0,0,0,1,1,18446744073709551615]]", "[]"),
            (r#"["a"]"#, "[]", "[[1,1,0,0]]"),
            (r#"[""]"#, "[]", "[]"),
        ] {
            assert!(matches!(of(1, names, rows, others), Err(UnreadableUsage::Inconsistent(_))), "{names} {rows}");
        }
        for text in ["", "{}", "[]", r#"{"layout":1,"day":"2026-11-31","names":[],"rows":[],"others":[]}"#] {
            assert!(matches!(json(text), Err(UnreadableUsage::Malformed(_))), "{text}");
        }
        assert!(DayRecord::decode(b"no zstd").is_err());
    }
}
