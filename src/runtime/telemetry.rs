//! Logs: one line per event, as JSON or for people, to standard error.
//!
//! A logging thread does the writing: a blocked pipe drops lines and never holds a request. The AWS SDK and hyper are
//! kept at `info` whatever is asked for, because their finer levels print headers and bodies, and those hold secrets.

use std::io::{self, IsTerminal as _, Write};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Bytes of lines that may wait to be written.
const QUEUE: usize = 4 << 20;
/// What the writer keeps allocated between two writes, in bytes.
const GATHERED: usize = 64 << 10;
/// How long lines are gathered before they are written.
const GATHER: Duration = Duration::from_millis(2);
/// The target of the lines about answers, one for every request.
pub const ACCESS: &str = "wheelport::web::account";
/// Set when the log is JSON.
static JSON_LINES: OnceLock<Lines> = OnceLock::new();
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
    let (lines, flush) = Lines::start();
    let human = match format {
        LogFormat::Auto => io::stderr().is_terminal(),
        LogFormat::Json => false,
        LogFormat::Human => true,
    };
    let builder = tracing_subscriber::fmt().with_env_filter(directives).with_writer(lines.clone());
    if human {
        builder.with_ansi(io::stderr().is_terminal()).with_target(false).init();
    } else {
        let json = builder.json().flatten_event(true).with_current_span(true).with_span_list(false);
        json.init();
        let _ = JSON_LINES.set(lines);
    }
    Ok(flush)
}

/// The way to the log, if it is JSON.
pub(super) fn json_lines() -> Option<&'static Lines> {
    JSON_LINES.get()
}

/// The way to the logging thread.
#[derive(Clone)]
pub(super) struct Lines {
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
    /// Puts a line into the queue; it is dropped if the queue is full.
    pub(super) fn push(&self, line: &[u8]) {
        self.queue.push(line);
    }

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
    fn what_nobody_takes_is_bounded() {
        let queue = Queue::default();
        for _ in 0..3 {
            queue.push(&vec![b'x'; QUEUE / 2]);
        }
        assert_eq!(queue.lock().bytes.len(), QUEUE);
    }
}
