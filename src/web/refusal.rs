//! What can be wrong with a request itself, before any use case begins.
//!
//! As with [`crate::flow::Error`], the text is the one sentence that a client sees.

use std::sync::Arc;

use crate::advisories::InvalidQuestion;
use crate::identity::{MintRefusal, TokenFault};
use wheelport_index::InvalidComponent;
use wheelport_index::InvalidName;
use wheelport_index::ProjectName;

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
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
    /// What is asked of advisories cannot be read.
    #[error("{0}")]
    BadQuestion(InvalidQuestion),
    /// No advisory has this id.
    #[error("There is no advisory '{id}' here.")]
    NoSuchAdvisory {
        /// The id asked for, shortened.
        id: String,
    },
    /// Projects have fewer pages.
    #[error("There is no such page; the last one is {last}.")]
    NoSuchPage {
        /// Where the last one is, beside the address that was asked for.
        last: String,
    },
    /// The date of an index is none, or has not come yet.
    #[error("There is no index as of '{date}': {fault}.")]
    BadDate {
        /// What stands in the address, shortened.
        date: String,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// None of the forms the client accepts is one that a page has.
    #[error(
        "A page comes as application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html or text/html; \
         the Accept header allows none of them."
    )]
    NotAcceptable,
    /// The address is good, the method is not.
    #[error("This address takes {allowed} only.")]
    MethodNotAllowed {
        /// The methods that work, as the `Allow` header lists them.
        allowed: &'static str,
    },
    /// The server has as many connections as it can serve.
    #[error("This server has as many connections as it can serve; try again in a moment.")]
    TooManyConnections,
    /// The client has as many connections as one client may have.
    #[error("Your address has as many connections as one address may have; close some, or try again in a moment.")]
    TooManyConnectionsOfClient,
    /// The request came in plain text to a listener that speaks TLS.
    #[error("This port speaks HTTPS; write https:// in the address.")]
    NotEncrypted,
    /// The request does not say which host it means, or says it twice.
    #[error("The request needs exactly one well-formed Host header.")]
    BadHost,
    /// The request is for a host name that is not ours.
    #[error(
        "This server does not answer to the host name '{host}'; its operator can add the name to \
         'allowed_hosts' in the [server] section of the configuration."
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
    #[error("Publishing here needs a token: user name '__token__', the token as password.{}", because(fault.as_ref()))]
    UploadUnauthorized {
        /// What is wrong with the token that was presented.
        fault: Option<TokenFault>,
    },
    /// The upload carries a token that may not publish through this route.
    #[error("The identity '{identity}' may not publish through route '{route}'.")]
    UploadRouteForbidden {
        /// The route asked.
        route: Arc<str>,
        /// Whose token it is.
        identity: Arc<str>,
    },
    /// The route is for known readers, and the request presents no good token.
    #[error(
        "Reading route '{route}' needs an identity: any user name with an ID token or a static token as password, or a \
         bearer token.{}",
        because(fault.as_ref())
    )]
    ReadUnauthorized {
        /// The route asked.
        route: Arc<str>,
        /// What is wrong with the token that was presented.
        fault: Option<TokenFault>,
    },
    /// The reader is known and may not read this.
    #[error("The identity '{identity}' may not read route '{route}'.")]
    ReadForbidden {
        /// The route asked.
        route: Arc<str>,
        /// Whose token it is.
        identity: Arc<str>,
    },
    /// Whether a token is good cannot be said at the moment.
    #[error("The keys of the issuer '{issuer}' cannot be had at the moment, so its tokens cannot be verified.")]
    IssuerUnavailable {
        /// What the configuration calls it.
        issuer: Arc<str>,
    },
    /// The identity has done as much as it may in a minute.
    #[error("The identity '{identity}' has reached its limit per minute; try again in {wait_seconds} s.")]
    IdentityLimit {
        /// Whose token it is.
        identity: Arc<str>,
        /// How long until it may do more.
        wait_seconds: u64,
    },
    /// No token is minted for this one.
    #[error("{0}")]
    TokenNotExchanged(MintRefusal),
    /// What was given back is no token of this server.
    #[error("This token cannot be given back: {0}.")]
    TokenNotTakenBack(TokenFault),
    /// The upload carries a token that may not publish this project.
    #[error("This token may not publish the project '{project}' here.")]
    UploadForbidden {
        /// The project.
        project: ProjectName,
    },
}

/// What is wrong with the token that was presented, if one was.
fn because(fault: Option<&TokenFault>) -> String {
    fault.map_or_else(String::new, |fault| format!(" The token presented is of no use: {fault}."))
}

/// What is wrong with an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AddressFault {
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

impl From<AddressFault> for Refusal {
    fn from(fault: AddressFault) -> Self {
        Self::BadAddress { fault }
    }
}

impl Refusal {
    /// Whether something that is there is kept from a reader.
    pub(super) const fn is_of_read(&self) -> bool {
        matches!(self, Self::NotEncrypted | Self::ReadUnauthorized { .. } | Self::ReadForbidden { .. })
    }

    /// The stable code that machines may match on; it ends the problem document's `type`.
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::NoSuchRoute { .. } => "no-such-route",
            Self::NoDefaultRoute => "no-default-route",
            Self::NothingHere => "nothing-here",
            Self::NotOffered { .. } => "not-offered",
            Self::BadAddress { .. } => "bad-address",
            Self::BadRequest { .. } => "bad-request",
            Self::NoSuchPage { .. } => "no-such-page",
            Self::BadDate { .. } => "bad-date",
            Self::BadQuestion(_) => "bad-question",
            Self::NoSuchAdvisory { .. } => "no-such-advisory",
            Self::NotAcceptable => "not-acceptable",
            Self::MethodNotAllowed { .. } => "method-not-allowed",
            Self::TooManyConnections => "too-many-connections",
            Self::TooManyConnectionsOfClient => "too-many-connections-of-client",
            Self::NotEncrypted => "not-encrypted",
            Self::BadHost => "bad-host",
            Self::HostNotAllowed { .. } => "host-not-allowed",
            Self::CrossSite => "cross-site",
            Self::RangeNotSatisfiable { .. } => "range-not-satisfiable",
            Self::UploadOff { .. } => "upload-off",
            Self::UploadUnauthorized { .. } => "upload-unauthorized",
            Self::UploadRouteForbidden { .. } => "upload-route-forbidden",
            Self::ReadUnauthorized { .. } => "read-unauthorized",
            Self::ReadForbidden { .. } => "read-forbidden",
            Self::IssuerUnavailable { .. } => "issuer-unavailable",
            Self::IdentityLimit { .. } => "identity-limit",
            Self::TokenNotExchanged(refusal) => refusal.code(),
            Self::TokenNotTakenBack(fault) => fault.as_str(),
            Self::UploadForbidden { .. } => "upload-forbidden",
        }
    }
}
