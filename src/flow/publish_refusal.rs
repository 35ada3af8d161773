//! What a refusal of CodeArtifact means to the person who publishes: a sentence that says what to change, and where.
//!
//! The service words its refusals for its own API and varies them, so only a few words of them are looked at, and
//! what is repeated of them is free of accounts, ARNs and addresses.

use super::{Cause, Error, unavailable};
use crate::redact::hide_infrastructure;
use crate::upstream::PublishError;
use wheelport_index::ProjectName;

/// The action that publishing needs.
const ACTION: &str = "codeartifact:PublishPackageVersion";
/// The longest part of a message that is repeated, in characters.
const LONGEST: usize = 300;

/// The error for a refused upload of a version of a project.
pub(super) fn refused(error: &PublishError, project: &ProjectName, version: &str) -> Error {
    let because = |reason: String| Error::UploadRefused { reason };
    match error {
        PublishError::Denied { message } | PublishError::Conflict { message } if says_origin(message.as_deref()) => {
            because(format!(
                "the origin controls of the package '{project}' in CodeArtifact do not allow publishing; set 'Publish' \
                 to 'Allow' there (aws codeartifact put-package-origin-configuration) or choose another project name"
            ))
        }
        PublishError::Denied { .. } => Error::Denied { action: ACTION },
        PublishError::Conflict { message } => because(conflict(message.as_deref(), project, version)),
        PublishError::Refused { status: 402, message } => because(format!(
            "a quota of CodeArtifact is used up; its operator can have it raised in Service Quotas{}",
            repeated(message.as_deref())
        )),
        PublishError::Refused { status: 413, .. } => because(
            "the file is larger than CodeArtifact takes (5 GB, unless the quota for the asset size was raised in \
             Service Quotas)"
                .to_owned(),
        ),
        PublishError::Refused { status, message } => {
            because(format!("the repository responded with status {status}{}", repeated(message.as_deref())))
        }
        // Never a refusal: publishers would take it for the last word. An upload brings no proof that a read could not,
        // and where the repository is really gone, reads and `wheelport check` say so.
        PublishError::NoRepository => unavailable(Cause::Unproven),
        PublishError::NotSent(error) => Error::from_upstream(error),
        PublishError::Unknown(_) => unavailable(Cause::OutcomeUnknown),
        PublishError::Spool => unavailable(Cause::Storage),
    }
}

fn says_origin(message: Option<&str>) -> bool {
    let message = message.unwrap_or_default().to_ascii_lowercase();
    message.contains("origin") || message.contains("block")
}

/// Why a file that is not there conflicts with something all the same.
fn conflict(message: Option<&str>, project: &ProjectName, version: &str) -> String {
    let lower = message.unwrap_or_default().to_ascii_lowercase();
    if lower.contains("upstream") {
        return format!(
            "version {version} of '{project}' exists in an upstream repository or the public registry; publish under \
             another version, or set 'Upstream' to 'Block' in the origin controls of this package in CodeArtifact"
        );
    }
    if ["archived", "disposed", "unlisted", "unfinished", "still present"].iter().any(|word| lower.contains(word)) {
        return format!(
            "version {version} of '{project}' is archived, disposed of or unfinished in CodeArtifact and takes no \
             files; delete that version there or publish under another one{}",
            repeated(message)
        );
    }
    format!(
        "the repository has a conflict with version {version} of '{project}'{}; publish under another version, or look \
         at this package's versions and origin controls in CodeArtifact",
        repeated(message)
    )
}

/// `: message`, without anything that only the operator may know.
fn repeated(message: Option<&str>) -> String {
    let told = hide_infrastructure(message.unwrap_or_default(), LONGEST);
    let told = told.trim_end_matches('.');
    if told.is_empty() { String::new() } else { format!(": {told}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::{Unavailability, UpstreamError};

    fn sentence(error: &PublishError) -> String {
        let project = ProjectName::parse("a").expect("a name");
        refused(error, &project, "1.0").to_string()
    }

    #[test]
    fn refusals_say_what_to_change() {
        let message = |text: &str| Some(text.to_owned());
        for (error, part) in [
            (
                PublishError::Denied {
                    message: message("publishing new versions of a is blocked by its origin controls"),
                },
                "put-package-origin-configuration",
            ),
            (PublishError::Conflict { message: message("Package origin configuration BLOCK") }, "'Publish'"),
            (PublishError::Denied { message: message("User: arn:aws:iam::1:x is not authorized") }, ACTION),
            (PublishError::Denied { message: None }, ACTION),
            (
                PublishError::Conflict { message: message("Version 1.0 of a exists in an upstream") },
                "'Upstream' to 'Block'",
            ),
            (
                PublishError::Conflict { message: message("version 1.0 is Disposed, still present") },
                "delete that version",
            ),
            (PublishError::Conflict { message: None }, "has a conflict with version 1.0 of 'a'; publish"),
            (PublishError::Refused { status: 402, message: None }, "Service Quotas"),
            (PublishError::Refused { status: 413, message: None }, "larger than CodeArtifact takes"),
            (
                PublishError::Refused { status: 400, message: message("a version has at most 350 assets.") },
                "350 assets.",
            ),
            (PublishError::NoRepository, "denies the existence of everything at the moment"),
            (PublishError::Unknown(Unavailability::Broken), "uploading the same file again is safe"),
            (
                PublishError::NotSent(UpstreamError::Unavailable {
                    reason: Unavailability::Throttled,
                    retry_after: None,
                }),
                "limits the rate",
            ),
            (PublishError::Spool, "storage"),
        ] {
            let sentence = sentence(&error);
            assert!(sentence.contains(part), "{sentence}");
        }
    }

    #[test]
    fn what_is_repeated_names_no_account() {
        let message = "User: arn:aws:sts::111122223333:x in 111122223333 at https://host.example/ failed\u{7}";
        let told = sentence(&PublishError::Refused { status: 400, message: Some(message.to_owned()) });
        assert!(
            !told.contains("1111") && !told.contains("host.example") && told.contains("User: … in … at … failed"),
            "{told}"
        );
    }
}
