//! The step about CodeArtifact's events: whether the queue is there, and whether messages may be received and deleted.

use url::Url;

use super::report::Finding;
use crate::control::{AwsSettings, ControlPlane};
use crate::fleet::{EventQueue, QueueError, QueueFault, StoreAccess};

const STEP: &str = "events";

/// Whether the queue can be used. It reads one message at most, which stays visible to the server.
pub(super) async fn step(url: &Url, aws: &AwsSettings) -> Finding {
    // As the server does: the credentials of the process, without the role of a route.
    let plane = ControlPlane::connect(&AwsSettings { role_arn: None, ..aws.clone() }).await;
    let region = plane.region().map(|region| region.as_str().to_owned());
    let Some(credentials) = plane.provider().await else {
        return Finding::skip(STEP, "there are no credentials");
    };
    let queue = EventQueue::new(url, StoreAccess { region, credentials });
    if let Err(error) = queue.may_receive().await {
        return failed(&error, "sqs:ReceiveMessage", url);
    }
    if let Err(error) = queue.may_delete().await {
        return failed(&error, "sqs:DeleteMessage", url);
    }
    Finding::ok(STEP, "the queue can be read, and messages may be deleted").with_details(vec![
        "that EventBridge has a rule with this queue as its target shows with the first publish or status change: \
         `wheelport_fleet_events_total` counts it"
            .to_owned(),
    ])
}

fn failed(error: &QueueError, action: &str, url: &Url) -> Finding {
    let remedy = match error.fault {
        QueueFault::NoCredentials => {
            "give this process AWS credentials of its own, by a role or by the environment; those of `role_arn` are \
             not used for the queue"
                .to_owned()
        }
        QueueFault::Denied => format!(
            "allow {action} on the queue to this process's role (`wheelport iam-policy fleet`), and, where the queue \
             is encrypted with a KMS key, kms:Decrypt on the key"
        ),
        QueueFault::NoSuchQueue => {
            format!("create the queue, or correct `[fleet] events`: {} names none", url.path())
        }
        QueueFault::Unreachable => format!(
            "open the way to {} from here, through a proxy or a VPC endpoint for SQS",
            url.host_str().unwrap_or_default()
        ),
        QueueFault::Other => "correct `[fleet] events`: it has to be the URL of an SQS queue".to_owned(),
    };
    Finding::fail(STEP, error.to_string(), remedy)
}
