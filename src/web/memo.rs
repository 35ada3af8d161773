//! Remembers the last few outcomes of a pure function of two header values.

use std::array;

/// How many outcomes are remembered.
const HELD: usize = 8;
/// Longer values are worked out every time, in bytes.
const LONGEST: usize = 512;

/// The last few outcomes. What is asked for most often need not stay, it only has to come back soon.
pub(super) struct Memo<T> {
    held: [Option<Known<T>>; HELD],
    oldest: usize,
}

struct Known<T> {
    said: [Box<[u8]>; 2],
    outcome: T,
}

impl<T> Default for Memo<T> {
    fn default() -> Self {
        Self { held: array::from_fn(|_| None), oldest: 0 }
    }
}

impl<T: Copy> Memo<T> {
    /// The outcome for these two values, worked out if it is not remembered. Errors are not remembered.
    pub(super) fn of<E>(&mut self, said: [&[u8]; 2], work_out: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let same = |known: &&Known<T>| *known.said[0] == *said[0] && *known.said[1] == *said[1];
        if let Some(known) = self.held.iter().flatten().find(same) {
            return Ok(known.outcome);
        }
        let outcome = work_out()?;
        if said.iter().all(|value| value.len() <= LONGEST) {
            self.held[self.oldest] = Some(Known { said: said.map(Box::from), outcome });
            self.oldest = (self.oldest + 1) % HELD;
        }
        Ok(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(memo: &mut Memo<usize>, said: [&str; 2]) -> (usize, bool) {
        let mut worked_out = false;
        let length = memo.of(said.map(str::as_bytes), || {
            worked_out = true;
            Ok::<_, ()>(said[0].len() * 1000 + said[1].len())
        });
        (length.expect("the function does not fail"), worked_out)
    }

    #[test]
    fn the_outcome_is_always_that_of_the_values_asked_for() {
        let mut memo = Memo::default();
        assert_eq!(asked(&mut memo, ["a", "bc"]), (1002, true));
        assert_eq!(asked(&mut memo, ["a", "bc"]), (1002, false));
        assert_eq!(asked(&mut memo, ["ab", "c"]), (2001, true), "the boundary between the values counts");
        for length in 0..HELD {
            asked(&mut memo, [&"x".repeat(length), "y"]);
        }
        assert_eq!(asked(&mut memo, ["a", "bc"]), (1002, true), "the oldest made room");
    }

    #[test]
    fn long_values_and_errors_are_not_remembered() {
        let mut memo = Memo::default();
        let long = "x".repeat(LONGEST + 1);
        assert!(asked(&mut memo, [&long, ""]).1 && asked(&mut memo, [&long, ""]).1);
        assert_eq!(memo.of([b"a", b""], || Err::<usize, _>("no")), Err("no"));
        assert_eq!(asked(&mut memo, ["a", ""]), (1000, true));
    }
}
