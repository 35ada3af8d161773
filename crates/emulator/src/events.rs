//! The events that the service sends to EventBridge, delivered to SQS queues as a rule with these targets does it.
//!
//! As in the service they may come late and out of order, and a queue may deliver one twice.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_config::{BehaviorVersion, Region};
use aws_sdk_sqs::Client;
use aws_sdk_sqs::error::DisplayErrorContext;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use url::Url;

use crate::calendar;
use crate::store::VersionChange;
use wheelport_runtime::{Clock, Tasks};

/// Changes that may wait for a slow queue; more are dropped.
pub(crate) const CAPACITY: usize = 10_000;
/// How often an event is sent that the queue does not take.
const ATTEMPTS: u32 = 5;

/// Why events cannot be sent.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not the URL of an SQS queue, such as https://sqs.eu-central-1.amazonaws.com/111122223333/events")]
pub struct InvalidQueue(String);

/// An SQS queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueUrl(Url);

impl std::str::FromStr for QueueUrl {
    type Err = InvalidQueue;

    fn from_str(text: &str) -> Result<Self, InvalidQueue> {
        let url = Url::parse(text).ok().filter(|url| {
            matches!(url.scheme(), "http" | "https")
                && url.has_host()
                && url.path_segments().is_some_and(|segments| segments.count() == 2)
        });
        url.map(Self).ok_or_else(|| InvalidQueue(text.to_owned()))
    }
}

/// Sends what the store announces to queues, with the credentials of the AWS chain, until the tasks are stopped.
pub(crate) async fn send_to(
    queues: Vec<QueueUrl>,
    region: String,
    mut changes: mpsc::Receiver<VersionChange>,
    clock: Clock,
    tasks: Tasks,
) {
    let mut targets = Vec::with_capacity(queues.len());
    for queue in queues {
        let endpoint = queue.0.origin().ascii_serialization();
        let config = aws_config::defaults(BehaviorVersion::latest()).region(Region::new(region.clone()));
        targets.push((Client::new(&config.endpoint_url(endpoint).load().await), queue));
    }
    let sequence = AtomicU64::new(0);
    tasks.clone().spawn("emulator-events", async move {
        loop {
            let change = tokio::select! {
                () = tasks.stopping() => return,
                change = changes.recv() => change,
            };
            let Some(change) = change else { return };
            let number = sequence.fetch_add(1, Ordering::Relaxed) + 1;
            let event = event(&change, &region, clock.unix_seconds(), number).to_string();
            for (client, queue) in &targets {
                send(client, queue, &event).await;
            }
        }
    });
}

async fn send(client: &Client, queue: &QueueUrl, event: &str) {
    let mut pause = Duration::from_millis(200);
    for attempt in 1..=ATTEMPTS {
        match client.send_message().queue_url(queue.0.as_str()).message_body(event).send().await {
            Ok(_) => return,
            Err(error) if attempt == ATTEMPTS => {
                tracing::warn!(error = %DisplayErrorContext(error), "an event could not be sent to the queue");
            }
            Err(_) => {
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
        }
    }
}

/// One event, as EventBridge hands it to a target.
fn event(change: &VersionChange, region: &str, seconds: u64, sequence: u64) -> Value {
    let VersionChange { repository, package, version, revision, status, operation, .. } = change;
    let (domain, owner, name) = (&repository.domain.name, &repository.domain.owner, &repository.name);
    let id = format!("{sequence:08x}-0000-4000-8000-{seconds:012x}");
    json!({
        "version": "0",
        "id": id,
        "detail-type": "CodeArtifact Package Version State Change",
        "source": "aws.codeartifact",
        "account": owner,
        "time": calendar::iso(seconds),
        "region": region,
        "resources": [format!("arn:aws:codeartifact:{region}:{owner}:package/{domain}/{name}/pypi//{package}")],
        "detail": {
            "domainName": domain,
            "domainOwner": owner,
            "repositoryName": name,
            "repositoryAdministrator": owner,
            "packageFormat": "pypi",
            "packageNamespace": null,
            "packageName": package.as_str(),
            "packageVersion": version,
            "packageVersionState": status.as_str(),
            "packageVersionRevision": revision,
            "changes": {
                "assetsAdded": change.assets_added,
                "assetsRemoved": change.assets_removed,
                "assetsUpdated": change.assets_updated,
                "metadataUpdated": change.metadata_updated,
                "statusChanged": change.status_changed,
            },
            "operationType": operation.as_str(),
            "sequenceNumber": sequence,
            "eventDeduplicationId": id,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DomainKey;
    use crate::store::{VersionOperation, VersionStatus};
    use wheelport_index::ProjectName;

    #[test]
    fn an_event_has_the_documented_shape() {
        let change = VersionChange {
            repository: DomainKey::new("111122223333", "acme").repository("python"),
            package: ProjectName::parse("hello").expect("a name"),
            version: "1.0".to_owned(),
            revision: "0E5D".to_owned(),
            status: VersionStatus::Published,
            operation: VersionOperation::Created,
            assets_added: 1,
            assets_removed: 0,
            assets_updated: 0,
            metadata_updated: true,
            status_changed: true,
        };
        let event = event(&change, "eu-central-1", 1_574_378_394, 7);
        assert_eq!(event["time"], "2019-11-21T23:19:54Z");
        assert_eq!(
            event["resources"][0],
            "arn:aws:codeartifact:eu-central-1:111122223333:package/acme/python/pypi//hello"
        );
        let detail = &event["detail"];
        assert_eq!(detail["repositoryName"], "python");
        assert_eq!(detail["packageVersionState"], "Published");
        assert_eq!(detail["changes"]["assetsAdded"], 1);
        assert_eq!(detail["sequenceNumber"], 7);
        assert_eq!(detail["eventDeduplicationId"], event["id"]);
    }

    #[test]
    fn a_queue_is_named_by_its_url() {
        for good in ["https://sqs.eu-central-1.amazonaws.com/111122223333/events", "http://127.0.0.1:4566/0/q"] {
            assert!(good.parse::<QueueUrl>().is_ok(), "{good}");
        }
        for bad in ["events", "https://sqs.eu-central-1.amazonaws.com/", "ftp://host/1/q", "http://host/1/q/r"] {
            assert!(bad.parse::<QueueUrl>().is_err(), "{bad}");
        }
    }
}
