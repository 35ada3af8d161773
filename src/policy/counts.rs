//! How often rules refused something or would have, for metrics. The labels are names of rules, never of projects.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// Rules that are counted by name; the others together as `other`.
const MOST_NAMES: usize = 1000;

/// Counts by rule since the start.
#[derive(Debug, Default)]
pub struct PolicyCounts {
    refused: Mutex<BTreeMap<Arc<str>, u64>>,
    audited: Mutex<BTreeMap<Arc<str>, u64>>,
}

impl PolicyCounts {
    /// A request was refused by a rule.
    pub fn refused(&self, rule: &Arc<str>) {
        count(&self.refused, rule);
    }

    /// A file was served that a rule only looks at.
    pub fn audited(&self, rule: &Arc<str>) {
        count(&self.audited, rule);
    }

    /// Refusals by rule.
    pub fn refusals(&self) -> Vec<(Arc<str>, u64)> {
        listed(&self.refused)
    }

    /// Served files by the rule that looks at them.
    pub fn findings(&self) -> Vec<(Arc<str>, u64)> {
        listed(&self.audited)
    }
}

fn count(counts: &Mutex<BTreeMap<Arc<str>, u64>>, rule: &Arc<str>) {
    let mut counts = counts.lock();
    let is_known = counts.contains_key(rule) || counts.len() < MOST_NAMES;
    *counts.entry(if is_known { Arc::clone(rule) } else { "other".into() }).or_default() += 1;
}

fn listed(counts: &Mutex<BTreeMap<Arc<str>, u64>>) -> Vec<(Arc<str>, u64)> {
    counts.lock().iter().map(|(rule, count)| (Arc::clone(rule), *count)).collect()
}
