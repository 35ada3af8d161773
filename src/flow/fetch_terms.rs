//! The words of a fetch: what it has to bring, and why it brought nothing. No decision.

use super::Error;
use super::doubts::Doubt;

/// What a fetch has to bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Need {
    /// What replicas share will do where it is fresh and settles this doubt.
    Shared(Option<Doubt>),
    /// What upstream says now.
    Upstream,
}

/// Why a fetch brought no record.
#[derive(Debug, Clone)]
pub(super) enum FetchError {
    /// Upstream says that there is none.
    Absent(Error),
    /// Upstream could not be asked, or its reply is of no use; with what happened, for the log.
    Failed(Error, String),
    /// A prefetch failed. A request that joined it asks upstream itself.
    Prefetch,
}

impl From<FetchError> for Error {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::Absent(error) | FetchError::Failed(error, _) => error,
            FetchError::Prefetch => Self::internal("a prefetch failed twice under one request"),
        }
    }
}
