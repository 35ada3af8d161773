//! What came of looking into the shared tier. Labels are fixed words.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// What came of one look into the shared tier, or of one write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TierResult {
    /// It was there and right.
    Hit,
    /// It was not there.
    Miss,
    /// It was there, and is not what its name says.
    Wrong,
    /// The tier could not be asked, or broke off.
    Error,
    /// It was written, or was there already.
    Written,
    /// It could not be written.
    Unwritten,
}

impl TierResult {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Wrong => "wrong",
            Self::Error => "error",
            Self::Written => "written",
            Self::Unwritten => "unwritten",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TierLabels {
    kind: &'static str,
    result: &'static str,
}

/// Counters of the shared tier. Cheap to clone; clones count together.
#[derive(Clone, Debug, Default)]
pub struct TierMetrics {
    looks: Family<TierLabels, Counter>,
}

impl TierMetrics {
    /// Counts one look for, or one write of, an object of this kind (`blob`, `metadata`, `page`, …).
    pub fn count(&self, kind: &'static str, result: TierResult) {
        self.looks.get_or_create(&TierLabels { kind, result: result.as_str() }).inc();
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "What came of looking for objects in the tier that replicas share, and of writing them";
        registry.register("tier", help, self.looks.clone());
    }
}
