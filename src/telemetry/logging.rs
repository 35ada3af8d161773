//! Logs: one line per event, as JSON or for people, to standard error.
//!
//! Threads append their lines to one queue in memory, and a logging thread writes them: under load, one system call
//! writes many. A blocked pipe drops lines and never holds a request. The AWS SDK and hyper stay at `info` whatever the
//! filter says, because their finer levels print headers and bodies, and those hold secrets.

use std::io::{self, IsTerminal as _, Write};
use std::mem;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Bytes of lines that may wait to be written.
const MAX_QUEUED: usize = 4 << 20;
/// Bytes that a buffer keeps allocated between two writes.
const KEPT_CAPACITY: usize = 64 << 10;
/// How long the logging thread gathers lines before it writes them.
const FLUSH_INTERVAL: Duration = Duration::from_millis(5);
/// The target of the access log, which has a line for every request.
pub const ACCESS_TARGET: &str = "wheelport::web::account";
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
    let (lines, flush) = LogSink::start();
    let human = match format {
        LogFormat::Auto => io::stderr().is_terminal(),
        LogFormat::Json => false,
        LogFormat::Human => true,
    };
    let builder = tracing_subscriber::fmt().with_env_filter(directives).with_writer(lines);
    if human {
        builder.with_ansi(io::stderr().is_terminal()).with_target(false).init();
    } else {
        builder.json().flatten_event(true).with_current_span(true).with_span_list(false).init();
    }
    Ok(flush)
}

/// Lines that wait to be written, in their order.
#[derive(Default)]
struct Queue {
    state: Mutex<QueueState>,
    /// The logging thread waits here: for a first line, and, while it gathers, for the end.
    changed: Condvar,
}

#[derive(Default)]
struct QueueState {
    bytes: Vec<u8>,
    is_closed: bool,
}

impl Queue {
    /// Appends a line, or drops it if too many wait. The last one may go beyond the limit.
    fn push(&self, line: &[u8]) {
        let mut state = self.state.lock();
        if state.bytes.len() >= MAX_QUEUED {
            return;
        }
        let is_first = state.bytes.is_empty();
        state.bytes.extend_from_slice(line);
        drop(state);
        if is_first {
            self.changed.notify_one();
        }
    }

    fn close(&self) {
        self.state.lock().is_closed = true;
        self.changed.notify_one();
    }

    /// Waits for lines and moves them all into the empty buffer. Returns false once the queue is closed and empty.
    fn take(&self, lines: &mut Vec<u8>) -> bool {
        let mut state = self.state.lock();
        self.changed.wait_while(&mut state, |state| state.bytes.is_empty() && !state.is_closed);
        self.changed.wait_while_for(&mut state, |state| !state.is_closed, FLUSH_INTERVAL);
        mem::swap(&mut state.bytes, lines);
        !lines.is_empty()
    }
}

/// Puts lines into the queue of the logging thread.
struct LogSink {
    queue: Arc<Queue>,
}

/// Writes what is left when dropped.
pub struct Flush {
    queue: Arc<Queue>,
    done: Receiver<()>,
}

impl LogSink {
    fn start() -> (Self, Flush) {
        let queue = Arc::new(Queue::default());
        let (finished, done) = sync_channel(1);
        let written = Arc::clone(&queue);
        // A thread of its own, not a task: it must also write while the runtime stops.
        let spawned = thread::Builder::new().name("log".to_owned()).spawn(move || {
            let mut lines = Vec::new();
            while written.take(&mut lines) {
                let _ = io::stderr().write_all(&lines);
                lines.clear();
                lines.shrink_to(KEPT_CAPACITY);
            }
            let _ = finished.send(());
        });
        // Without the thread nothing is logged; the process serves all the same.
        drop(spawned);
        (Self { queue: Arc::clone(&queue) }, Flush { queue, done })
    }
}

impl Drop for Flush {
    fn drop(&mut self) {
        const DEADLINE: Duration = Duration::from_secs(1);
        self.queue.close();
        let _ = self.done.recv_timeout(DEADLINE);
    }
}

impl<'a> MakeWriter<'a> for LogSink {
    type Writer = QueueWriter<'a>;

    fn make_writer(&'a self) -> QueueWriter<'a> {
        QueueWriter { queue: &self.queue }
    }
}

/// Takes one event; `tracing_subscriber` writes each with one call.
struct QueueWriter<'a> {
    queue: &'a Queue,
}

impl Write for QueueWriter<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.queue.push(line);
        Ok(line.len())
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
        taken.clear();
        queue.push(b"three\n");
        queue.close();
        assert!(queue.take(&mut taken));
        assert_eq!(taken, b"three\n");
        taken.clear();
        assert!(!queue.take(&mut taken));
    }

    #[test]
    fn a_line_wakes_the_writer_whenever_it_comes() {
        let queue = Arc::new(Queue::default());
        let (taken, lines) = sync_channel(0);
        let reading = Arc::clone(&queue);
        let writer = thread::spawn(move || {
            let mut bytes = Vec::new();
            while reading.take(&mut bytes) {
                let _ = taken.send(mem::take(&mut bytes));
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
    fn lines_that_wait_are_bounded() {
        let queue = Queue::default();
        let line = "x".repeat(MAX_QUEUED / 2);
        for _ in 0..3 {
            queue.push(line.as_bytes());
        }
        assert_eq!(queue.state.lock().bytes.len(), MAX_QUEUED);
    }
}
