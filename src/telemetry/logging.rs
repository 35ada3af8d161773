//! Logs: one line per event, as JSON or for people, to standard error.
//!
//! A logging thread does the writing: a blocked pipe drops lines and never holds a request. The AWS SDK and hyper are
//! kept at `info` whatever the filter says, because their finer levels print headers and bodies, which hold secrets.

use std::io::{self, IsTerminal as _, Write};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Bytes of lines that may wait to be written.
const QUEUE: usize = 8 << 20;
/// What the writer keeps allocated between two writes, in bytes.
const KEPT_ALLOCATED: usize = 64 << 10;
/// How long lines are gathered before they are written.
const FLUSH_INTERVAL: Duration = Duration::from_millis(5);
/// The target of the access log; a filter such as `wheelport::access=info` keeps it.
pub(super) const ACCESS_TARGET: &str = "wheelport::access";
/// Set when the log is JSON.
static JSON_SINK: OnceLock<JsonSink> = OnceLock::new();
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
    // A filter that asks for less than `info` gets less of these, too.
    let level = directives.max_level_hint().unwrap_or(LevelFilter::INFO).min(LevelFilter::INFO);
    for target in KEPT_AT_INFO {
        directives = directives.add_directive(format!("{target}={level}").parse().map_err(|_| invalid())?);
    }
    let (lines, flush) = LogSink::start();
    let human = match format {
        LogFormat::Auto => io::stderr().is_terminal(),
        LogFormat::Json => false,
        LogFormat::Human => true,
    };
    let builder = tracing_subscriber::fmt().with_env_filter(directives).with_writer(lines.clone());
    if human {
        builder.with_ansi(io::stderr().is_terminal()).with_target(false).init();
    } else {
        // The span list names the request that a line belongs to, whatever task writes it.
        builder.json().flatten_event(true).with_current_span(false).with_span_list(true).init();
        let has_access = tracing::enabled!(target: ACCESS_TARGET, tracing::Level::INFO);
        let _ = JSON_SINK.set(JsonSink { lines, has_access });
    }
    Ok(flush)
}

/// A log of JSON lines.
pub(super) struct JsonSink {
    lines: LogSink,
    /// Whether the filter lets the access log through.
    pub has_access: bool,
}

/// The log, if it is JSON.
pub(super) fn json_sink() -> Option<&'static JsonSink> {
    JSON_SINK.get()
}

impl JsonSink {
    /// Adds a complete line; it is dropped if too many wait.
    pub(super) fn push(&self, line: &[u8]) {
        self.lines.queue.push(line);
    }
}

/// Where lines go. Cheap to clone.
#[derive(Clone)]
struct LogSink {
    queue: Arc<LogQueue>,
}

/// Writes what is left when dropped.
pub struct Flush {
    queue: Arc<LogQueue>,
    done: Receiver<()>,
}

/// Lines that wait to be written, in order.
#[derive(Default)]
struct LogQueue {
    waiting: Mutex<Waiting>,
    wake: Condvar,
}

#[derive(Default)]
struct Waiting {
    lines: Vec<u8>,
    closed: bool,
}

impl LogQueue {
    /// Adds a line unless the queue is full. The line that fills it may go beyond the limit.
    fn push(&self, line: &[u8]) {
        let mut waiting = self.waiting.lock();
        if waiting.lines.len() >= QUEUE {
            return;
        }
        let was_empty = waiting.lines.is_empty();
        waiting.lines.extend_from_slice(line);
        drop(waiting);
        if was_empty {
            self.wake.notify_one();
        }
    }

    fn close(&self) {
        self.waiting.lock().closed = true;
        self.wake.notify_one();
    }

    /// Waits for lines and takes them all; `false` once the queue is closed and empty.
    fn take(&self, taken: &mut Vec<u8>) -> bool {
        taken.clear();
        taken.shrink_to(KEPT_ALLOCATED);
        let mut waiting = self.waiting.lock();
        self.wake.wait_while(&mut waiting, |waiting| waiting.lines.is_empty() && !waiting.closed);
        if !waiting.closed {
            // Under load many lines come at once, and one system call writes them all.
            self.wake.wait_while_for(&mut waiting, |waiting| !waiting.closed, FLUSH_INTERVAL);
        }
        std::mem::swap(&mut waiting.lines, taken);
        !taken.is_empty()
    }
}

impl LogSink {
    fn start() -> (Self, Flush) {
        let queue = Arc::new(LogQueue::default());
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
        self.queue.close();
        let _ = self.done.recv_timeout(LONGEST);
    }
}

impl<'a> MakeWriter<'a> for LogSink {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { queue: &self.queue }
    }
}

/// Takes one event, which comes whole.
struct Line<'a> {
    queue: &'a LogQueue,
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
        let queue = LogQueue::default();
        queue.push(b"one\n");
        queue.push(b"two\n");
        let mut taken = Vec::new();
        assert!(queue.take(&mut taken));
        assert_eq!(taken, b"one\ntwo\n");
        queue.push(b"three\n");
        queue.close();
        assert!(queue.take(&mut taken));
        assert_eq!(taken, b"three\n");
        assert!(!queue.take(&mut taken));
    }

    #[test]
    fn a_line_wakes_the_writer_whenever_it_comes() {
        let queue = Arc::new(LogQueue::default());
        let (taken, lines) = sync_channel(0);
        let reading = Arc::clone(&queue);
        let writer = thread::spawn(move || {
            let mut bytes = Vec::new();
            while reading.take(&mut bytes) {
                let _ = taken.send(bytes.clone());
            }
        });
        for number in 0..200 {
            queue.push(number.to_string().as_bytes());
            let line = lines.recv_timeout(Duration::from_secs(10)).expect("the writer was woken");
            assert_eq!(line, number.to_string().as_bytes());
        }
        queue.close();
        writer.join().expect("the writer ends");
    }

    #[test]
    fn lines_that_nothing_takes_are_bounded() {
        let queue = LogQueue::default();
        for _ in 0..3 {
            queue.push(&vec![b'x'; QUEUE / 2]);
        }
        assert_eq!(queue.waiting.lock().lines.len(), QUEUE);
    }
}
