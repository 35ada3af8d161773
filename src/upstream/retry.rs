//! Pure decisions about repeating: what an attempt that brought no answer means, and how long to wait.
//!
//! Only reads are ever repeated. Every number of attempts is small and fixed; the shared budgets are in
//! [`super::gate`].

use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode, header};

use super::error::Unavailability;

/// The longest wish of an upstream that is honoured.
pub(super) const LONGEST_WISH: Duration = Duration::from_secs(10);
/// The base of the exponential pauses after a 5xx.
const SERVER_BASE: Duration = Duration::from_millis(200);
/// Pauses before a file that the index lists is asked for again; the last one repeats until the patience ends.
const IMPORT_PAUSES: [Duration; 5] = [
    Duration::from_millis(300),
    Duration::from_millis(600),
    Duration::from_millis(1200),
    Duration::from_millis(1500),
    Duration::from_millis(1500),
];

/// How an attempt failed, as far as repeating is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// No connection, or one that ended before the head of an answer.
    Connection(Unavailability),
    /// No head in time.
    Silence,
    /// 429, with what the upstream wished.
    Throttled(Option<Duration>),
    /// A 5xx, with what the upstream wished.
    Server(StatusCode, Option<Duration>),
}

impl Failure {
    /// What the failure is called once nothing more is tried.
    pub fn reason(self) -> Unavailability {
        match self {
            Self::Connection(reason) => reason,
            Self::Silence => Unavailability::Timeout,
            Self::Throttled(_) => Unavailability::Throttled,
            Self::Server(..) => Unavailability::ServerError,
        }
    }

    /// What the upstream wished.
    pub fn wish(self) -> Option<Duration> {
        match self {
            Self::Throttled(wish) | Self::Server(_, wish) => wish,
            Self::Connection(_) | Self::Silence => None,
        }
    }
}

/// What to do after a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Repeat after this pause, if the shared budget allows it.
    Repeat(Duration),
    /// Repeat when the endpoint's shared pause is over.
    RepeatAfterPause,
    /// Give up.
    Stop,
}

/// How often one request has been repeated, by cause.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Spent {
    connection: u8,
    server: u8,
    import: usize,
}

impl Spent {
    /// Decides, and counts what it decided. `chance` is a random number between 0 and 1.
    pub fn after(&mut self, failure: Failure, chance: f64) -> Next {
        match failure {
            Failure::Connection(_) if self.connection == 0 => {
                self.connection = 1;
                Next::Repeat(Duration::ZERO)
            }
            Failure::Server(status, wish) if self.server < 2 && is_passing(status) => {
                self.server += 1;
                let pause = (SERVER_BASE * 2_u32.pow(u32::from(self.server))).mul_f64(chance);
                Next::Repeat(wish.unwrap_or_default().max(pause))
            }
            Failure::Throttled(_) => Next::RepeatAfterPause,
            Failure::Connection(_) | Failure::Server(..) | Failure::Silence => Next::Stop,
        }
    }

    /// The pause before a listed file is asked for again, `None` when the waiting so far was enough.
    pub fn after_missing(&mut self, waited: Duration, patience: Duration) -> Option<Duration> {
        let pause = IMPORT_PAUSES[self.import.min(IMPORT_PAUSES.len() - 1)];
        self.import += 1;
        // The last pause is cut so that the final look happens when the patience ends, not before.
        let left = patience.saturating_sub(waited);
        (!left.is_zero()).then(|| pause.min(left))
    }
}

fn is_passing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502 | 503 | 504)
}

/// The wish of a `Retry-After`: seconds, or a date that is compared with the answer's own `Date`, so that no clock of
/// ours is involved. Not capped.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = httpdate::parse_http_date(text).ok()?;
    let now: SystemTime = httpdate::parse_http_date(headers.get(header::DATE)?.to_str().ok()?).ok()?;
    Some(until.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_connection_is_tried_again_once_and_at_once() {
        let mut spent = Spent::default();
        let failure = Failure::Connection(Unavailability::Broken);
        assert_eq!(spent.after(failure, 0.9), Next::Repeat(Duration::ZERO));
        assert_eq!(spent.after(failure, 0.9), Next::Stop);
        assert_eq!(spent.after(Failure::Silence, 0.0), Next::Stop);
    }

    #[test]
    fn a_passing_5xx_is_tried_twice_more_with_growing_jitter() {
        let server = |code| Failure::Server(StatusCode::from_u16(code).expect("a status"), None);
        let mut spent = Spent::default();
        assert_eq!(spent.after(server(502), 1.0), Next::Repeat(Duration::from_millis(400)));
        assert_eq!(spent.after(server(502), 0.5), Next::Repeat(Duration::from_millis(400)));
        assert_eq!(spent.after(server(502), 0.5), Next::Stop);
        assert_eq!(Spent::default().after(server(501), 0.5), Next::Stop);
        let wished = Failure::Server(StatusCode::SERVICE_UNAVAILABLE, Some(Duration::from_secs(2)));
        assert_eq!(Spent::default().after(wished, 0.5), Next::Repeat(Duration::from_secs(2)));
    }

    #[test]
    fn a_listed_file_is_looked_for_until_the_patience_ends() {
        let patience = Duration::from_secs(5);
        let mut spent = Spent::default();
        let mut waited = Duration::ZERO;
        let mut looks = 0;
        while let Some(pause) = spent.after_missing(waited, patience) {
            waited += pause;
            looks += 1;
        }
        assert_eq!((waited, looks), (patience, 5));
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
        assert_eq!(retry_after(&headers(&[(header::RETRY_AFTER, "soon")])), None);
        assert_eq!(retry_after(&headers(&[])), None);
    }
}
