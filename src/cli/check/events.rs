//! The steps about CodeArtifact's events: whether the queue is there, whether messages may be received and deleted,
//! whether EventBridge may send to it, and whether it treats messages as events need it.
//!
//! No message is taken from whom it is for. That an event has arrived, only the server that reads the queue knows.

use std::time::Duration;

use serde_json::json;
use url::Url;

use super::report::Finding;
use crate::control::{AwsSettings, ControlPlane};
use crate::fleet::{EventQueue, QueueEncryption, QueueError, QueueFault, QueueTraits, SendRight, StoreAccess};

const STEP: &str = "events";
const SENDING: &str = "event sender";
const HANDLING: &str = "event queue";
/// A replica that received events and was killed keeps them from the others for that long.
const LONGEST_HIDDEN: Duration = Duration::from_mins(10);
/// Within that time a batch of events is handled and deleted, also over a slow network.
const SHORTEST_HIDDEN: Duration = Duration::from_secs(30);

/// Whether the queue can be used. At most one message is read, which stays visible to the server.
pub(super) async fn steps(url: &Url, aws: &AwsSettings) -> Vec<Finding> {
    // As the server does: the credentials of the process, without the role of a route.
    let plane = ControlPlane::connect(&AwsSettings { role_arn: None, ..aws.clone() }).await;
    let region = plane.region().map(|region| region.as_str().to_owned());
    let Some(credentials) = plane.provider().await else {
        return vec![Finding::skip(STEP, "there are no credentials")];
    };
    let queue = EventQueue::new(url, StoreAccess { region, credentials });
    let traits = match queue.traits().await {
        Err(error) if error.fault != QueueFault::Denied => return vec![failed(&error, "sqs:GetQueueAttributes", url)],
        traits => traits,
    };
    let use_of_it = rights(&queue, traits.as_ref().ok(), url).await;
    let what_it_says = match traits {
        Ok(traits) => vec![sending(&traits), handling(&traits)],
        Err(error) => {
            let remedy = "allow sqs:GetQueueAttributes on the queue (`wheelport iam-policy fleet`): only this command \
                          needs it, to see whether events can travel from EventBridge to the queue";
            vec![Finding::warn(SENDING, error.to_string(), remedy)]
        }
    };
    [use_of_it].into_iter().chain(what_it_says).collect()
}

/// What the server needs.
async fn rights(queue: &EventQueue, traits: Option<&QueueTraits>, url: &Url) -> Finding {
    let mut details = vec![
        "that a rule of EventBridge has this queue as its target shows with the first publish or status change: \
         `wheelport_fleet_events_total` counts it"
            .to_owned(),
    ];
    if traits.is_some_and(QueueTraits::may_lose_by_looking) {
        details.push(
            "ReceiveMessage was not tried: messages wait, and the dead-letter queue would get them for it".to_owned(),
        );
    } else if let Err(error) = queue.may_receive().await {
        return failed(&error, "sqs:ReceiveMessage", url);
    }
    if let Err(error) = queue.may_delete().await {
        return failed(&error, "sqs:DeleteMessage", url);
    }
    Finding::ok(STEP, "the queue can be read, and messages may be deleted").with_details(details)
}

/// Whether events can travel from EventBridge to the queue.
fn sending(traits: &QueueTraits) -> Finding {
    let arriving = match traits.waiting {
        0 => Vec::new(),
        waiting => vec![format!("messages wait in it (about {waiting}): something sends to it")],
    };
    let finding = match (&traits.sending, traits.encryption) {
        (SendRight::Missing, _) => Finding::warn(
            SENDING,
            "no statement of the queue's policy lets EventBridge send to it",
            format!(
                "add {} to the policy of the queue, with the ARN of your rule; nothing is missing where the rule \
                 sends with a role of its own, or through a topic",
                statement(&traits.arn)
            ),
        ),
        (SendRight::Denied, _) => Finding::warn(
            SENDING,
            "a statement of the queue's policy forbids EventBridge to send to it",
            "exempt `events.amazonaws.com` from the statements with the effect `Deny`",
        ),
        (_, QueueEncryption::KeyOfAws) => Finding::warn(
            SENDING,
            "the queue is encrypted with `alias/aws/sqs`, with which EventBridge cannot send",
            "encrypt it with SQS's own keys (`SqsManagedSseEnabled`), or with a KMS key of yours whose policy allows \
             `events.amazonaws.com` kms:GenerateDataKey and kms:Decrypt",
        ),
        (SendRight::Unclear, _) => Finding::warn(
            SENDING,
            "whether the queue's policy lets EventBridge send depends on conditions that cannot be judged here",
            format!("compare it with {}", statement(&traits.arn)),
        ),
        (SendRight::Allowed { rules }, _) => {
            let rules = if rules.is_empty() { "of any rule".to_owned() } else { format!("of {}", rules.join(", ")) };
            Finding::ok(SENDING, format!("EventBridge may send events to it, {rules}"))
        }
    };
    let key = (traits.encryption == QueueEncryption::Key).then(|| {
        "the policy of the KMS key has to allow `events.amazonaws.com` kms:GenerateDataKey and kms:Decrypt".to_owned()
    });
    finding.with_details(arriving.into_iter().chain(key).collect())
}

/// The statement that lets EventBridge send.
fn statement(queue: &str) -> serde_json::Value {
    json!({
        "Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"}, "Action": "sqs:SendMessage",
        "Resource": queue, "Condition": {"ArnEquals": {"aws:SourceArn": "RULE"}},
    })
}

/// Whether the queue treats messages as events need it.
fn handling(traits: &QueueTraits) -> Finding {
    let hidden = traits.visibility.unwrap_or(SHORTEST_HIDDEN);
    let seconds = hidden.as_secs();
    if hidden < SHORTEST_HIDDEN {
        return Finding::warn(
            HANDLING,
            format!(
                "a message that was received is hidden for {seconds} s only, so events are handled again and again"
            ),
            "set the queue's visibility timeout to 60 s",
        );
    }
    if hidden > LONGEST_HIDDEN {
        return Finding::warn(
            HANDLING,
            format!(
                "a message that was received is hidden for {seconds} s: so late come the events of a replica that \
                     was killed"
            ),
            "set the queue's visibility timeout to 60 s",
        );
    }
    match traits.most_receives {
        Some(most @ 0..=2) => Finding::warn(
            HANDLING,
            format!(
                "a message that was received {most} times goes to the dead-letter queue, also if a replica was \
                     killed over it"
            ),
            "set `maxReceiveCount` of the queue's redrive policy to 5",
        ),
        Some(most) => Finding::ok(HANDLING, format!("messages are hidden for {seconds} s, and tried {most} times")),
        None => Finding::ok(HANDLING, format!("messages are hidden for {seconds} s; there is no dead-letter queue")),
    }
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
