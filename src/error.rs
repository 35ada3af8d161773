//! What can go wrong in a request, in our own words and without HTTP.
//!
//! The text form of every variant is the one sentence that a client gets to see, so it names what the person can
//! act on and nothing from inside: no upstream address, no account, no path of this machine. What only the log may
//! say stays in fields that the text leaves out. `web::problem` turns a variant into a status.

use std::sync::Arc;
use std::time::Duration;

use wheelport_index::{FileName, FormError, FormFault, InvalidComponent, InvalidName, ProjectName, VersionSegment};

/// What went wrong. Cheap enough to clone that everybody who waits for one fill can have a copy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The address names a route that is not configured.
    #[error("There is no route '{route}' on this server; its start page lists the routes there are.")]
    NoSuchRoute {
        /// The name asked for, shortened.
        route: String,
    },
    /// The address needs the default route, and none is configured.
    #[error("This server has no default route; write the route into the address: /pypi/ROUTE/simple/.")]
    NoDefaultRoute,
    /// The address has none of the shapes an index has.
    #[error("There is nothing at this address; projects are at /simple/PROJECT/ and /pypi/ROUTE/simple/PROJECT/.")]
    NothingHere,
    /// A known protocol that this server does not speak.
    #[error("{protocol} is not offered here.")]
    NotOffered {
        /// The protocol's name.
        protocol: &'static str,
    },
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
    /// The route has no project list.
    #[error("This route offers no project list: {reason}.")]
    ListNotOffered {
        /// Why, as a clause without a full stop.
        reason: &'static str,
    },
    /// The permissions of this server's own role do not suffice.
    #[error(
        "This server's AWS role lacks the permission '{action}' for this repository; its operator finds the details in the log and with 'wheelport check'."
    )]
    Denied {
        /// The missing action, such as `codeartifact:ReadFromRepository`.
        action: &'static str,
        /// What it was wanted for. For the log only.
        resource: String,
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
    /// The address cannot be read.
    #[error("The address is malformed: {fault}.")]
    BadAddress {
        /// What is wrong with it.
        fault: AddressFault,
    },
    /// The request cannot be read.
    #[error("The request is malformed: {fault}.")]
    BadRequest {
        /// What is wrong with it, as a clause without a full stop.
        fault: &'static str,
    },
    /// None of the forms the client accepts is one that a page has.
    #[error(
        "A page comes as application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html or text/html; the Accept header allows none of them."
    )]
    NotAcceptable,
    /// The address is good, the method is not.
    #[error("This address answers {allowed} only.")]
    MethodNotAllowed {
        /// The methods that work, as the `Allow` header lists them.
        allowed: &'static str,
    },
    /// The request does not say which host it means, or says it twice.
    #[error("The request needs exactly one well-formed Host header.")]
    BadHost,
    /// The request is for a host name that is not ours.
    #[error(
        "This server does not answer to the host name '{host}'; its operator can add the name to 'allowed_hosts' in the [server] section of the configuration."
    )]
    HostNotAllowed {
        /// The name asked for, shortened.
        host: String,
    },
    /// A browser sent a request that changes something on behalf of another site.
    #[error("Requests from web pages of other sites may not change anything here.")]
    CrossSite,
    /// The range asked for lies behind the end.
    #[error("The range lies outside the file, which has {length} bytes.")]
    RangeNotSatisfiable {
        /// The length of the whole file.
        length: u64,
    },
    /// The route takes no uploads.
    #[error("Uploads are off for route '{route}'; its operator can set 'upload' for it.")]
    UploadOff {
        /// The route asked.
        route: Arc<str>,
    },
    /// The upload carries no token that may publish.
    #[error("Publishing here needs a token: user name '__token__', the token as password.")]
    UploadUnauthorized,
    /// The upload carries a token that may not publish this project.
    #[error("This token may not publish the project '{project}' here.")]
    UploadForbidden {
        /// The project.
        project: ProjectName,
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
    Internal,
}

/// Why an answer cannot be given now. The text form is the sentence, [`Cause::as_str`] the log and metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Cause {
    /// There is no usable authorization token.
    #[error("This server has no valid CodeArtifact token at the moment.")]
    Token,
    /// No connection to the repository.
    #[error("The repository cannot be reached at the moment.")]
    Connect,
    /// The repository did not answer in time.
    #[error("The repository did not answer in time.")]
    Timeout,
    /// The repository asked us to slow down.
    #[error("The repository limits the rate of requests at the moment.")]
    Throttled,
    /// The repository answered with an error of its own.
    #[error("The repository failed to answer.")]
    Upstream,
    /// The repository's answer broke off or cannot be understood.
    #[error("The repository's answer was incomplete or unreadable.")]
    Broken,
    /// A limit of this server is reached.
    #[error("This server is busy.")]
    Busy,
    /// This server is shutting down.
    #[error("This server is restarting.")]
    Draining,
    /// The cache directory is full, unreadable or unwritable.
    #[error("This server cannot use its storage at the moment.")]
    Storage,
    /// An upload broke off where nobody can say whether the repository has taken it.
    #[error("Whether the repository has taken the file is unknown; uploading the same file again is safe.")]
    OutcomeUnknown,
}

impl Cause {
    /// The log and metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::Throttled => "throttled",
            Self::Upstream => "upstream",
            Self::Broken => "broken",
            Self::Busy => "busy",
            Self::Draining => "draining",
            Self::Storage => "storage",
            Self::OutcomeUnknown => "outcome-unknown",
        }
    }

    const fn code(self) -> &'static str {
        match self {
            Self::Token => "unavailable-token",
            Self::Connect => "unavailable-connect",
            Self::Timeout => "unavailable-timeout",
            Self::Throttled => "unavailable-throttled",
            Self::Upstream => "unavailable-upstream",
            Self::Broken => "unavailable-broken",
            Self::Busy => "unavailable-busy",
            Self::Draining => "unavailable-draining",
            Self::Storage => "unavailable-storage",
            Self::OutcomeUnknown => "unavailable-outcome-unknown",
        }
    }
}

/// What is wrong with an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressFault {
    /// Longer than any address of ours.
    #[error("it is too long")]
    TooLong,
    /// A percent escape that is incomplete or hides another one.
    #[error("a percent sign stands where none belongs")]
    Percent,
    /// The decoded bytes are not UTF-8.
    #[error("it is not UTF-8")]
    Encoding,
    /// A control character, a separator behind an escape, or a character that looks like one.
    #[error("it holds a character that has no place in an address")]
    Character,
    /// A `.` or `..` segment.
    #[error("it holds a relative segment")]
    Relative,
    /// The project's name is none.
    #[error("{0}")]
    Project(#[from] InvalidName),
    /// Version or file name is none.
    #[error("version and file name {0}")]
    Component(#[from] InvalidComponent),
}

impl From<AddressFault> for Error {
    fn from(fault: AddressFault) -> Self {
        Self::BadAddress { fault }
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

impl Error {
    /// The stable code that machines may match on; it ends the problem document's `type`.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoSuchRoute { .. } => "no-such-route",
            Self::NoDefaultRoute => "no-default-route",
            Self::NothingHere => "nothing-here",
            Self::NotOffered { .. } => "not-offered",
            Self::NoSuchProject { .. } => "no-such-project",
            Self::NoSuchVersion { .. } => "no-such-version",
            Self::NoSuchFile { .. } => "no-such-file",
            Self::NoCoreMetadata { .. } => "no-core-metadata",
            Self::ListNotOffered { .. } => "list-not-offered",
            Self::Denied { .. } => "denied",
            Self::Unavailable { cause, .. } => cause.code(),
            Self::Integrity { .. } => "integrity",
            Self::BadAddress { .. } => "bad-address",
            Self::BadRequest { .. } => "bad-request",
            Self::NotAcceptable => "not-acceptable",
            Self::MethodNotAllowed { .. } => "method-not-allowed",
            Self::BadHost => "bad-host",
            Self::HostNotAllowed { .. } => "host-not-allowed",
            Self::CrossSite => "cross-site",
            Self::RangeNotSatisfiable { .. } => "range-not-satisfiable",
            Self::UploadOff { .. } => "upload-off",
            Self::UploadUnauthorized => "upload-unauthorized",
            Self::UploadForbidden { .. } => "upload-forbidden",
            Self::UploadRefused { .. } => "upload-refused",
            Self::FileExists { .. } => "file-exists",
            Self::UploadTooLarge { .. } => "upload-too-large",
            Self::Internal => "internal",
        }
    }

    /// When a new try makes sense, for those errors that pass.
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { retry_after, .. } => Some(*retry_after),
            // Upstream may have been caught between two states; a page refresh later both agree again.
            Self::Integrity { .. } => Some(Duration::from_mins(1)),
            _ => None,
        }
    }
}

/// Whole seconds, rounded up, never zero: what a client is told to wait.
pub const fn seconds(wait: Duration) -> u64 {
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

    #[test]
    fn what_a_role_lacks_is_named_without_the_account() {
        let error = Error::Denied {
            action: "codeartifact:ReadFromRepository",
            resource: "arn:aws:codeartifact:eu-central-1:111122223333:repository/acme/python".to_owned(),
        };
        let sentence = error.to_string();
        assert!(sentence.contains("codeartifact:ReadFromRepository"));
        assert!(!sentence.contains("111122223333"));
    }
}
