//! Records of downloads, which other versions and other replicas may have written, their index, and what is asked of
//! them. All files of `usage` are compiled into this crate.

#![allow(dead_code, reason = "what is compiled in is more than what is fuzzed")]
#![allow(unreachable_pub, reason = "as above")]

#[path = "../../src/usage/mod.rs"]
#[allow(unused_imports, reason = "named for other rooms")]
mod room;

use room::{DayRecord, DayTable, Taker, UsageCollector, UsageDay, UsageIndex, UsageLimits, UsageParams};

pub(crate) use room::UsageSettings;

const LIMITS: UsageLimits = UsageLimits { entries: 8, identities: 2 };

/// One byte for the kind: a record before it is compressed, a compressed one, an index, or the parameters of a request.
pub fn usage(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    match kind % 4 {
        0 => record(&zstd::stream::encode_all(bytes, 1).expect("memory takes everything")),
        1 => record(bytes),
        2 => index(bytes),
        _ => query(bytes),
    }
}

/// What is read is of its day, comes back, and is counted once wherever it goes.
fn record(bytes: &[u8]) {
    let Ok(record) = DayRecord::decode(bytes) else { return };
    let day = record.day();
    let tallies = record.rows().map(|row| row.tally).chain(record.others().map(|(_, tally)| tally));
    let mut all = 0_u64;
    for tally in tallies {
        assert!(tally.count > 0 && tally.first <= tally.last, "{tally:?}");
        assert!(UsageDay::of(tally.first) == day && UsageDay::of(tally.last) == day, "{tally:?}");
        all = all.saturating_add(tally.count);
    }
    let again = DayRecord::decode(&record.encode().expect("memory takes everything"));
    assert_eq!(again.ok().as_ref(), Some(&record));

    let table = DayTable::resume(&record, LIMITS);
    assert!(table.entries() <= LIMITS.entries);
    let held = table.record();
    let sum = |record: &DayRecord| {
        let rows = record.rows().map(|row| row.tally.count);
        rows.chain(record.others().map(|(_, tally)| tally.count)).fold(0, u64::saturating_add)
    };
    assert_eq!(sum(&held), all);
    for row in held.rows() {
        assert!(!matches!(row.taker, Taker::Named(name) if name.is_empty()));
    }
    // The order of rows and names may be another one, and a second reading keeps it.
    assert_eq!(DayTable::resume(&held, LIMITS).record(), held);

    let params = UsageParams { since: day.to_string(), until: day.to_string(), ..UsageParams::default() };
    let query = params.parse(UsageDay::of(0), UsageDay::of(u64::MAX)).expect("days of ours");
    let mut collector = UsageCollector::new(query);
    collector.add(&record);
    let report = collector.report();
    assert_eq!(report.downloads.saturating_add(report.unattributed), all);
}

/// What is read comes back, and nothing in it leads out of its place in the store.
fn index(bytes: &[u8]) {
    let Some(mut index) = UsageIndex::decode(bytes) else { return };
    for (day, writer) in index.writers() {
        assert_eq!(day.to_string().parse(), Ok(day));
        assert!(writer.len() == 16 && writer.bytes().all(|byte| byte.is_ascii_hexdigit()), "{writer}");
    }
    assert_eq!(UsageIndex::decode(&index.encode()).as_ref(), Some(&index));
    let day = UsageDay::of(0);
    index.add([(day, "00000000000000ab")]);
    assert!(!index.add([(day, "00000000000000ab")]));
}

/// What is understood asks for days that are kept, in order, and for a bounded number of rows.
fn query(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut params = UsageParams::default();
    for (name, value) in url::form_urlencoded::parse(text.as_bytes()) {
        let field = match &*name {
            "route" => &mut params.route,
            "project" => &mut params.project,
            "version" => &mut params.version,
            "identity" => &mut params.identity,
            "since" => &mut params.since,
            "until" => &mut params.until,
            "limit" => &mut params.limit,
            _ => return,
        };
        *field = value.into_owned();
    }
    let (kept, today) = (UsageDay::of(1_750_000_000), UsageDay::of(1_795_824_000));
    let Ok(query) = params.parse(kept, today) else { return };
    assert!(query.since >= kept && query.until <= today && (1..=10_000).contains(&query.limit), "{query:?}");
    assert!(query.version.is_none() || query.project.is_some(), "{query:?}");
    let report = UsageCollector::new(query).report();
    assert!(report.rows.is_empty() && report.complete);
}
