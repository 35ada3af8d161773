//! The counters of one day, bounded: where there are too many, those that say least become one counter of their route.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::counter::UsageKey;
use super::day::{DAY, UsageDay};
use super::record::{DayRecord, RecordRow};
use super::settings::UsageLimits;
use super::tally::{Taker, Tally};
use wheelport_index::shortened;
use wheelport_runtime::sabotaged;

/// The longest name of an identity, in characters; longer ones are cut.
const LONGEST_IDENTITY: usize = 256;
/// Of a full table this part makes room at a time, so that sorting is rare.
const ROOM: usize = 8;

/// A version of a project, as one route serves it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct ReleaseKey {
    route: Arc<str>,
    project: Arc<str>,
    version: Arc<str>,
}

type Takers = BTreeMap<Taker<Arc<str>>, Tally>;

/// What was counted on a day.
#[derive(Debug)]
pub struct DayTable {
    day: UsageDay,
    limits: UsageLimits,
    names: HashSet<Arc<str>>,
    releases: BTreeMap<ReleaseKey, Takers>,
    entries: usize,
    /// By route, what has no counter of its own.
    others: BTreeMap<Arc<str>, Tally>,
    folded: u64,
}

impl DayTable {
    pub fn new(day: UsageDay, limits: UsageLimits) -> Self {
        Self {
            day,
            limits,
            names: HashSet::new(),
            releases: BTreeMap::new(),
            entries: 0,
            others: BTreeMap::new(),
            folded: 0,
        }
    }

    /// Goes on from what was written.
    pub fn resume(record: &DayRecord, limits: UsageLimits) -> Self {
        let mut table = Self::new(record.day(), limits);
        for RecordRow { route, project, version, taker, tally } in record.rows() {
            table.add([route, project, version], taker.map(|name| &**name), tally);
        }
        for (route, tally) in record.others() {
            table.add_other(route, tally);
        }
        // What was folded then was counted then.
        table.folded = 0;
        table
    }

    /// Takes in what was counted. What is of another day counts as of this one's first or last second.
    pub fn absorb(&mut self, key: &UsageKey, tally: Tally) {
        let taker = key.identity.as_deref().map_or(Taker::Unknown, Taker::Named);
        self.add([&key.route, key.project.as_str(), key.version.as_str()], taker, tally);
    }

    /// How many counters there are.
    pub fn entries(&self) -> usize {
        self.entries
    }

    /// How many downloads have lost their own counter since this was called last.
    pub fn take_folded(&mut self) -> u64 {
        std::mem::take(&mut self.folded)
    }

    fn add(&mut self, [route, project, version]: [&str; 3], taker: Taker<&str>, tally: Tally) {
        let day = self.day.begins();
        let within = |at: u64| at.clamp(day, day + DAY - 1);
        let tally = Tally { count: tally.count, first: within(tally.first), last: within(tally.last) };
        let release = ReleaseKey { route: self.name(route), project: self.name(project), version: self.name(version) };
        let named = self.releases.get(&release).map_or(0, named_takers);
        let is_full = named >= self.limits.identities && !sabotaged("usage-identities");
        let mut taker = self.taker(taker, is_full);
        let takers = self.releases.entry(release).or_default();
        if is_full && matches!(taker, Taker::Named(_)) && !takers.contains_key(&taker) {
            taker = Taker::Others;
        }
        if taker == Taker::Others {
            self.folded = self.folded.saturating_add(tally.count);
        }
        if let Some(known) = takers.get_mut(&taker) {
            known.add(tally);
        } else {
            takers.insert(taker, tally);
            self.entries += 1;
        }
        if self.entries > self.limits.entries && !sabotaged("usage-entries") {
            self.make_room();
        }
    }

    /// A name that cannot get a counter is not held.
    fn taker(&mut self, taker: Taker<&str>, is_full: bool) -> Taker<Arc<str>> {
        match taker {
            Taker::Unknown => Taker::Unknown,
            Taker::Others => Taker::Others,
            Taker::Named(name) => match shortened(name, LONGEST_IDENTITY) {
                name if is_full && !self.names.contains(&*name) => Taker::Others,
                name => Taker::Named(self.name(&name)),
            },
        }
    }

    fn add_other(&mut self, route: &str, tally: Tally) {
        let route = self.name(route);
        self.others.entry(route).and_modify(|known| known.add(tally)).or_insert(tally);
    }

    /// One copy of each name.
    fn name(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.names.get(name) {
            return Arc::clone(known);
        }
        let name = Arc::<str>::from(name);
        self.names.insert(Arc::clone(&name));
        name
    }

    /// The counters with the fewest downloads, and of those the ones that were used longest ago, lose their own.
    fn make_room(&mut self) {
        let mut all: Vec<(u64, u64, ReleaseKey, Taker<Arc<str>>)> = Vec::with_capacity(self.entries);
        for (release, takers) in &self.releases {
            all.extend(takers.iter().map(|(taker, of)| (of.count, of.last, release.clone(), taker.clone())));
        }
        let excess = (all.len() - self.limits.entries).max(self.limits.entries / ROOM);
        all.select_nth_unstable(excess - 1);
        all.truncate(excess);
        for (_, _, release, taker) in all {
            let Some(takers) = self.releases.get_mut(&release) else { continue };
            let Some(tally) = takers.remove(&taker) else { continue };
            if takers.is_empty() {
                self.releases.remove(&release);
            }
            self.entries -= 1;
            self.folded = self.folded.saturating_add(tally.count);
            self.add_other(&release.route, tally);
        }
        let releases = &self.releases;
        let mut used: HashSet<&Arc<str>> = self.others.keys().collect();
        for (ReleaseKey { route, project, version }, takers) in releases {
            used.extend([route, project, version]);
            used.extend(takers.keys().filter_map(|taker| match taker {
                Taker::Named(name) => Some(name),
                Taker::Unknown | Taker::Others => None,
            }));
        }
        self.names = used.into_iter().cloned().collect();
    }

    /// All of it, to be written or to be reported.
    pub fn record(&self) -> DayRecord {
        let rows = self.releases.iter().flat_map(|(release, takers)| {
            let ReleaseKey { route, project, version } = release;
            let row = move |(taker, tally): (&'_ Taker<Arc<str>>, &Tally)| (taker.as_ref().map(Arc::clone), *tally);
            takers.iter().map(row).map(move |(taker, tally)| ([route, project, version], taker, tally))
        });
        DayRecord::new(self.day, rows, self.others.iter().map(|(route, tally)| (route, *tally)))
    }
}

/// How many takers have a name.
fn named_takers(takers: &BTreeMap<Taker<Arc<str>>, Tally>) -> usize {
    let unnamed = [Taker::Unknown, Taker::Others];
    takers.len() - unnamed.iter().filter(|taker| takers.contains_key(taker)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: UsageLimits = UsageLimits { entries: 16, identities: 3 };

    fn table(limits: UsageLimits) -> DayTable {
        DayTable::new(UsageDay::of(DAY), limits)
    }

    fn rows(table: &DayTable) -> Vec<String> {
        let record = table.record();
        let rows = record.rows().map(|RecordRow { project, version, taker, tally, .. }| {
            format!("{project} {version} {:?} {}", taker.map(ToString::to_string), tally.count)
        });
        rows.collect()
    }

    #[test]
    fn identities_beyond_the_limit_of_a_version_are_counted_together() {
        let mut table = table(LIMITS);
        for number in [0, 1, 2, 3, 4, 3, 0] {
            table.add(["main", "a", "1"], Taker::Named(&format!("ci-{number}")), Tally::once(DAY + number));
        }
        table.add(["main", "a", "2"], Taker::Named("ci-4"), Tally::once(DAY));
        let expected = [
            "a 1 Others 3",
            "a 1 Named(\"ci-0\") 2",
            "a 1 Named(\"ci-1\") 1",
            "a 1 Named(\"ci-2\") 1",
            "a 2 Named(\"ci-4\") 1",
        ];
        assert_eq!(rows(&table), expected);
        assert_eq!((table.take_folded(), table.take_folded(), table.entries()), (3, 0, 5));
    }

    #[test]
    fn counters_beyond_the_limit_of_a_day_give_way_by_what_they_say() {
        let mut table = table(LIMITS);
        for round in 0..100_u64 {
            for number in 0..if round < 3 { 10 } else { 1 } {
                table.add(["main", &format!("often-{number}"), "1"], Taker::Unknown, Tally::once(DAY + round));
            }
            table.add(["main", "rare", &round.to_string()], Taker::Unknown, Tally::once(DAY + round));
            assert!(table.entries() <= LIMITS.entries);
        }
        let rows = rows(&table);
        assert_eq!(rows.iter().filter(|row| row.starts_with("often")).count(), 10, "{rows:?}");
        assert!(rows.contains(&"rare 99 Unknown 1".to_owned()), "the newest is there: {rows:?}");
        let record = table.record();
        let others: u64 = record.others().map(|(_, tally)| tally.count).sum();
        let counted: u64 = record.rows().map(|row| row.tally.count).sum();
        assert_eq!((others, others + counted), (table.take_folded(), 100 + 3 * 10 + 97), "nothing is lost");
        assert!(table.names.len() <= 40, "{}", table.names.len());
    }

    #[test]
    fn a_table_goes_on_from_its_record() {
        let mut first = table(LIMITS);
        first.add(["main", "a", "1"], Taker::Named("ci"), Tally::once(DAY + 5));
        first.add_other("main", Tally::once(DAY + 6));
        let mut again = DayTable::resume(&first.record(), LIMITS);
        assert_eq!(again.record(), first.record());
        again.add(["main", "a", "1"], Taker::Named("ci"), Tally::once(DAY + 9));
        assert_eq!(rows(&again), ["a 1 Named(\"ci\") 2"]);
    }

    #[test]
    fn a_full_table_goes_on_from_its_record_in_any_order() {
        let mut first = table(LIMITS);
        for number in 0..5 {
            first.add(["main", "a", "1"], Taker::Named(&format!("ci-{number}")), Tally::once(DAY));
        }
        first.add(["main", "a", "1"], Taker::Unknown, Tally::once(DAY));
        let again = DayTable::resume(&first.record(), LIMITS);
        assert_eq!(again.record(), first.record(), "those without a name come first in it");
    }

    #[test]
    fn names_and_moments_are_bounded() {
        let mut table = table(LIMITS);
        table.add(["main", "a", "1"], Taker::Named(&"x".repeat(5000)), Tally { count: 1, first: 3, last: u64::MAX });
        let record = table.record();
        let row = record.rows().next().expect("a row");
        assert_eq!((row.tally.first, row.tally.last), (DAY, 2 * DAY - 1));
        let Taker::Named(name) = row.taker else { panic!("a name") };
        assert!(name.chars().count() <= LONGEST_IDENTITY + 1);
    }
}
