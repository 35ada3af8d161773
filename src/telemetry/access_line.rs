//! The access log: one line for every request.
//!
//! JSON lines are serialised straight into the log's queue, in the shape of any other event: `tracing`'s own JSON layer
//! halves the number of small responses that a processor gives (page 75 KB with gzip 0.46, file of 10 KB 0.51 of the
//! responses per CPU second, measured by `scripts/compare --only before`). For people it is an ordinary event.

use std::cell::RefCell;
use std::fmt::Display;
use std::net::IpAddr;
use std::time::SystemTime;

use serde::{Serialize, Serializer};

use super::logging;

/// The target of the access log; a filter such as `wheelport::access=info` keeps it.
pub const ACCESS_TARGET: &str = "wheelport::access";

const MESSAGE: &str = "request served";

/// What the line says.
pub struct AccessLine<'a> {
    /// The id of the request.
    pub request: &'a str,
    pub client: IpAddr,
    pub method: &'a str,
    /// The path, without the query.
    pub path: &'a str,
    pub status: u16,
    /// What was requested.
    pub kind: &'static str,
    /// How the response came about, or `none`.
    pub served: &'static str,
    /// The code of the error, if it is one.
    pub error: Option<&'static str>,
    /// Milliseconds until the headers of the response.
    pub ms: u64,
    /// What the client calls itself.
    pub agent: Option<&'a str>,
}

/// A line with what every event has.
#[derive(Serialize)]
struct JsonLine<'a> {
    #[serde(serialize_with = "as_text")]
    timestamp: humantime::Rfc3339Timestamp,
    level: &'static str,
    message: &'static str,
    request: &'a str,
    client: IpAddr,
    method: &'a str,
    path: &'a str,
    status: u16,
    kind: &'static str,
    served: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
    ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<&'a str>,
    target: &'static str,
}

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl AccessLine<'_> {
    /// Whether the log's filter lets such lines through.
    pub fn is_enabled() -> bool {
        logging::json_sink()
            .map_or_else(|| tracing::enabled!(target: ACCESS_TARGET, tracing::Level::INFO), |sink| sink.has_access)
    }

    /// Writes the line into the log.
    pub fn log(&self) {
        match logging::json_sink() {
            Some(sink) => BUFFER.with_borrow_mut(|buffer| {
                buffer.clear();
                self.write(buffer);
                sink.push(buffer);
            }),
            None => self.event(),
        }
    }

    fn event(&self) {
        let Self { request, client, method, path, status, kind, served, error, ms, agent } = self;
        tracing::info!(
            target: ACCESS_TARGET, request, %client, method, path, status, kind, served, error, ms, agent, "{MESSAGE}"
        );
    }

    #[expect(clippy::disallowed_methods, reason = "a log line carries the time it was written at")]
    fn write(&self, buffer: &mut Vec<u8>) {
        let Self { request, client, method, path, status, kind, served, error, ms, agent } = *self;
        let timestamp = humantime::format_rfc3339_micros(SystemTime::now());
        let (level, message, target) = ("INFO", MESSAGE, ACCESS_TARGET);
        let line = JsonLine {
            timestamp,
            level,
            message,
            request,
            client,
            method,
            path,
            status,
            kind,
            served,
            error,
            ms,
            agent,
            target,
        };
        serde_json::to_writer(&mut *buffer, &line).expect("a line of text and numbers can be written to memory");
        buffer.push(b'\n');
    }
}

fn as_text<S: Serializer>(value: &impl Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    type Line = serde_json::Map<String, serde_json::Value>;

    /// The line as it is serialised here, and as `tracing` writes it.
    fn both(line: &AccessLine<'_>) -> Result<(Line, Line), serde_json::Error> {
        let mut ours = Vec::new();
        line.write(&mut ours);
        let captured = Captured::default();
        let writer = captured.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .json()
            .flatten_event(true)
            .with_current_span(false);
        tracing::subscriber::with_default(subscriber.finish(), || line.event());
        let theirs = captured.0.lock();
        Ok((serde_json::from_slice(&ours)?, serde_json::from_slice(&theirs)?))
    }

    #[test]
    fn the_line_has_the_shape_of_any_other_event() -> Result<(), serde_json::Error> {
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
            let (mut ours, mut theirs) = both(&line)?;
            for line in [&mut ours, &mut theirs] {
                let timestamp = line.remove("timestamp");
                let length = timestamp.as_ref().and_then(|time| time.as_str()).map(str::len);
                assert_eq!(length, Some("2026-03-01T12:00:00.000000Z".len()), "{timestamp:?}");
            }
            assert_eq!(ours, theirs);
        }
        Ok(())
    }
}
