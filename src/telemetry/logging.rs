//! Logs: one line per event, as JSON or for people, to standard error.
//!
//! A logging thread does the writing: a blocked pipe drops lines and never holds a request. The AWS SDK and hyper are
//! kept at `info` whatever is asked for, because their finer levels print headers and bodies, and those hold secrets.

use std::io::{self, IsTerminal as _, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, Thread};
use std::time::Duration;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Bytes of lines that may wait to be written, and as many again of lines about answers.
const QUEUE: usize = 4 << 20;
/// Bytes of lines about answers that one thread may have waiting.
const OWN_QUEUE: usize = QUEUE / 4;
/// What the writer keeps allocated between two writes, in bytes.
const GATHERED: usize = 64 << 10;
/// How long lines are gathered before they are written.
const GATHER: Duration = Duration::from_millis(5);
/// The target of the lines about answers, one for every request.
pub const ACCESS: &str = "wheelport::web::account";
/// Set when the log is JSON.
static JSON_LINES: OnceLock<JsonLines> = OnceLock::new();
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
        let _ = JSON_LINES.set(JsonLines { lines, access: tracing::enabled!(target: ACCESS, tracing::Level::INFO) });
    }
    Ok(flush)
}

/// The way to a log of JSON lines.
pub(super) struct JsonLines {
    lines: Lines,
    /// Whether it is to have lines about answers.
    pub(super) access: bool,
}

/// The way to the log, if it is JSON.
pub(super) fn json_lines() -> Option<&'static JsonLines> {
    JSON_LINES.get()
}

thread_local! {
    /// This thread's lines about answers. One shelf for all would be fought over by all.
    static OWN: Arc<Shelf> = {
        let shelf = Arc::<Shelf>::default();
        if let Some(JsonLines { lines, .. }) = json_lines() {
            lines.queue.owned().push(Arc::clone(&shelf));
        }
        shelf
    };
}

impl JsonLines {
    /// Has a line about an answer written behind this thread's earlier ones; it is dropped if too many wait.
    pub(super) fn push(&self, write: impl FnOnce(&mut Vec<u8>)) {
        OWN.with(|own| self.lines.queue.push(own, OWN_QUEUE, write));
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

/// Lines, one behind the other.
type Shelf = Mutex<Vec<u8>>;

/// Lines that wait to be written. Those of one thread stay in their order, and so do all but those about answers.
#[derive(Default)]
struct Queue {
    common: Shelf,
    /// The lines about answers, by thread.
    owned: Mutex<Vec<Arc<Shelf>>>,
    /// Whether the writer has to be woken. Set before it looks at the shelves for the last time, so that a line that it
    /// does not see there is put by somebody who sees this.
    asleep: AtomicBool,
    closed: AtomicBool,
    writer: OnceLock<Thread>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Queue {
    fn owned(&self) -> MutexGuard<'_, Vec<Arc<Shelf>>> {
        lock(&self.owned)
    }

    /// Adds to a shelf unless it is full. What is added may go beyond the limit.
    fn push(&self, shelf: &Shelf, limit: usize, write: impl FnOnce(&mut Vec<u8>)) {
        {
            let mut bytes = lock(shelf);
            if bytes.len() >= limit {
                return;
            }
            write(&mut bytes);
        }
        if self.asleep.load(Ordering::Relaxed) {
            self.wake();
        }
    }

    #[cold]
    fn wake(&self) {
        if self.asleep.swap(false, Ordering::Relaxed)
            && let Some(writer) = self.writer.get()
        {
            writer.unpark();
        }
    }

    fn close(&self) {
        self.closed.store(true, Ordering::Release);
        if let Some(writer) = self.writer.get() {
            writer.unpark();
        }
    }

    /// Whether nothing waits.
    fn is_empty(&self) -> bool {
        lock(&self.common).is_empty() && self.owned().iter().all(|shelf| lock(shelf).is_empty())
    }

    /// Takes what waits, and forgets the shelves of threads that have ended.
    fn collect(&self, taken: &mut Vec<u8>) {
        let mut empty = |shelf: &Shelf| {
            let mut bytes = lock(shelf);
            taken.append(&mut bytes);
            bytes.shrink_to(GATHERED);
        };
        empty(&self.common);
        self.owned().retain(|shelf| {
            let ended = Arc::strong_count(shelf) == 1;
            empty(shelf);
            !ended
        });
    }

    /// Waits for lines and takes them all; nothing once the queue is closed and empty.
    fn take(&self, taken: &mut Vec<u8>) -> bool {
        taken.clear();
        taken.shrink_to(GATHERED);
        let closed = || self.closed.load(Ordering::Acquire);
        loop {
            self.asleep.store(true, Ordering::Relaxed);
            if closed() || !self.is_empty() {
                break;
            }
            thread::park();
        }
        self.asleep.store(false, Ordering::Relaxed);
        if !closed() {
            // Under load many lines come at once, and one system call writes them all.
            thread::sleep(GATHER);
        }
        self.collect(taken);
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
        if let Ok(writer) = spawned {
            let _ = queue.writer.set(writer.thread().clone());
        }
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

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { queue: &self.queue }
    }
}

/// Takes one event, which comes whole.
struct Line<'a> {
    queue: &'a Queue,
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.queue.push(&self.queue.common, QUEUE, |waiting| waiting.extend_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Queue {
        fn say(&self, shelf: &Shelf, line: &str) {
            self.push(shelf, QUEUE, |waiting| waiting.extend_from_slice(line.as_bytes()));
        }
    }

    #[test]
    fn lines_are_taken_together_in_order_until_the_queue_is_closed() {
        let queue = Queue::default();
        queue.say(&queue.common, "one\n");
        queue.say(&queue.common, "two\n");
        let mut taken = Vec::new();
        assert!(queue.take(&mut taken));
        assert_eq!(taken, b"one\ntwo\n");
        queue.say(&queue.common, "three\n");
        queue.close();
        assert!(queue.take(&mut taken));
        assert_eq!(taken, b"three\n");
        assert!(!queue.take(&mut taken));
    }

    #[test]
    fn lines_of_threads_that_have_ended_are_still_taken() {
        let queue = Queue::default();
        let (ended, living) = (Arc::<Shelf>::default(), Arc::<Shelf>::default());
        queue.owned().extend([Arc::clone(&ended), Arc::clone(&living)]);
        queue.say(&ended, "ended\n");
        queue.say(&living, "living\n");
        drop(ended);
        queue.close();
        let mut taken = Vec::new();
        assert!(queue.take(&mut taken));
        assert_eq!(taken, b"ended\nliving\n");
        assert_eq!(queue.owned().len(), 1, "the shelf of a thread that has ended is forgotten");
    }

    #[test]
    fn a_line_wakes_the_writer_whenever_it_comes() {
        let queue = Arc::new(Queue::default());
        let (taken, lines) = sync_channel(0);
        let reading = Arc::clone(&queue);
        let writer = thread::spawn(move || {
            let mut bytes = Vec::new();
            while reading.take(&mut bytes) {
                let _ = taken.send(bytes.clone());
            }
        });
        queue.writer.set(writer.thread().clone()).expect("it has not started before");
        for number in 0..200 {
            queue.say(&queue.common, &number.to_string());
            let line = lines.recv_timeout(Duration::from_secs(10)).expect("the writer was woken");
            assert_eq!(line, number.to_string().as_bytes());
        }
        queue.close();
        writer.join().expect("the writer ends");
    }

    #[test]
    fn what_nobody_takes_is_bounded() {
        let queue = Queue::default();
        for _ in 0..3 {
            queue.say(&queue.common, &"x".repeat(QUEUE / 2));
        }
        assert_eq!(lock(&queue.common).len(), QUEUE);
    }
}
