//! Logs: one line per event, as JSON or for people, to standard error.
//!
//! A logging thread does the writing: a blocked pipe drops lines and never holds a request. The AWS SDK and hyper are
//! kept at `info` whatever is asked for, because their finer levels print headers and bodies, and those hold secrets.

use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal as _, Write};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{Format, Json, Writer};
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

/// Bytes of lines that may wait to be written.
const QUEUE: usize = 4 << 20;
/// What the writer keeps allocated between two writes, in bytes.
const GATHERED: usize = 64 << 10;
/// How long lines are gathered before they are written.
const GATHER: Duration = Duration::from_millis(2);
/// The target of the lines about answers, one for every request.
pub const ACCESS: &str = "wheelport::web::account";
/// Crates whose finer levels would print secrets or framing.
const KEPT_AT_INFO: [&str; 12] = [
    "aws_config",
    "aws_credential_types",
    "aws_runtime",
    "aws_sdk_codeartifact",
    "aws_sdk_sts",
    "aws_sdk_sso",
    "aws_sigv4",
    "aws_smithy_http_client",
    "aws_smithy_runtime",
    "aws_smithy_runtime_api",
    "hyper",
    "hyper_util",
];

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// For people at a terminal, JSON otherwise.
    #[default]
    Auto,
    /// One JSON object per line.
    Json,
    /// For people.
    Human,
}

/// A log filter that cannot be understood.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a log filter: write a level such as info or debug, or `wheelport=debug,info`")]
pub struct InvalidFilter(String);

/// Starts logging for the whole process; the guard writes what is left when it is dropped.
pub fn start(format: LogFormat, filter: &str) -> Result<Flush, InvalidFilter> {
    let invalid = || InvalidFilter(filter.to_owned());
    let mut directives: EnvFilter = EnvFilter::builder().parse(filter).map_err(|_| invalid())?;
    for target in KEPT_AT_INFO {
        directives = directives.add_directive(format!("{target}=info").parse().map_err(|_| invalid())?);
    }
    let (writer, flush) = Lines::start();
    let human = match format {
        LogFormat::Auto => io::stderr().is_terminal(),
        LogFormat::Json => false,
        LogFormat::Human => true,
    };
    let builder = tracing_subscriber::fmt().with_env_filter(directives).with_writer(writer);
    if human {
        builder.with_ansi(io::stderr().is_terminal()).with_target(false).init();
    } else {
        let json = builder.json().flatten_event(true).with_current_span(true).with_span_list(false);
        json.map_event_format(|others| QuickAccess { others }).init();
    }
    Ok(flush)
}

/// Writes lines about answers itself, as the general format would but for a fraction of the time, and leaves all others
/// to that. There is such a line for every request.
struct QuickAccess {
    others: Format<Json>,
}

impl<S, N> FormatEvent<S, N> for QuickAccess
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        if metadata.target() != ACCESS {
            return self.others.format_event(context, writer, event);
        }
        writer.write_str("{\"timestamp\":\"")?;
        SystemTime.format_time(&mut writer)?;
        write!(writer, "\",\"level\":\"{}\"", metadata.level())?;
        let mut fields = Fields { writer, outcome: Ok(()) };
        event.record(&mut fields);
        fields.outcome?;
        fields.writer.write_str(",\"target\":\"")?;
        fields.writer.write_str(ACCESS)?;
        fields.writer.write_str("\"}\n")
    }
}

/// Writes the fields of an event as members of a JSON object.
struct Fields<'a> {
    writer: Writer<'a>,
    outcome: fmt::Result,
}

impl Fields<'_> {
    fn member(&mut self, field: &Field, write: impl FnOnce(&mut Writer<'_>) -> fmt::Result) {
        if self.outcome.is_ok() {
            self.outcome =
                write!(self.writer, ",\"{}\":", field.name()).and_then(|()| write(&mut self.writer));
        }
    }
}

impl Visit for Fields<'_> {
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.member(field, |writer| write!(writer, "{value}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.member(field, |writer| {
            writer.write_char('"')?;
            Escaped(writer).write_str(value)?;
            writer.write_char('"')
        });
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.member(field, |writer| {
            writer.write_char('"')?;
            write!(Escaped(writer), "{value:?}")?;
            writer.write_char('"')
        });
    }
}

/// Escapes text for a JSON string.
struct Escaped<'a, 'b>(&'a mut Writer<'b>);

impl fmt::Write for Escaped<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut plain = 0;
        for (at, byte) in text.bytes().enumerate() {
            if byte >= b' ' && byte != b'"' && byte != b'\\' {
                continue;
            }
            self.0.write_str(&text[plain..at])?;
            plain = at + 1;
            match byte {
                b'"' => self.0.write_str("\\\"")?,
                b'\\' => self.0.write_str("\\\\")?,
                _ => write!(self.0, "\\u{byte:04x}")?,
            }
        }
        self.0.write_str(&text[plain..])
    }
}

/// The way to the logging thread.
#[derive(Clone)]
struct Lines {
    queue: Arc<Queue>,
}

/// Writes what is left when dropped.
pub struct Flush {
    queue: Arc<Queue>,
    done: Receiver<()>,
}

/// Lines that wait to be written, one behind the other.
#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    wake: Condvar,
}

#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    asleep: bool,
    closed: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: &[u8]) {
        let mut waiting = self.lock();
        if waiting.bytes.len() + line.len() > QUEUE {
            return;
        }
        waiting.bytes.extend_from_slice(line);
        if waiting.asleep {
            waiting.asleep = false;
            self.wake.notify_one();
        }
    }

    /// Waits for lines and takes them all; nothing once the queue is closed and empty.
    fn take(&self, taken: &mut Vec<u8>) -> bool {
        taken.clear();
        taken.shrink_to(GATHERED);
        let mut waiting = self.lock();
        while waiting.bytes.is_empty() && !waiting.closed {
            waiting.asleep = true;
            waiting = self.wake.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        if !waiting.closed {
            drop(waiting);
            // Under load many lines come at once, and one system call writes them all.
            thread::sleep(GATHER);
            waiting = self.lock();
        }
        waiting.asleep = false;
        std::mem::swap(&mut waiting.bytes, taken);
        !taken.is_empty()
    }
}

impl Lines {
    fn start() -> (Self, Flush) {
        let queue = Arc::new(Queue::default());
        let (finished, done) = sync_channel(1);
        let reading = Arc::clone(&queue);
        // A thread of its own, not a task: it must also write while the runtime stops.
        let spawned = thread::Builder::new().name("log".to_owned()).spawn(move || {
            let mut lines = Vec::new();
            while reading.take(&mut lines) {
                let _ = io::stderr().write_all(&lines);
            }
            let _ = finished.send(());
        });
        drop(spawned);
        (Self { queue: Arc::clone(&queue) }, Flush { queue, done })
    }
}

impl Drop for Flush {
    fn drop(&mut self) {
        const LONGEST: Duration = Duration::from_secs(1);
        self.queue.lock().closed = true;
        self.queue.wake.notify_one();
        let _ = self.done.recv_timeout(LONGEST);
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { queue: &self.queue }
    }
}

/// Takes one event, which comes whole.
pub struct Line<'a> {
    queue: &'a Queue,
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.queue.push(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_together_in_order_until_the_queue_is_closed() {
        let queue = Queue::default();
        queue.push(b"one\n");
        queue.push(b"two\n");
        let mut taken = Vec::new();
        assert!(queue.take(&mut taken));
        assert_eq!(taken, b"one\ntwo\n");
        queue.push(b"three\n");
        queue.lock().closed = true;
        assert!(queue.take(&mut taken));
        assert_eq!(taken, b"three\n");
        assert!(!queue.take(&mut taken));
    }

    #[test]
    fn lines_about_answers_look_like_all_others() -> Result<(), serde_json::Error> {
        let queue = Arc::new(Queue::default());
        let subscriber = tracing_subscriber::fmt()
            .with_writer(Lines { queue: Arc::clone(&queue) })
            .json()
            .flatten_event(true)
            .map_event_format(|others| QuickAccess { others });
        tracing::subscriber::with_default(subscriber.finish(), || {
            let (path, agent) = ("/a\"b\\c\u{1}ö", Some("pip/26.0"));
            let client = std::net::Ipv4Addr::LOCALHOST;
            tracing::info!(target: ACCESS, path, %client, status = 200_u16, ms = 7_u64, agent, error = None::<&str>, "answered");
            tracing::info!(target: "other", path, %client, status = 200_u16, ms = 7_u64, agent, error = None::<&str>, "answered");
        });
        let lines = queue.lock().bytes.clone();
        let mut read = Vec::new();
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let mut line: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(line)?;
            let time = line.remove("timestamp").and_then(|time| time.as_str().map(str::len));
            assert_eq!(time, Some("2026-03-01T12:00:00.000000Z".len()));
            assert!(line.remove("target").is_some());
            read.push(line);
        }
        assert_eq!(read.len(), 2);
        assert_eq!(read[0], read[1]);
        Ok(())
    }

    #[test]
    fn what_nobody_takes_is_bounded() {
        let queue = Queue::default();
        for _ in 0..3 {
            queue.push(&vec![b'x'; QUEUE / 2]);
        }
        assert_eq!(queue.lock().bytes.len(), QUEUE);
    }
}
