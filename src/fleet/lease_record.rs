//! What the holder of a lease says of itself, and what those who wait make of it. Pure.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The longest time that a request waits for another replica, from where it began to the predicted end.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(8);
/// The version of the text form.
const VERSION: &str = "v1";

/// One statement of a lease's holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LeaseRecord {
    /// The holder: a number that no other attempt has.
    pub(super) owner: u64,
    /// Counts the holder's statements, so that a live holder's differ.
    pub(super) sequence: u64,
    /// The bytes that are here.
    pub(super) bytes: u64,
    /// The bytes that will be here, if known.
    pub(super) length: Option<u64>,
    /// How long the holder has been at it.
    pub(super) elapsed: Duration,
    /// Whether it has finished.
    pub(super) is_done: bool,
}

/// A text that is no statement of a lease's holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the record of a lease")]
pub(super) struct InvalidLeaseRecord;

impl LeaseRecord {
    /// The first statement of a new holder.
    pub(super) fn begin(owner: u64) -> Self {
        Self { owner, sequence: 0, bytes: 0, length: None, elapsed: Duration::ZERO, is_done: false }
    }

    /// How long it will still take at the rate so far; `None` where that cannot be said.
    fn remaining(&self) -> Option<Duration> {
        let left = self.length?.saturating_sub(self.bytes);
        if left == 0 {
            return Some(Duration::ZERO);
        }
        let millis = u128::from(left) * self.elapsed.as_millis() / u128::from(self.bytes).max(1);
        (self.bytes > 0).then(|| Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX)))
    }
}

impl fmt::Display for LeaseRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { owner, sequence, bytes, length, elapsed, is_done } = self;
        write!(f, "{VERSION} {owner:016x} {sequence} {bytes} ")?;
        match length {
            Some(length) => write!(f, "{length}")?,
            None => f.write_str("-")?,
        }
        write!(f, " {} {}", elapsed.as_millis(), if *is_done { "done" } else { "held" })
    }
}

impl FromStr for LeaseRecord {
    type Err = InvalidLeaseRecord;

    fn from_str(text: &str) -> Result<Self, InvalidLeaseRecord> {
        let fields: Vec<_> = text.split(' ').collect();
        let [VERSION, owner, sequence, bytes, length, elapsed, state] = fields[..] else {
            return Err(InvalidLeaseRecord);
        };
        let number = |text: &str| text.parse::<u64>().map_err(|_| InvalidLeaseRecord);
        Ok(Self {
            owner: u64::from_str_radix(owner, 16).map_err(|_| InvalidLeaseRecord)?,
            sequence: number(sequence)?,
            bytes: number(bytes)?,
            length: if length == "-" { None } else { Some(number(length)?) },
            elapsed: Duration::from_millis(number(elapsed)?),
            is_done: match state {
                "done" => true,
                "held" => false,
                _ => return Err(InvalidLeaseRecord),
            },
        })
    }
}

/// What a request that waits does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WaitDecision {
    /// Wait on.
    Wait,
    /// The holder has finished: the object is where it belongs, or nowhere.
    Look,
    /// The holder has not got on.
    Stalled,
    /// The holder will not be ready in time.
    TooSlow,
}

/// How much longer to wait for a holder, `waited` after the wait began and `still` after its last progress.
pub(super) fn decide(record: &LeaseRecord, waited: Duration, still: Duration, stalled_after: Duration) -> WaitDecision {
    if record.is_done {
        return WaitDecision::Look;
    }
    if still >= stalled_after {
        return WaitDecision::Stalled;
    }
    match record.remaining() {
        Some(remaining) if waited.saturating_add(remaining) > LONGEST_WAIT => WaitDecision::TooSlow,
        None if waited > LONGEST_WAIT => WaitDecision::TooSlow,
        _ => WaitDecision::Wait,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn record(bytes: u64, length: Option<u64>, seconds: u64) -> LeaseRecord {
        LeaseRecord { bytes, length, elapsed: Duration::from_secs(seconds), sequence: 3, ..LeaseRecord::begin(7) }
    }

    #[test]
    fn records_survive_their_text_form_and_others_are_refused() {
        for record in [record(5, Some(9), 2), LeaseRecord { is_done: true, ..record(5, None, 0) }] {
            assert_eq!(record.to_string().parse(), Ok(record));
        }
        for bad in ["", "v2 07 0 0 - 0 held", "v1 07 0 0 - 0", "v1 07 0 0 - 0 gone", "v1 07 0 x - 0 held"] {
            assert_eq!(bad.parse::<LeaseRecord>(), Err(InvalidLeaseRecord), "{bad}");
        }
    }

    #[test]
    fn a_wait_goes_on_while_progress_predicts_its_end() {
        let decide = |record: &LeaseRecord, waited, still| decide(record, SECOND * waited, SECOND * still, SECOND * 2);
        assert_eq!(decide(&record(0, None, 0), 1, 1), WaitDecision::Wait, "nothing is known yet");
        assert_eq!(decide(&record(0, None, 0), 2, 2), WaitDecision::Stalled);
        assert_eq!(decide(&record(50, Some(100), 4), 3, 0), WaitDecision::Wait, "4 s more");
        assert_eq!(decide(&record(50, Some(100), 4), 5, 0), WaitDecision::TooSlow, "4 s more are too many");
        assert_eq!(decide(&record(50, Some(10_000), 4), 0, 0), WaitDecision::TooSlow);
        assert_eq!(decide(&record(50, None, 4), 9, 0), WaitDecision::TooSlow);
        assert_eq!(decide(&LeaseRecord { is_done: true, ..record(0, None, 9) }, 9, 9), WaitDecision::Look);
    }
}
