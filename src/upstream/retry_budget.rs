//! How many retries all requests to one endpoint may make together. Pure state over explicit instants.

use std::time::Duration;

use tokio::time::Instant;

/// Retries as a part of the traffic, with a floor per second so that a quiet endpoint may be retried at all.
///
/// `tower`'s `TpsBudget` does not fit: it counts in windows, so a floor of two retries a second is used up in one burst
/// and comes back only when the window of seconds ends, it starts empty without a floor, and its floor is a whole
/// number.
#[derive(Debug)]
pub(super) struct RetryBudget {
    ratio: f64,
    floor: f64,
    balance: f64,
    updated: Option<Instant>,
}

impl RetryBudget {
    /// The highest balance, in retries; a new budget starts with it.
    const MAX_BALANCE: f64 = 20.0;

    pub(super) fn new(ratio: f64, floor: f64) -> Self {
        let sane = |value: f64, max: f64| if value.is_finite() { value.clamp(0.0, max) } else { 0.0 };
        Self { ratio: sane(ratio, 1.0), floor: sane(floor, 1000.0), balance: Self::MAX_BALANCE, updated: None }
    }

    /// A request goes out.
    pub(super) fn deposit(&mut self) {
        self.balance = (self.balance + self.ratio).min(Self::MAX_BALANCE);
    }

    /// Takes one retry out of the budget. Returns whether there was one.
    pub(super) fn withdraw(&mut self, now: Instant) -> bool {
        let idle = self.updated.replace(now).map_or(Duration::ZERO, |updated| now.saturating_duration_since(updated));
        self.balance = (self.balance + idle.as_secs_f64() * self.floor).min(Self::MAX_BALANCE);
        let affordable = self.balance >= 1.0;
        if affordable {
            self.balance -= 1.0;
        }
        affordable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn retries_are_a_part_of_the_traffic() {
        let now = Instant::now();
        let mut budget = RetryBudget::new(0.1, 0.0);
        let burst = (0..100).filter(|_| budget.withdraw(now)).count();
        assert_eq!(burst, 20, "the starting balance");
        for _ in 0..1001 {
            budget.deposit();
            budget.withdraw(now);
        }
        let mut retries = 0;
        for _ in 0..1000 {
            budget.deposit();
            retries += usize::from(budget.withdraw(now));
        }
        assert!((90..=110).contains(&retries), "{retries}");
    }

    #[test]
    fn a_quiet_endpoint_earns_retries_by_time() {
        let now = Instant::now();
        let mut budget = RetryBudget::new(0.0, 2.0);
        while budget.withdraw(now) {}
        assert!(budget.withdraw(now + SECOND));
        assert!(budget.withdraw(now + SECOND));
        assert!(!budget.withdraw(now + SECOND));
    }
}
