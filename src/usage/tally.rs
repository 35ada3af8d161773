//! What is counted, and for whom.

/// How many downloads there were, and when the first and the last of them, in seconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    pub count: u64,
    pub first: u64,
    pub last: u64,
}

impl Tally {
    /// One download.
    pub fn once(at: u64) -> Self {
        Self { count: 1, first: at, last: at }
    }

    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            count: self.count.saturating_add(other.count),
            first: self.first.min(other.first),
            last: self.last.max(other.last),
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        *self = self.and(other);
    }
}

/// Who took a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Taker<T> {
    /// The route is open, or identities are not counted.
    Unknown,
    /// Identities for which there was no place, together.
    Others,
    Named(T),
}

impl<T> Taker<T> {
    pub(super) fn as_ref(&self) -> Taker<&T> {
        match self {
            Self::Unknown => Taker::Unknown,
            Self::Others => Taker::Others,
            Self::Named(name) => Taker::Named(name),
        }
    }

    pub(super) fn map<U>(self, map: impl FnOnce(T) -> U) -> Taker<U> {
        match self {
            Self::Unknown => Taker::Unknown,
            Self::Others => Taker::Others,
            Self::Named(name) => Taker::Named(map(name)),
        }
    }
}
