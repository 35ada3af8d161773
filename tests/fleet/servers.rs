//! The servers that `serve.py` runs. One of each kind serves all tests of the process, each in a bucket of its own; a
//! test that stops or kills one starts its own.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use rustix::process::{Pid, Signal, kill_process};
use url::Url;
use wheelport::fleet::{FleetSettings, ObjectStore, StoreAccess};
use wheelport_runtime::{Clock, HumanDuration};

use super::support::client::Client;

/// A running server. Dropping it ends it.
pub(crate) struct Server {
    /// Holds the pipe that keeps it running.
    child: Child,
    pub port: u16,
    pid: Pid,
}

impl Server {
    /// Starts a server, which is installed if necessary.
    pub(crate) fn start(name: &str) -> Self {
        Self::start_at(name, 0)
    }

    /// The same on the port of one that has ended; 0 is a free one.
    pub(crate) fn start_at(name: &str, port: u16) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fleet/serve.py");
        let mut child = Command::new("python3")
            .args([script, name, &port.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 runs");
        let mut line = String::new();
        let out = child.stdout.take().expect("piped");
        BufReader::new(out).read_line(&mut line).expect("a line of serve.py");
        let (port, pid) = line.trim().split_once(' ').unwrap_or_else(|| panic!("{name} does not start: {line:?}"));
        let pid = pid.parse().ok().and_then(Pid::from_raw).expect("a process id");
        Self { child, port: port.parse().expect("a port"), pid }
    }

    /// Sends the server itself a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).expect("the server is running");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// The main object store of the tests.
pub(crate) fn ministack() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| Server::start("ministack"))
}

/// Another one, which refuses no wrong checksum.
pub(crate) fn moto() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| Server::start("moto"))
}

/// Settings for a new bucket of a server.
pub(crate) async fn new_bucket(port: u16) -> FleetSettings {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let bucket = format!("bucket-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let settings = FleetSettings {
        store: Some(format!("s3://{bucket}/prefix").parse().expect("a store")),
        store_endpoint: Some(Url::parse(&format!("http://127.0.0.1:{port}")).expect("an address")),
        // Where a bucket is that was created without a word about it.
        store_region: Some("us-east-1".to_owned()),
        store_timeout: HumanDuration::secs(3),
        ..FleetSettings::default()
    };
    let made = Client(([127, 0, 0, 1], port).into()).ask("PUT", &format!("/{bucket}")).send().await;
    made.expect(200);
    settings
}

/// The same settings, with this Redis.
pub(crate) fn redis_of(server: &Server, settings: FleetSettings) -> FleetSettings {
    let address = format!("redis://127.0.0.1:{}", server.port).parse().expect("an address");
    FleetSettings { redis: Some(address), ..settings }
}

/// A client of the store of these settings.
pub(crate) fn client(settings: &FleetSettings) -> ObjectStore {
    let keys = Credentials::new("test", "an example of a secret key", None, None, "tests");
    let access = StoreAccess { region: None, credentials: SharedCredentialsProvider::new(keys) };
    ObjectStore::new(settings, access, Clock::system()).expect("usable settings").expect("a store")
}
