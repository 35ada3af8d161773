//! What can be wrong with a token, in a sentence for the client that presented it. Nothing here repeats the token.

use std::sync::Arc;

/// Why a token is good for nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    #[error("it is longer than any token that is accepted here")]
    TooLong,
    /// Neither a static token that is known nor an ID token.
    #[error("it is not known here")]
    Unknown,
    #[error("it is not a well-formed ID token")]
    Malformed,
    #[error("its issuer is not one that this server believes")]
    UnknownIssuer,
    /// Also `none`, and everything with a shared secret.
    #[error("its signature algorithm is not accepted; RS256, ES256 and EdDSA are, as its issuer's key says")]
    Algorithm,
    #[error("its issuer publishes no such key")]
    UnknownKey,
    #[error("its signature is wrong")]
    Signature,
    #[error("it is for another audience; tokens for this server have the audience '{expected}'")]
    Audience {
        /// What is configured.
        expected: Arc<str>,
    },
    #[error("it has expired")]
    Expired,
    #[error("it is not valid yet")]
    NotYetValid,
    /// A minted token that was given back.
    #[error("it was given back")]
    Burnt,
}

impl TokenFault {
    /// The log and metric label.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::TooLong => "too-long",
            Self::Unknown => "unknown-token",
            Self::Malformed => "malformed",
            Self::UnknownIssuer => "unknown-issuer",
            Self::Algorithm => "wrong-algorithm",
            Self::UnknownKey => "unknown-key",
            Self::Signature => "wrong-signature",
            Self::Audience { .. } => "wrong-audience",
            Self::Expired => "expired",
            Self::NotYetValid => "not-yet-valid",
            Self::Burnt => "burnt",
        }
    }
}

/// Why a token has no verdict that would be final.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotSettled {
    #[error(transparent)]
    Fault(#[from] TokenFault),
    /// The keys of its issuer could not be had so far.
    #[error("the keys of the issuer '{issuer}' cannot be had at the moment")]
    NoKeys {
        /// What the configuration calls it.
        issuer: Arc<str>,
    },
}

/// Why no token is minted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MintRefusal {
    #[error("This token cannot be exchanged: {0}.")]
    Token(#[from] NotSettled),
    #[error("This token was minted here; only an ID token or a static token can be exchanged.")]
    Minted,
    #[error("No [[identity]] of this server gives the bearer of this token ('{name}') the right to anything.")]
    NoRights {
        /// The identity's name.
        name: Arc<str>,
    },
}

impl MintRefusal {
    /// The code that machines may match on.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Token(NotSettled::Fault(fault)) => fault.as_str(),
            Self::Token(NotSettled::NoKeys { .. }) => "issuer-unavailable",
            Self::Minted => "already-minted",
            Self::NoRights { .. } => "no-rights",
        }
    }
}
