//! The built program as a process of its own, with everything it prints.

use std::io::{BufRead as _, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::time::Instant;

use super::client::{Client, until};
use super::proxy::control_plane;
use super::scripted::Scripted;

/// Longer than anything a test waits for.
const DEADLINE: Duration = Duration::from_secs(25);

/// What a process prints, line by line, as it comes.
#[derive(Clone, Default)]
struct Printed(Arc<(Mutex<(String, bool)>, Condvar)>);

impl Printed {
    fn follow(pipe: impl Read + Send + 'static, paused: Arc<AtomicBool>) -> Self {
        let printed = Self::default();
        let ours = printed.clone();
        thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                while paused.load(Ordering::SeqCst) {
                    thread::park();
                }
                ours.change(|(text, _)| {
                    text.push_str(&line);
                    text.push('\n');
                });
            }
            ours.change(|(_, ended)| *ended = true);
        });
        printed
    }

    fn change(&self, change: impl FnOnce(&mut (String, bool))) {
        change(&mut self.0.0.lock());
        self.0.1.notify_all();
    }

    /// Waits until what is printed satisfies `found`, or until nothing more comes.
    fn wait<T>(&self, what: &str, found: impl Fn(&str, bool) -> Option<T>) -> T {
        let began = Instant::now();
        let mut state = self.0.0.lock();
        loop {
            if let Some(found) = found(&state.0, state.1) {
                return found;
            }
            assert!(!state.1 && began.elapsed() < DEADLINE, "waited in vain for {what}; printed: {}", state.0);
            self.0.1.wait_for(&mut state, Duration::from_secs(1));
        }
    }
}

/// A running program. Dropping it kills it.
pub(crate) struct Program {
    child: Child,
    out: Printed,
    err: Printed,
    unread: Arc<AtomicBool>,
}

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The exit code; none after a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Program {
    /// Starts the built program with nothing in its environment but `environment`.
    pub(crate) fn start(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_wheelport"))
            .args(arguments)
            .env_clear()
            .env("HOME", "/nonexistent")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .envs(std::env::var_os("WHEELPORT_SABOTAGE").map(|guard| ("WHEELPORT_SABOTAGE", guard)))
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the built program starts");
        let unread = Arc::new(AtomicBool::new(false));
        let out = Printed::follow(child.stdout.take().expect("piped"), Arc::default());
        let err = Printed::follow(child.stderr.take().expect("piped"), Arc::clone(&unread));
        Self { child, out, err, unread }
    }

    /// Stops reading its standard error, so that the pipe fills up.
    #[must_use]
    pub(crate) fn unread(self) -> Self {
        self.unread.store(true, Ordering::SeqCst);
        self
    }

    /// The id of the process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Runs it to its end.
    pub(crate) fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Outcome {
        Self::start(arguments, environment).ended()
    }

    /// Waits for the address that it prints after these words.
    pub(crate) fn address(&self, after: &str) -> SocketAddr {
        self.out.wait(after, |text, _| {
            let rest = &text[text.find(after)? + after.len()..];
            rest.split([' ', '\n', '/', '\'']).next()?.parse().ok()
        })
    }

    /// A client of the proxy it runs.
    pub(crate) fn proxy(&self) -> Client {
        Client(self.address("listens on http://"))
    }

    /// Waits until standard error has these words, and returns their line.
    pub(crate) fn logged(&self, words: &str) -> String {
        self.err.wait(words, |text, _| text.lines().find(|line| line.contains(words)).map(str::to_owned))
    }

    /// Waits until standard output has this, and returns all of it.
    pub(crate) fn printed(&self, words: &str) -> String {
        self.out.wait(words, |text, _| text.contains(words).then(|| text.to_owned()))
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let process = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(process, signal).expect("our own child");
    }

    /// Waits for its end.
    pub(crate) fn ended(mut self) -> Outcome {
        // Its pipes close when it ends.
        let complete = |text: &str, ended: bool| ended.then(|| text.to_owned());
        let (out, err) = (self.out.wait("the end", complete), self.err.wait("the end", complete));
        Outcome { code: self.child.wait().expect("our own child").code(), out, err }
    }
}

/// Everything a served process needs around it.
pub(crate) struct World {
    /// The repository.
    pub upstream: Scripted,
    /// The control plane.
    pub control: Scripted,
    /// The directory that holds the cache.
    pub dir: TempDir,
}

impl World {
    /// A repository and a control plane of its own.
    pub(crate) async fn new() -> Self {
        let (upstream, control) = (Scripted::start().await, control_plane().await);
        Self { upstream, control, dir: tempfile::tempdir().expect("a directory") }
    }

    /// The cache directory.
    pub(crate) fn cache(&self) -> String {
        self.dir.path().join("cache").display().to_string()
    }

    /// `wheelport serve` in this world. An option in `more` replaces the one of the same name.
    pub(crate) fn serve(&self, more: &[&str]) -> Program {
        self.serve_with(more, &[])
    }

    /// As [`World::serve`], with more in the environment.
    pub(crate) fn serve_with(&self, more: &[&str], environment: &[(&str, &str)]) -> Program {
        let (endpoint, cache, control) = (self.upstream.url("/pypi/r/"), self.cache(), self.control.url(""));
        let options = [
            ["--listen", "127.0.0.1:0"],
            ["--ops-listen", "127.0.0.1:0"],
            ["--domain", "acme"],
            ["--repository", "r1"],
            ["--endpoint", &endpoint],
            ["--cache-dir", &cache],
        ];
        let own = options.iter().filter(|[name, _]| !more.contains(name)).flatten().copied();
        let arguments: Vec<&str> = ["serve"].into_iter().chain(own).chain(more.iter().copied()).collect();
        let own = [
            ("AWS_ENDPOINT_URL", control.as_str()),
            ("AWS_REGION", "eu-central-1"),
            ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"),
            ("AWS_SECRET_ACCESS_KEY", "an-example-of-a-secret-key"),
        ];
        Program::start(&arguments, &[&own, environment].concat())
    }
}

/// Waits until it says that it is ready.
pub(crate) async fn ready(client: Client) {
    until("readiness", async || (client.get("/readyz").send().await.status == 200).then_some(())).await;
}
