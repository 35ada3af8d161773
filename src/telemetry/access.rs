//! The log line about an answer. There is one for every request, so where logs are JSON it is written by hand, which
//! takes a fraction of the time of the general way and gives the same line; for people it is an event like all others.

use std::cell::RefCell;
use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::logging::{self, ACCESS};

/// What the line says.
pub struct AccessLine<'a> {
    /// The id of the request.
    pub request: &'a str,
    /// Who asked.
    pub client: IpAddr,
    /// The method.
    pub method: &'a str,
    /// The path, without the query.
    pub path: &'a str,
    /// The status.
    pub status: u16,
    /// What was asked for.
    pub kind: &'static str,
    /// How the answer came about, or `none`.
    pub served: &'static str,
    /// The code of the error, if it is one.
    pub error: Option<&'static str>,
    /// Milliseconds until the head of the answer.
    pub ms: u64,
    /// What the client calls itself.
    pub agent: Option<&'a str>,
}

impl AccessLine<'_> {
    /// Whether such lines are asked for.
    pub fn wanted() -> bool {
        logging::json_lines()
            .map_or_else(|| tracing::enabled!(target: ACCESS, tracing::Level::INFO), |lines| lines.access)
    }

    /// Logs the line, written now. `now` is the monotonic clock's word for that.
    pub fn log(&self, now: Instant) {
        match logging::json_lines() {
            Some(lines) => CALENDAR.with_borrow_mut(|calendar| {
                lines.push(|waiting| self.write(waiting, calendar, now));
            }),
            None => self.event(),
        }
    }

    fn event(&self) {
        let Self { request, client, method, path, status, kind, served, error, ms, agent } = self;
        tracing::info!(target: ACCESS, request, %client, method, path, status, kind, served, error, ms, agent, "answered");
    }

    fn write(&self, line: &mut Vec<u8>, calendar: &mut Calendar, now: Instant) {
        calendar.begin(line, now);
        text(line, b",\"request\":\"", self.request);
        line.extend_from_slice(b",\"client\":\"");
        match self.client {
            IpAddr::V4(address) => {
                let [first, rest @ ..] = address.octets();
                number(line, first);
                for octet in rest {
                    line.push(b'.');
                    number(line, octet);
                }
            }
            IpAddr::V6(address) => line.extend_from_slice(address.to_string().as_bytes()),
        }
        text(line, b"\",\"method\":\"", self.method);
        text(line, b",\"path\":\"", self.path);
        line.extend_from_slice(b",\"status\":");
        number(line, self.status);
        text(line, b",\"kind\":\"", self.kind);
        text(line, b",\"served\":\"", self.served);
        if let Some(error) = self.error {
            text(line, b",\"error\":\"", error);
        }
        line.extend_from_slice(b",\"ms\":");
        number(line, self.ms);
        if let Some(agent) = self.agent {
            text(line, b",\"agent\":\"", agent);
        }
        text(line, b",\"target\":\"", ACCESS);
        line.extend_from_slice(b"}\n");
    }
}

thread_local! {
    static CALENDAR: RefCell<Calendar> = RefCell::default();
}

/// The date and time of an instant, without asking the system's clock for each. It is asked once in a second, so a step
/// of that clock shows in the lines of the next second.
#[derive(Default)]
struct Calendar {
    /// An instant, and microseconds since 1970 then.
    asked: Option<(Instant, u64)>,
    /// A second since 1970, and its text, which many lines share.
    second: Option<u64>,
    /// `YYYY-MM-DDTHH:MM:SS`
    text: String,
}

impl Calendar {
    /// Microseconds since 1970.
    #[expect(clippy::disallowed_methods, reason = "a log line carries the time it was written at")]
    fn micros(&mut self, now: Instant) -> u64 {
        let micros = |span: Duration| u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        match self.asked {
            Some((at, then)) if now.saturating_duration_since(at) < Duration::from_secs(1) => {
                then + micros(now.saturating_duration_since(at))
            }
            _ => {
                let then = micros(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default());
                self.asked = Some((now, then));
                then
            }
        }
    }

    /// Begins a line with the time (RFC 3339, microseconds) and what is the same in all lines.
    fn begin(&mut self, line: &mut Vec<u8>, now: Instant) {
        let micros = self.micros(now);
        self.begin_at(line, micros);
    }

    fn begin_at(&mut self, line: &mut Vec<u8>, micros: u64) {
        const MILLION: u64 = 1_000_000;
        let second = micros / MILLION;
        if self.second != Some(second) {
            self.second = Some(second);
            self.text = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(second)).to_string();
            self.text.pop();
        }
        line.extend_from_slice(b"{\"timestamp\":\"");
        line.extend_from_slice(self.text.as_bytes());
        line.push(b'.');
        // One digit in front keeps the leading zeros.
        line.extend_from_slice(&itoa::Buffer::new().format(MILLION + micros % MILLION).as_bytes()[1..]);
        line.extend_from_slice(b"Z\",\"level\":\"INFO\",\"message\":\"answered\"");
    }
}

fn number(line: &mut Vec<u8>, number: impl itoa::Integer) {
    line.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// A member whose value is a string; `opening` is all up to the value's first character.
fn text<const LENGTH: usize>(line: &mut Vec<u8>, opening: &[u8; LENGTH], value: &str) {
    line.extend_from_slice(opening);
    let bytes = value.as_bytes();
    // One pass without branches, for most texts need no more.
    let is_special = |byte: u8| matches!(byte, ..b' ' | b'"' | b'\\');
    if bytes.iter().fold(false, |any, &byte| any | is_special(byte)) {
        escaped(line, bytes);
    } else {
        line.extend_from_slice(bytes);
    }
    line.push(b'"');
}

fn escaped(line: &mut Vec<u8>, bytes: &[u8]) {
    let mut plain = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if byte >= b' ' && byte != b'"' && byte != b'\\' {
            continue;
        }
        line.extend_from_slice(&bytes[plain..at]);
        plain = at + 1;
        match byte {
            b'"' => line.extend_from_slice(b"\\\""),
            b'\\' => line.extend_from_slice(b"\\\\"),
            _ => line.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
        }
    }
    line.extend_from_slice(&bytes[plain..]);
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex, PoisonError};

    use super::*;

    #[derive(Clone, Default)]
    struct Taken(Arc<Mutex<Vec<u8>>>);

    impl Write for Taken {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    type Line = serde_json::Map<String, serde_json::Value>;

    /// The line as it is written by hand, and as the general way writes it.
    fn both(line: &AccessLine<'_>) -> Result<(Line, Line), serde_json::Error> {
        let mut by_hand = Vec::new();
        line.write(&mut by_hand, &mut Calendar::default(), Instant::now());
        let taken = Taken::default();
        let writer = taken.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).json().flatten_event(true);
        tracing::subscriber::with_default(subscriber.finish(), || line.event());
        let generally = taken.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok((serde_json::from_slice(&by_hand)?, serde_json::from_slice(&generally)?))
    }

    #[test]
    fn the_line_says_what_any_other_would() -> Result<(), serde_json::Error> {
        let plain = AccessLine {
            request: "00ff",
            client: IpAddr::from([127, 0, 0, 1]),
            method: "GET",
            path: "/simple/a/",
            status: 200,
            kind: "page",
            served: "hit",
            error: None,
            ms: 7,
            agent: Some("pip/26.0"),
        };
        let odd = AccessLine {
            client: IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1]),
            path: "/a\"b\\c\u{1}\u{7f}ö",
            status: 404,
            error: Some("no-such-project"),
            agent: None,
            ..plain
        };
        for line in [plain, odd] {
            let (mut by_hand, mut generally) = both(&line)?;
            let length = |line: &mut Line| line.remove("timestamp").and_then(|time| time.as_str().map(str::len));
            assert_eq!(length(&mut by_hand), Some("2026-03-01T12:00:00.000000Z".len()));
            assert_eq!(length(&mut generally), Some("2026-03-01T12:00:00.000000Z".len()));
            assert_eq!(by_hand, generally);
        }
        Ok(())
    }

    #[test]
    fn the_time_is_right_within_a_second_and_in_the_next() {
        let mut calendar = Calendar::default();
        for (micros, expected) in [
            (1_795_358_813_000_007, "2026-11-22T14:46:53.000007Z"),
            (1_795_358_813_999_999, "2026-11-22T14:46:53.999999Z"),
            (1_795_358_814_100_000, "2026-11-22T14:46:54.100000Z"),
        ] {
            let mut line = Vec::new();
            calendar.begin_at(&mut line, micros);
            let line = String::from_utf8_lossy(&line);
            assert!(line.starts_with(&format!("{{\"timestamp\":\"{expected}\",")), "{line}");
        }
    }

    #[test]
    fn the_clock_is_asked_once_in_a_second() {
        let mut calendar = Calendar::default();
        let now = Instant::now();
        let then = calendar.micros(now);
        assert_eq!(calendar.micros(now + Duration::from_micros(999_999)), then + 999_999);
        let asked_again = calendar.micros(now + Duration::from_hours(1));
        assert!(asked_again < then + 3_000_000_000, "the clock's word counts, not the difference of instants");
    }
}
