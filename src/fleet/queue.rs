//! The SQS queue of CodeArtifact's events: receiving, deleting, and what is wrong when neither works.
//!
//! The credentials are those for the object store without its role. The endpoint is that of the queue's own address, so
//! the address of a VPC endpoint or of another service that speaks SQS works as it is.

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sqs::types::{DeleteMessageBatchRequestEntry, QueueAttributeName};
use url::Url;

use super::queue_traits::QueueTraits;
use super::store::StoreAccess;
use crate::redact::hide_secrets;

/// How long the queue is asked to wait for a message.
const LONG_POLL: Duration = Duration::from_secs(20);
/// Messages of one request; the service's own limit.
const BATCH: i32 = 10;
/// How long any call may take: a long poll, and a slow network around it.
const CALL_LIMIT: Duration = Duration::from_secs(30);
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// The longest text of AWS that is repeated, in characters.
const SHOWN: usize = 300;

/// A queue, and the way to it. Cheap to clone.
#[derive(Clone)]
pub struct EventQueue {
    client: Client,
    url: String,
}

/// A message, and what deletes it.
#[derive(Clone)]
pub(super) struct ReceivedMessage {
    pub(super) body: String,
    receipt: String,
}

/// Why a call to the queue failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueFault {
    NoCredentials,
    Denied,
    NoSuchQueue,
    /// No response, or not in time.
    Unreachable,
    Other,
}

/// A failed call to the queue; safe to log and to show.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct QueueError {
    pub fault: QueueFault,
    message: String,
}

impl EventQueue {
    /// A queue at its address, reached with these credentials. What is wrong with either shows in the first call.
    pub fn new(queue: &Url, access: StoreAccess) -> Self {
        let timeouts = TimeoutConfig::builder().operation_timeout(CALL_LIMIT).connect_timeout(CONNECT_LIMIT).build();
        let region = queue.host_str().and_then(region_of).map(str::to_owned).or(access.region);
        // One attempt: the loop around it has its own pauses.
        let config = aws_sdk_sqs::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(region.map(Region::new))
            .credentials_provider(access.credentials)
            .endpoint_url(queue.origin().ascii_serialization())
            .timeout_config(timeouts)
            .retry_config(RetryConfig::disabled());
        Self { client: Client::from_conf(config.build()), url: queue.to_string() }
    }

    /// Waits for messages, for as long as one request may.
    pub(super) async fn receive(&self) -> Result<Vec<ReceivedMessage>, QueueError> {
        let wait = i32::try_from(LONG_POLL.as_secs()).unwrap_or(0);
        let asked = self.client.receive_message().queue_url(&self.url).max_number_of_messages(BATCH);
        let response = asked.wait_time_seconds(wait).send().await.map_err(|error| failed(&error, "ReceiveMessage"))?;
        let messages = response.messages.unwrap_or_default().into_iter();
        Ok(messages
            .filter_map(|message| {
                Some(ReceivedMessage { body: message.body.unwrap_or_default(), receipt: message.receipt_handle? })
            })
            .collect())
    }

    /// Deletes messages. One that stays comes again, which is harmless.
    pub(super) async fn delete(&self, received: Vec<ReceivedMessage>) -> Result<(), QueueError> {
        if received.is_empty() {
            return Ok(());
        }
        let entries = received.into_iter().enumerate().filter_map(|(number, message)| {
            let entry = DeleteMessageBatchRequestEntry::builder().id(number.to_string());
            entry.receipt_handle(message.receipt).build().ok()
        });
        let call = self.client.delete_message_batch().queue_url(&self.url).set_entries(Some(entries.collect()));
        let response = call.send().await.map_err(|error| failed(&error, "DeleteMessage"))?;
        match response.failed().first() {
            None => Ok(()),
            Some(entry) => Err(QueueError {
                fault: QueueFault::Other,
                message: format!("DeleteMessage failed: {}", hide_secrets(entry.code(), SHOWN)),
            }),
        }
    }

    /// What the queue says of itself.
    pub async fn traits(&self) -> Result<QueueTraits, QueueError> {
        let wanted = [
            QueueAttributeName::QueueArn,
            QueueAttributeName::Policy,
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::VisibilityTimeout,
            QueueAttributeName::RedrivePolicy,
            QueueAttributeName::KmsMasterKeyId,
        ];
        let call = self.client.get_queue_attributes().queue_url(&self.url).set_attribute_names(Some(wanted.into()));
        let response = call.send().await.map_err(|error| failed(&error, "GetQueueAttributes"))?;
        let attributes = response.attributes.unwrap_or_default();
        Ok(QueueTraits::read(|name| attributes.get(&QueueAttributeName::from(name)).map(String::as_str)))
    }

    /// Whether messages can be received. A message that comes is visible again at once.
    pub async fn may_receive(&self) -> Result<(), QueueError> {
        let asked = self.client.receive_message().queue_url(&self.url).max_number_of_messages(1);
        let asked = asked.wait_time_seconds(0).visibility_timeout(0);
        asked.send().await.map(drop).map_err(|error| failed(&error, "ReceiveMessage"))
    }

    /// Whether messages may be deleted: a receipt of no message is refused in another way than a caller without the
    /// right.
    pub async fn may_delete(&self) -> Result<(), QueueError> {
        let deleting = self.client.delete_message().queue_url(&self.url).receipt_handle("no-such-receipt");
        match deleting.send().await.map_err(|error| failed(&error, "DeleteMessage")) {
            Err(error) if error.fault == QueueFault::Other => Ok(()),
            outcome => outcome.map(drop),
        }
    }
}

/// The region in the host of a queue's address, where AWS has put it.
fn region_of(host: &str) -> Option<&str> {
    let mut labels = host.split('.').rev().skip_while(|label| matches!(*label, "com" | "cn" | "aws" | "eu"));
    let domain = labels.next()?;
    let rest: Vec<&str> = labels.collect();
    match (domain, rest.as_slice()) {
        // vpce-1a2b.sqs.REGION.vpce.amazonaws.com; REGION.queue.amazonaws.com, the old form; sqs.REGION.amazonaws.com
        // and sqs-fips; sqs.REGION.api.aws
        ("amazonaws", ["vpce", region, "sqs", ..] | ["queue", region])
        | ("amazonaws" | "api", [region, "sqs" | "sqs-fips"]) => Some(region),
        _ => None,
    }
}

fn failed<E>(error: &SdkError<E>, call: &str) -> QueueError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(one) = cause {
        if one.is::<CredentialsError>() {
            let message = format!("{call}: the AWS chain of this process has no credentials");
            return QueueError { fault: QueueFault::NoCredentials, message };
        }
        cause = one.source();
    }
    let SdkError::ServiceError(context) = error else {
        let message = format!("{call}: the queue's service did not respond in time");
        return QueueError { fault: QueueFault::Unreachable, message };
    };
    let status = context.raw().status().as_u16();
    let (code, said) = (context.err().code().unwrap_or_default(), context.err().message().unwrap_or_default());
    let (fault, shown) = match code {
        "AccessDenied" | "AccessDeniedException" | "KmsAccessDenied" | "AWS.SimpleQueueService.KmsAccessDenied" => {
            (QueueFault::Denied, said)
        }
        "QueueDoesNotExist" | "AWS.SimpleQueueService.NonExistentQueue" | "NonExistentQueue" => {
            (QueueFault::NoSuchQueue, said)
        }
        // What AWS says of a wrong signature repeats the headers of the request.
        "InvalidClientTokenId"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "SignatureDoesNotMatch"
        | "UnrecognizedClientException"
        | "InvalidSignatureException" => (QueueFault::NoCredentials, ""),
        _ if status == 403 => (QueueFault::Denied, ""),
        _ if status >= 500 => (QueueFault::Unreachable, ""),
        _ => (QueueFault::Other, ""),
    };
    let message = hide_secrets(&format!("{call} failed with {code} ({status}) {said}", said = shown.trim()), SHOWN);
    QueueError { fault, message }
}

impl std::fmt::Debug for EventQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EventQueue({})", self.url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_region_of_a_queue_is_in_its_address() {
        for (host, region) in [
            ("sqs.eu-central-1.amazonaws.com", Some("eu-central-1")),
            ("sqs.cn-north-1.amazonaws.com.cn", Some("cn-north-1")),
            ("sqs-fips.us-gov-west-1.amazonaws.com", Some("us-gov-west-1")),
            ("sqs.eu-west-1.api.aws", Some("eu-west-1")),
            ("us-east-1.queue.amazonaws.com", Some("us-east-1")),
            ("vpce-1a2b-x.sqs.us-west-2.vpce.amazonaws.com", Some("us-west-2")),
            ("127.0.0.1", None),
            ("sqs.example.org", None),
            ("localhost", None),
        ] {
            assert_eq!(region_of(host), region, "{host}");
        }
    }
}
