//! CodeArtifact's events, as a message of the queue holds them: strictly read, bounded, and typed. Pure.
//!
//! An event says that a page may have changed, and no more than that is believed: what the page says now is asked of
//! upstream. So a forged or repeated event costs one request at most.

use serde::Deserialize;

use wheelport_index::ProjectName;
use wheelport_runtime::sabotaged;

/// The longest message that is read, in bytes. An event has about 1,500.
const MAX_EVENT: usize = 64 * 1024;
/// The longest name of a domain, a repository, a region or a version, in bytes; CodeArtifact's own limit.
const MAX_NAME: usize = 255;
const ACCOUNT_DIGITS: usize = 12;

const SOURCE: &str = "aws.codeartifact";
const DETAIL_TYPE: &str = "CodeArtifact Package Version State Change";
const PYTHON: &str = "pypi";

/// A version of a Python package was created, changed or deleted in a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageEvent {
    pub region: String,
    pub domain: String,
    /// The account that owns the domain.
    pub owner: String,
    pub repository: String,
    pub project: ProjectName,
    pub version: String,
    pub operation: PackageOperation,
}

/// What was done to a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackageOperation {
    Created,
    Updated,
    Deleted,
    /// A word that this version does not know; the page may have changed all the same.
    Other,
}

impl PackageOperation {
    /// The text for logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Deleted => "deleted",
            Self::Other => "other",
        }
    }
}

/// What a message of the queue is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueueMessage {
    Python(PackageEvent),
    /// An event about a package of another format.
    OtherFormat,
}

/// Why a message is no event of a package. The texts repeat nothing of the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEvent {
    #[error("it is longer than {MAX_EVENT} bytes")]
    TooLong,
    #[error("it is not the JSON of an event, or fields are missing")]
    Shape,
    #[error("it is not from {SOURCE}, or not about the state of a package version")]
    Foreign,
    #[error("a name, an account or a region in it cannot be one")]
    Name,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    source: &'a str,
    #[serde(rename = "detail-type")]
    detail_type: &'a str,
    region: String,
    detail: serde_json::Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Detail {
    domain_name: String,
    domain_owner: String,
    repository_name: String,
    package_format: String,
    package_name: String,
    package_version: String,
    #[serde(default)]
    operation_type: String,
}

/// Reads the body of a message.
pub fn read_event(body: &str) -> Result<QueueMessage, InvalidEvent> {
    if body.len() > MAX_EVENT {
        return Err(InvalidEvent::TooLong);
    }
    let envelope: Envelope<'_> = serde_json::from_str(body).map_err(|_| InvalidEvent::Shape)?;
    let is_ours = envelope.source == SOURCE && envelope.detail_type == DETAIL_TYPE;
    if !is_ours && !sabotaged("foreign-event") {
        return Err(InvalidEvent::Foreign);
    }
    let detail: Detail = serde_json::from_value(envelope.detail).map_err(|_| InvalidEvent::Shape)?;
    if detail.package_format != PYTHON {
        return Ok(QueueMessage::OtherFormat);
    }
    let is_account = |text: &str| text.len() == ACCOUNT_DIGITS && text.bytes().all(|byte| byte.is_ascii_digit());
    let names = [&envelope.region, &detail.domain_name, &detail.repository_name];
    if !names.into_iter().all(|name| is_name(name)) || !is_account(&detail.domain_owner) {
        return Err(InvalidEvent::Name);
    }
    let is_version = (1..=MAX_NAME).contains(&detail.package_version.len())
        && !detail.package_version.contains(|letter: char| letter.is_control() || letter.is_whitespace());
    let project = ProjectName::parse(&detail.package_name).ok().filter(|_| is_version).ok_or(InvalidEvent::Name)?;
    Ok(QueueMessage::Python(PackageEvent {
        region: envelope.region,
        domain: detail.domain_name,
        owner: detail.domain_owner,
        repository: detail.repository_name,
        project,
        version: detail.package_version,
        operation: match detail.operation_type.as_str() {
            "Created" => PackageOperation::Created,
            "Updated" => PackageOperation::Updated,
            "Deleted" => PackageOperation::Deleted,
            _ => PackageOperation::Other,
        },
    }))
}

fn is_name(text: &str) -> bool {
    (1..=MAX_NAME).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn envelope() -> Value {
        json!({
            "version": "0", "id": "8c1e", "detail-type": DETAIL_TYPE, "source": SOURCE,
            "account": "111122223333", "time": "2026-11-21T23:19:54Z", "region": "eu-central-1",
            "resources": ["arn:aws:codeartifact:eu-central-1:111122223333:package/acme/python/pypi//hello-world"],
            "detail": {
                "domainName": "acme", "domainOwner": "111122223333", "repositoryName": "python",
                "repositoryAdministrator": "111122223333", "packageFormat": "pypi", "packageNamespace": null,
                "packageName": "Hello_World", "packageVersion": "1.0", "packageVersionState": "Published",
                "packageVersionRevision": "0E5DE26A", "operationType": "Created", "sequenceNumber": 1,
                "changes": {"assetsAdded": 1, "statusChanged": true}, "eventDeduplicationId": "2mEO",
            },
        })
    }

    fn changed(pointer: &str, value: Value) -> Result<QueueMessage, InvalidEvent> {
        let mut event = envelope();
        *event.pointer_mut(pointer).expect("there is such a field") = value;
        read_event(&event.to_string())
    }

    #[test]
    fn an_event_names_what_has_changed() {
        let Ok(QueueMessage::Python(event)) = read_event(&envelope().to_string()) else { panic!("an event") };
        assert_eq!(
            (event.region.as_str(), event.domain.as_str(), event.owner.as_str()),
            ("eu-central-1", "acme", "111122223333")
        );
        assert_eq!((event.repository.as_str(), event.project.as_str()), ("python", "hello-world"));
        assert_eq!((event.version.as_str(), event.operation), ("1.0", PackageOperation::Created));
    }

    #[test]
    fn other_formats_and_new_operations_are_no_mistakes() {
        assert_eq!(changed("/detail/packageFormat", json!("npm")), Ok(QueueMessage::OtherFormat));
        let Ok(QueueMessage::Python(event)) = changed("/detail/operationType", json!("Renamed")) else { panic!() };
        assert_eq!(event.operation, PackageOperation::Other);
    }

    #[test]
    fn what_is_no_event_is_refused_with_its_reason() {
        for (pointer, value, reason) in [
            ("/source", json!("acme.codeartifact"), InvalidEvent::Foreign),
            ("/detail-type", json!("CodeArtifact Domain State Change"), InvalidEvent::Foreign),
            ("/source", json!(7), InvalidEvent::Shape),
            ("/detail", json!([]), InvalidEvent::Shape),
            ("/detail/packageName", json!(null), InvalidEvent::Shape),
            ("/detail/packageName", json!("../etc"), InvalidEvent::Name),
            ("/detail/packageVersion", json!(""), InvalidEvent::Name),
            ("/detail/packageVersion", json!("1\n2"), InvalidEvent::Name),
            ("/detail/domainOwner", json!("11112222333"), InvalidEvent::Name),
            ("/detail/repositoryName", json!("a/b"), InvalidEvent::Name),
            ("/region", json!("eu central"), InvalidEvent::Name),
            ("/detail/domainName", json!("a".repeat(256)), InvalidEvent::Name),
            ("/id", json!("a".repeat(MAX_EVENT)), InvalidEvent::TooLong),
        ] {
            assert_eq!(changed(pointer, value.clone()), Err(reason), "{pointer} = {value}");
        }
        for body in ["", "null", "[]", "{}", "{\"source\": \"aws.codeartifact\"}", "\u{0}"] {
            assert_eq!(read_event(body), Err(InvalidEvent::Shape), "{body}");
        }
        let twice = envelope().to_string().replacen('{', "{\"source\": \"aws.codeartifact\", ", 1);
        assert_eq!(read_event(&twice), Err(InvalidEvent::Shape));
    }
}
