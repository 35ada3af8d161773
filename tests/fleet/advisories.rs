//! Advisories over several replicas: what one of them reads at the source is in force on all within a second.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::Instant;
use wheelport::advisories::{AdvisorySettings, AdvisorySource};
use wheelport::fleet::FleetSettings;
use wheelport_runtime::HumanDuration;

use super::replicas::{hearing, sharing};
use super::servers::{Server, ministack, new_bucket, redis_of};
use super::support::client::until;
use super::support::proxy::{Builder, Proxy};
use super::support::scripted::Scripted;
use super::support::wheels::{Sample, publish};

const SECOND: Duration = Duration::from_secs(1);

/// Replicas with a source each, of which that of the first is renewed.
struct Replicas {
    dir: TempDir,
    upstream: Scripted,
    fleet: FleetSettings,
    all: Vec<Proxy>,
}

/// An export that says of this version that it is malware; the later, the newer.
fn write(path: &Path, version: &str, age: u64) {
    let advisory = |id: &str, version: &str| -> Value {
        let package = json!({"ecosystem": "PyPI", "name": "a-b"});
        json!({"id": id, "affected": [{"package": package, "versions": [version]}]})
    };
    let text = json!([advisory("MAL-2026-1", version), advisory("MAL-2026-2", "9.9")]).to_string();
    let (new, made) = (path.with_extension("new"), SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 - age));
    fs::write(&new, text).expect("a directory of ours");
    fs::File::options().write(true).open(&new).and_then(|file| file.set_modified(made)).expect("a file of ours");
    fs::rename(&new, path).expect("a directory of ours");
}

impl Replicas {
    async fn start(fleet: FleetSettings) -> Self {
        let (dir, upstream) = (tempfile::tempdir().expect("a directory"), Scripted::start().await);
        publish(&upstream, &[&Sample::wheel()]);
        let mut this = Self { dir, upstream, fleet, all: Vec::new() };
        for number in 0..3 {
            write(&this.source(number), "7.7", 1000);
            this.all.push(this.replica(number).start().await);
        }
        this
    }

    fn source(&self, number: usize) -> PathBuf {
        self.dir.path().join(format!("osv-{number}.json"))
    }

    fn replica(&self, number: usize) -> Builder {
        let source = Some(AdvisorySource::Path(self.source(number)));
        sharing(&self.upstream, &self.fleet).set(|builder: &mut Builder| {
            builder.advisories = AdvisorySettings { source, ..AdvisorySettings::default() };
        })
    }

    async fn all_respond(&self, replicas: &[usize], status: u16) {
        let path = Sample::wheel().path();
        for number in replicas {
            let replica = &self.all[*number];
            until("the response", async || (replica.get(&path).send().await.status == status).then_some(())).await;
        }
    }

    /// How long the others take from the moment at which one has read its source.
    async fn spreads(&self, version: &str, age: u64, status: u16) -> Duration {
        write(&self.source(0), version, age);
        self.all_respond(&[0], status).await;
        let began = Instant::now();
        self.all_respond(&[1, 2], status).await;
        began.elapsed()
    }
}

#[tokio::test]
async fn advisories_are_in_force_on_all_replicas_within_a_second() {
    let redis = Server::start("valkey");
    let replicas = Replicas::start(redis_of(&redis, new_bucket(ministack().port).await)).await;
    hearing(&replicas.all).await;
    replicas.all_respond(&[0, 1, 2], 200).await;
    let taken = replicas.spreads("1.0", 500, 403).await;
    assert!(taken < SECOND, "in force within {taken:?}");
    let taken = replicas.spreads("7.7", 400, 200).await;
    assert!(taken < SECOND, "lifted within {taken:?}");
}

#[tokio::test]
async fn without_redis_replicas_look_at_the_store_and_one_that_starts_empty_has_what_they_have() {
    let replicas = Replicas::start(new_bucket(ministack().port).await).await;
    let taken = replicas.spreads("1.0", 500, 403).await;
    assert!(taken < SECOND * 2, "in force within {taken:?}");
    // Its own source is older, and gone a moment later; neither changes anything.
    let late = replicas.replica(1).start().await;
    let path = Sample::wheel().path();
    late.get(&path).send().await.expect(403);
    fs::remove_file(replicas.source(1)).expect("a file of ours");
    let unreachable = "wheelport_advisory_refreshes_total{outcome=\"unreachable\"} ";
    let failed =
        async || late.metrics().await.lines().any(|line| line.starts_with(unreachable) && !line.ends_with(" 0"));
    until("the alarm", async || failed().await.then_some(())).await;
    late.get(&path).send().await.expect(403);
}

#[tokio::test]
async fn while_the_store_is_away_each_replica_has_its_own_source() {
    let store = Server::start("ministack");
    let fleet = FleetSettings { store_timeout: HumanDuration::millis(300), ..new_bucket(store.port).await };
    let replicas = Replicas::start(fleet).await;
    replicas.all_respond(&[0, 1, 2], 200).await;
    store.signal(Signal::STOP);
    write(&replicas.source(0), "1.0", 500);
    replicas.all_respond(&[0], 403).await;
    replicas.all_respond(&[1, 2], 200).await;
    store.signal(Signal::CONT);
    replicas.all_respond(&[1, 2], 403).await;
}
