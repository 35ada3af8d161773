//! Pure decisions about retries: what an attempt without a usable response means, and how long to wait.
//!
//! Only reads are ever retried. Every number of attempts is small and fixed; what all requests share is in `admission`.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode, header};

use super::error::Unavailability;

/// The longest `Retry-After` that is honoured.
pub(super) const MAX_RETRY_AFTER: Duration = Duration::from_secs(10);
/// A longer `Retry-After` means as much as this one, which can be added to any moment.
const LONGEST_RETRY_AFTER: Duration = Duration::from_hours(24);
/// The base of the exponential pauses after a 5xx.
const SERVER_BASE: Duration = Duration::from_millis(200);
/// The retries after a 5xx.
const SERVER_RETRIES: u8 = 2;
/// Pauses before a file that the index lists is requested again; the last one repeats until the limit.
const IMPORT_PAUSES: [Duration; 5] = [
    Duration::from_millis(300),
    Duration::from_millis(600),
    Duration::from_millis(1200),
    Duration::from_millis(1500),
    Duration::from_millis(1500),
];

/// How an attempt failed, as far as a retry is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AttemptFailure {
    /// No connection, or one that ended before the headers of a response.
    Connection(Unavailability),
    /// No response headers in time.
    Timeout,
    /// 429, with its `Retry-After`.
    Throttled(Option<Duration>),
    /// A 5xx, with its `Retry-After`.
    Server(StatusCode, Option<Duration>),
}

impl AttemptFailure {
    /// The reason to report when there are no more retries.
    pub(super) fn reason(self) -> Unavailability {
        match self {
            Self::Connection(reason) => reason,
            Self::Timeout => Unavailability::Timeout,
            Self::Throttled(_) => Unavailability::Throttled,
            Self::Server(..) => Unavailability::ServerError,
        }
    }

    pub(super) fn retry_after(self) -> Option<Duration> {
        match self {
            Self::Throttled(retry_after) | Self::Server(_, retry_after) => retry_after,
            Self::Connection(_) | Self::Timeout => None,
        }
    }
}

/// What to do after a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RetryDecision {
    /// Retry after this pause, if the shared budget allows it.
    Retry(Duration),
    /// Retry when the endpoint's shared backoff is over.
    AfterBackoff,
    GiveUp,
}

/// How often one request has been retried, by cause.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct RetryState {
    connection: u8,
    server: u8,
    import: usize,
}

impl RetryState {
    /// Decides, and counts what it decided. `random` is a number between 0 and 1.
    pub(super) fn after(&mut self, failure: AttemptFailure, random: f64) -> RetryDecision {
        match failure {
            AttemptFailure::Connection(_) if self.connection == 0 => {
                self.connection = 1;
                RetryDecision::Retry(Duration::ZERO)
            }
            AttemptFailure::Server(status, retry_after) if self.server < SERVER_RETRIES && is_transient(status) => {
                self.server += 1;
                let pause = (SERVER_BASE * 2_u32.pow(u32::from(self.server))).mul_f64(random);
                RetryDecision::Retry(retry_after.unwrap_or_default().max(pause))
            }
            AttemptFailure::Throttled(_) => RetryDecision::AfterBackoff,
            AttemptFailure::Connection(_) | AttemptFailure::Server(..) | AttemptFailure::Timeout => {
                RetryDecision::GiveUp
            }
        }
    }

    /// The pause before a listed file is requested again; `None` when it has been missing for `limit`.
    pub(super) fn after_missing(&mut self, waited: Duration, limit: Duration) -> Option<Duration> {
        let pause = IMPORT_PAUSES[self.import.min(IMPORT_PAUSES.len() - 1)];
        self.import += 1;
        // The last pause is cut so that the last request goes out at the limit, not before.
        let left = limit.saturating_sub(waited);
        (!left.is_zero()).then(|| pause.min(left))
    }
}

fn is_transient(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502 | 503 | 504)
}

/// The time in `Retry-After` (RFC 9110, section 10.2.3): seconds, or a date that is compared with the response's own
/// `Date`, so that no clock of ours is involved. A day at most.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        text.parse().map_or(LONGEST_RETRY_AFTER, Duration::from_secs)
    } else {
        let until = httpdate::parse_http_date(text).ok()?;
        let now: SystemTime = httpdate::parse_http_date(headers.get(header::DATE)?.to_str().ok()?).ok()?;
        until.duration_since(now).unwrap_or_default()
    };
    Some(wait.min(LONGEST_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_connection_is_retried_once_and_at_once() {
        let mut state = RetryState::default();
        let failure = AttemptFailure::Connection(Unavailability::Broken);
        assert_eq!(state.after(failure, 0.9), RetryDecision::Retry(Duration::ZERO));
        assert_eq!(state.after(failure, 0.9), RetryDecision::GiveUp);
        assert_eq!(state.after(AttemptFailure::Timeout, 0.0), RetryDecision::GiveUp);
    }

    #[test]
    fn a_transient_5xx_is_retried_twice_with_growing_jitter() {
        let server = |code| AttemptFailure::Server(StatusCode::from_u16(code).expect("a status"), None);
        let mut state = RetryState::default();
        assert_eq!(state.after(server(502), 1.0), RetryDecision::Retry(Duration::from_millis(400)));
        assert_eq!(state.after(server(502), 0.5), RetryDecision::Retry(Duration::from_millis(400)));
        assert_eq!(state.after(server(502), 0.5), RetryDecision::GiveUp);
        assert_eq!(RetryState::default().after(server(501), 0.5), RetryDecision::GiveUp);
        let with_retry_after = AttemptFailure::Server(StatusCode::SERVICE_UNAVAILABLE, Some(Duration::from_secs(2)));
        assert_eq!(RetryState::default().after(with_retry_after, 0.5), RetryDecision::Retry(Duration::from_secs(2)));
    }

    #[test]
    fn a_listed_file_is_requested_until_the_limit() {
        let limit = Duration::from_secs(5);
        let mut state = RetryState::default();
        let mut waited = Duration::ZERO;
        let mut requests = 0;
        while let Some(pause) = state.after_missing(waited, limit) {
            waited += pause;
            requests += 1;
        }
        assert_eq!((waited, requests), (limit, 5));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_against_the_upstreams_own_clock() {
        let headers = |pairs: &[(header::HeaderName, &'static str)]| {
            pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect::<HeaderMap>()
        };
        assert_eq!(retry_after(&headers(&[(header::RETRY_AFTER, "7")])), Some(Duration::from_secs(7)));
        let date = (header::DATE, "Wed, 21 Oct 2026 07:28:00 GMT");
        let until = (header::RETRY_AFTER, "Wed, 21 Oct 2026 07:28:05 GMT");
        assert_eq!(retry_after(&headers(&[date, until.clone()])), Some(Duration::from_secs(5)));
        assert_eq!(retry_after(&headers(&[until])), None);
        for absurd in ["86401", "18446744073709551615", "99999999999999999999999"] {
            assert_eq!(retry_after(&headers(&[(header::RETRY_AFTER, absurd)])), Some(LONGEST_RETRY_AFTER));
        }
        assert_eq!(retry_after(&headers(&[(header::RETRY_AFTER, "soon")])), None);
        assert_eq!(retry_after(&headers(&[])), None);
    }
}
