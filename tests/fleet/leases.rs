//! Leases in Redis.

use wheelport::fleet::{Acquired, Fleet, FleetSettings, LeaseKey, Waited};
use wheelport_index::ProjectName;
use wheelport_runtime::Tasks;

use super::servers::{Server, redis_of};
use super::support::client::until;

fn key() -> LeaseKey {
    LeaseKey::page("acme/python", &ProjectName::parse("hello").expect("a name"))
}

fn replica(redis: &Server, tasks: &Tasks) -> Fleet {
    let settings = redis_of(redis, FleetSettings::default());
    Fleet::default().with_redis(&settings, tasks).expect("usable settings")
}

#[tokio::test]
async fn one_replica_has_a_lease_and_the_others_wait_for_it() {
    let (redis, tasks) = (Server::start("valkey"), Tasks::new());
    let (first, second) = (replica(&redis, &tasks), replica(&redis, &tasks));
    let Acquired::Won(guard) = first.leases().acquire(key()).await else { panic!("it was free") };
    let Acquired::Held(watch) = second.leases().acquire(key()).await else { panic!("it is held") };
    drop(guard);
    assert_eq!(watch.wait().await, Waited::Ended);
    assert!(matches!(second.leases().acquire(key()).await, Acquired::Won(_)));
}

#[tokio::test]
async fn a_lease_is_given_back_only_by_its_holder() {
    let (redis, tasks) = (Server::start("valkey"), Tasks::new());
    let (first, second) = (replica(&redis, &tasks), replica(&redis, &tasks));
    let Acquired::Won(late) = first.leases().acquire(key()).await else { panic!("it was free") };
    // As if its time had ended while its holder was stopped.
    let client = redis::Client::open(format!("redis://127.0.0.1:{}", redis.port)).expect("an address");
    let mut connection = client.get_multiplexed_async_connection().await.expect("a connection");
    redis::cmd("FLUSHALL").query_async::<()>(&mut connection).await.expect("a command");
    let Acquired::Won(holder) = second.leases().acquire(key()).await else { panic!("it was free again") };
    drop(late);
    // The script is unknown at first, so it runs with the second call.
    until("the attempt to give it back", async || {
        let mut connection = connection.clone();
        let statistics: String = redis::cmd("INFO").arg("commandstats").query_async(&mut connection).await.ok()?;
        statistics.contains("cmdstat_evalsha:calls=2").then_some(())
    })
    .await;
    assert!(matches!(first.leases().acquire(key()).await, Acquired::Held(_)), "the holder still has it");
    drop(holder);
    until("the end of the lease", async || {
        matches!(first.leases().acquire(key()).await, Acquired::Won(_)).then_some(())
    })
    .await;
}
