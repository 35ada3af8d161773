//! Several replicas over one upstream, as tests start them.

use wheelport::fleet::FleetSettings;
use wheelport::web::UploadPolicy;
use wheelport_runtime::HumanDuration;

use super::support::client::until;
use super::support::proxy::{Builder, Proxy};
use super::support::scripted::Scripted;

/// A replica that shares what these settings say.
pub(crate) fn sharing(upstream: &Scripted, fleet: &FleetSettings) -> Builder {
    Proxy::builder().upstream(upstream).set(|builder: &mut Builder| builder.fleet = fleet.clone())
}

/// The same for anonymous publishers, with pages that stay fresh for a minute.
pub(crate) fn publishing(upstream: &Scripted, fleet: &FleetSettings) -> Builder {
    sharing(upstream, fleet).set(|builder: &mut Builder| {
        builder.upload = UploadPolicy::Anonymous;
        builder.cache.fresh_for = HumanDuration::secs(60);
    })
}

/// Starts so many replicas, one after the other.
pub(crate) async fn started(number: usize, replica: impl Fn() -> Builder) -> Vec<Proxy> {
    let mut replicas = Vec::new();
    for _ in 0..number {
        replicas.push(replica().start().await);
    }
    replicas
}

/// Waits until what is heard on each replica is what others say.
pub(crate) async fn hearing(replicas: &[Proxy]) {
    for replica in replicas {
        until("a subscription", async || replica.metrics().await.contains("wheelport_fleet_hearing 1").then_some(()))
            .await;
    }
}
