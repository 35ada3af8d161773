//! Logs: one line per event, as JSON or for people, to standard error.
//!
//! A logging thread does the writing: a blocked pipe drops lines and never holds a request. The AWS SDK and hyper are
//! kept at `info` whatever is asked for, because their finer levels print headers and bodies, and those hold secrets.

use std::io::{self, IsTerminal as _, Write};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait to be written.
const QUEUE: usize = 8192;
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
        builder.json().flatten_event(true).with_current_span(true).with_span_list(false).init();
    }
    Ok(flush)
}

/// The way to the logging thread.
#[derive(Clone)]
struct Lines {
    queue: SyncSender<Vec<u8>>,
}

/// Writes what is left when dropped.
pub struct Flush {
    queue: SyncSender<Vec<u8>>,
    done: Receiver<()>,
}

impl Lines {
    fn start() -> (Self, Flush) {
        let (queue, lines) = sync_channel::<Vec<u8>>(QUEUE);
        let (finished, done) = sync_channel(1);
        // A thread of its own, not a task: it must also write while the runtime stops.
        let spawned = thread::Builder::new().name("log".to_owned()).spawn(move || {
            for line in lines {
                if line.is_empty() {
                    break;
                }
                let _ = io::stderr().write_all(&line);
            }
            let _ = finished.send(());
        });
        drop(spawned);
        (Self { queue: queue.clone() }, Flush { queue, done })
    }
}

impl Drop for Flush {
    fn drop(&mut self) {
        const LONGEST: Duration = Duration::from_secs(1);
        let began = Instant::now();
        while let Err(TrySendError::Full(_)) = self.queue.try_send(Vec::new()) {
            if began.elapsed() > LONGEST {
                return;
            }
            thread::yield_now();
        }
        let _ = self.done.recv_timeout(LONGEST);
    }
}

/// One event, written whole.
pub struct Line {
    queue: SyncSender<Vec<u8>>,
    bytes: Vec<u8>,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { queue: self.queue.clone(), bytes: Vec::with_capacity(256) }
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        if !bytes.is_empty() {
            let _ = self.queue.try_send(bytes);
        }
    }
}
