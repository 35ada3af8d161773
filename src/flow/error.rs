//! What can go wrong in a use case, in our own words and without HTTP.
//!
//! The text of a variant is the one sentence that a client sees: it names what the reader can act on and nothing from
//! inside, no upstream address, no account, no path of this machine. `web::problem` maps variants to statuses.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::policy::Grounds;
use crate::upstream::{Unavailability, UpstreamError};
use wheelport_index::FileAddress;
use wheelport_index::FormError;
use wheelport_index::FormFault;
use wheelport_index::ProjectName;
use wheelport_index::{FileName, VersionSegment};
use wheelport_runtime::{JoinError, Panicked};

/// The longest wait asked of a client. Some wait for as long as they are told, and each wait is a step of a build.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(5);

/// What went wrong. Cheap enough to clone that all who wait for one fetch can have a copy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Upstream says, to a credential known to be good, that there is no such project.
    #[error("The repository behind route '{route}' has no project '{project}'.")]
    NoSuchProject {
        /// The route asked.
        route: Arc<str>,
        /// The project asked for.
        project: ProjectName,
    },
    /// The project has no files of this version.
    #[error("The project '{project}' has no version '{version}'.")]
    NoSuchVersion {
        /// The project.
        project: ProjectName,
        /// The version asked for.
        version: VersionSegment,
    },
    /// The project is there, the file is not.
    #[error("The project '{project}' has no file '{file}' at this address.")]
    NoSuchFile {
        /// The project.
        project: ProjectName,
        /// The file asked for.
        file: FileName,
    },
    /// The file is there, but it carries no core metadata that could be served on its own.
    #[error("The file '{file}' has no core metadata to serve; read it from the file itself.")]
    NoCoreMetadata {
        /// The file, without `.metadata`.
        file: FileName,
    },
    /// The repository has put the project into quarantine (PEP 792): none of its files is offered.
    #[error("The project '{project}' is in quarantine: the repository offers none of its files.")]
    Quarantined {
        /// The project.
        project: ProjectName,
    },
    /// The route has no project list.
    #[error("This route offers no project list: {reason}.")]
    ListNotOffered {
        /// Why, as a clause without a full stop.
        reason: &'static str,
    },
    /// The permissions of this server's own role do not suffice.
    #[error(
        "This server's AWS role lacks the permission '{action}' for this repository; its operator finds \
         the details in the log and with 'wheelport check'."
    )]
    Denied {
        /// The missing action, such as `codeartifact:ReadFromRepository`.
        action: &'static str,
    },
    /// It cannot be known now, and nothing usable is held.
    #[error("{cause} Try again in {} s.", seconds(*retry_after))]
    Unavailable {
        /// Why.
        cause: Cause,
        /// When a new try makes sense.
        retry_after: Duration,
    },
    /// The bytes upstream sent are not those the index announces.
    #[error("The repository sent bytes for '{file}' that do not match the digest on its page; they were discarded.")]
    Integrity {
        /// The file.
        file: FileName,
    },
    /// The repository has other bytes under a name than it had before, and they are not accepted.
    #[error(
        "The file '{file}' has other bytes than first seen; refused until an operator runs 'wheelport cache accept'."
    )]
    ChangedFile {
        /// The file.
        file: FileName,
    },
    /// A rule of this server refuses the file.
    #[error("{blocked}")]
    Blocked {
        /// Which file, and why.
        blocked: Arc<BlockedFile>,
    },
    /// The upload breaks a rule.
    #[error("The upload was refused: {reason}.")]
    UploadRefused {
        /// The rule, as a clause without a full stop. Seen by the client.
        reason: String,
    },
    /// A file of that name is there with other bytes.
    #[error("File already exists ({file}) with different content; publish the change under a new version.")]
    FileExists {
        /// The file.
        file: FileName,
    },
    /// The upload is larger than allowed.
    #[error("The upload is too large: {what} may have at most {limit} bytes.")]
    UploadTooLarge {
        /// What is too large, such as `a file` or `a form field`.
        what: &'static str,
        /// The limit in bytes.
        limit: u64,
    },
    /// A bug of ours.
    #[error("This server failed to handle the request; the request id leads its operator to the log line.")]
    Internal {
        /// What happened. For the log only.
        detail: Arc<str>,
    },
}

/// A file that a rule refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockedFile {
    /// The name of the route.
    pub route: Arc<str>,
    pub address: FileAddress,
    pub grounds: Grounds,
}

impl BlockedFile {
    pub(super) fn error(route: &Arc<str>, address: &FileAddress, grounds: &Grounds) -> Error {
        let (route, address, grounds) = (Arc::clone(route), address.clone(), grounds.clone());
        Error::Blocked { blocked: Arc::new(Self { route, address, grounds }) }
    }
}

impl fmt::Display for BlockedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.grounds)?;
        self.grounds.help.as_ref().map_or(Ok(()), |help| write!(f, " {help}"))
    }
}

/// Why a response cannot be given now. The text form is the sentence that clients see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Cause {
    /// There is no usable authorization token.
    #[error("This server has no valid CodeArtifact token at the moment.")]
    Token,
    /// No connection to the repository.
    #[error("The repository cannot be reached at the moment.")]
    Connect,
    /// The repository did not respond in time.
    #[error("The repository did not respond in time.")]
    Timeout,
    /// The repository asked us to slow down.
    #[error("The repository limits the rate of requests at the moment.")]
    Throttled,
    /// The repository responded with an error of its own.
    #[error("The repository failed to respond.")]
    Upstream,
    /// The repository's response broke off or cannot be understood.
    #[error("The repository's response was incomplete or unreadable.")]
    Broken,
    /// The repository says of projects that are known to exist that they do not.
    #[error("The repository denies the existence of everything at the moment.")]
    Unproven,
    /// The repository denies a read, which is not confirmed yet.
    #[error("The repository refuses this server's requests at the moment.")]
    Denied,
    /// A limit of this server is reached.
    #[error("This server is busy.")]
    Busy,
    /// This server is shutting down.
    #[error("This server is restarting.")]
    Draining,
    /// The cache directory is full, unreadable or unwritable.
    #[error("This server cannot use its storage at the moment.")]
    Storage,
    /// An upload broke off where it is unknown whether the repository has taken it.
    #[error("Whether the repository has taken the file is unknown; uploading the same file again is safe.")]
    OutcomeUnknown,
}

impl Cause {
    const fn code(self) -> &'static str {
        match self {
            Self::Token => "unavailable-token",
            Self::Connect => "unavailable-connect",
            Self::Timeout => "unavailable-timeout",
            Self::Throttled => "unavailable-throttled",
            Self::Upstream => "unavailable-upstream",
            Self::Broken => "unavailable-broken",
            Self::Unproven => "unavailable-unproven",
            Self::Denied => "unavailable-denied",
            Self::Busy => "unavailable-busy",
            Self::Draining => "unavailable-draining",
            Self::Storage => "unavailable-storage",
            Self::OutcomeUnknown => "unavailable-outcome-unknown",
        }
    }
}

impl Error {
    /// The stable code that machines may match on; it ends the problem document's `type`.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoSuchProject { .. } => "no-such-project",
            Self::NoSuchVersion { .. } => "no-such-version",
            Self::NoSuchFile { .. } => "no-such-file",
            Self::NoCoreMetadata { .. } => "no-core-metadata",
            Self::Quarantined { .. } => "quarantined",
            Self::ListNotOffered { .. } => "list-not-offered",
            Self::Denied { .. } => "denied",
            Self::Unavailable { cause, .. } => cause.code(),
            Self::Integrity { .. } => "integrity",
            Self::ChangedFile { .. } => "changed-file",
            Self::Blocked { .. } => "blocked",
            Self::UploadRefused { .. } => "upload-refused",
            Self::FileExists { .. } => "file-exists",
            Self::UploadTooLarge { .. } => "upload-too-large",
            Self::Internal { .. } => "internal",
        }
    }

    /// A bug of ours; the detail is for the log.
    pub fn internal(detail: &str) -> Self {
        Self::Internal { detail: detail.into() }
    }

    /// The error for a read that upstream denies for good.
    pub(super) const fn denied() -> Self {
        Self::Denied { action: "codeartifact:ReadFromRepository" }
    }

    /// The request has waited too long for everything together.
    pub fn timed_out() -> Self {
        unavailable(Cause::Timeout)
    }

    /// What an upstream error means for a request. A 404 that is not settled proves nothing.
    pub(super) fn from_upstream(error: &UpstreamError) -> Self {
        match error {
            UpstreamError::NotFound(_) => unavailable(Cause::Unproven),
            UpstreamError::Denied { .. } => Self::denied(),
            UpstreamError::Unavailable { reason, retry_after } => {
                let cause = match reason {
                    Unavailability::Token => Cause::Token,
                    Unavailability::Connect => Cause::Connect,
                    Unavailability::Timeout => Cause::Timeout,
                    Unavailability::Throttled => Cause::Throttled,
                    Unavailability::ServerError => Cause::Upstream,
                    Unavailability::Broken | Unavailability::Redirect => Cause::Broken,
                    Unavailability::Shutdown => Cause::Draining,
                    Unavailability::Busy => Cause::Busy,
                };
                match retry_after {
                    Some(wait) => Self::Unavailable { cause, retry_after: *wait },
                    None => unavailable(cause),
                }
            }
            UpstreamError::TooLarge { .. } | UpstreamError::Malformed(_) | UpstreamError::CannotResume => {
                unavailable(Cause::Broken)
            }
        }
    }

    /// When a new try makes sense, for those errors that pass.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { retry_after, .. } => Some((*retry_after).min(LONGEST_RETRY_AFTER)),
            // Upstream may have been caught between two states; a page refresh later both agree again.
            Self::Integrity { .. } => Some(LONGEST_RETRY_AFTER),
            _ => None,
        }
    }
}

/// The error for a cause, with the usual time to wait.
pub(super) fn unavailable(cause: Cause) -> Error {
    let seconds = match cause {
        Cause::Throttled | Cause::Token | Cause::Unproven | Cause::Denied => 5,
        Cause::Timeout | Cause::Connect | Cause::Upstream | Cause::Broken | Cause::Storage => 2,
        Cause::Busy | Cause::Draining | Cause::OutcomeUnknown => 1,
    };
    Error::Unavailable { cause, retry_after: Duration::from_secs(seconds) }
}

impl From<JoinError> for Error {
    fn from(error: JoinError) -> Self {
        match error {
            JoinError::Elapsed => unavailable(Cause::Timeout),
            JoinError::Lost => Self::internal("a background task ended without an outcome"),
        }
    }
}

impl From<Panicked> for Error {
    fn from(panicked: Panicked) -> Self {
        Self::internal(&panicked.to_string())
    }
}

impl From<FormFault> for Error {
    fn from(fault: FormFault) -> Self {
        Self::UploadRefused { reason: fault.to_string() }
    }
}

impl From<FormError> for Error {
    fn from(error: FormError) -> Self {
        Self::UploadRefused { reason: error.to_string() }
    }
}

/// Whole seconds, rounded up, never zero: what a client is told to wait.
pub(crate) const fn seconds(wait: Duration) -> u64 {
    let whole = wait.as_secs() + if wait.subsec_nanos() > 0 { 1 } else { 0 };
    if whole == 0 { 1 } else { whole }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_times_are_whole_seconds_and_never_zero() {
        for (millis, expected) in [(0, 1), (1, 1), (1000, 1), (1001, 2), (90_000, 90)] {
            assert_eq!(seconds(Duration::from_millis(millis)), expected, "{millis}");
        }
    }
}
