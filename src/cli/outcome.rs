//! How a command ends, and with which exit code. One convention holds for all of them: 0 is a yes, 1 a no, and 2 says
//! that there is no answer. Only `healthcheck` knows no 2: a server that does not respond is not healthy.

use std::error::Error;

use wheelport_runtime::sabotaged;

/// A command that ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Exit code 0.
    Well,
    /// Exit code 1: it found or ran into a problem.
    Badly,
}

/// Why a command has no result.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// Exit code 2: arguments or configuration.
    #[error(transparent)]
    Usage(Box<dyn Error + Send + Sync>),
    /// Exit code 2: what it asks or looks at cannot be reached or read, or does not say.
    #[error(transparent)]
    Unanswered(Box<dyn Error + Send + Sync>),
    /// Exit code 1: the answer is no.
    #[error(transparent)]
    Refused(Box<dyn Error + Send + Sync>),
    /// Exit code 1: it could not start, or could not print.
    #[error(transparent)]
    Start(Box<dyn Error + Send + Sync>),
}

impl CommandError {
    /// An error of arguments or configuration.
    pub fn usage(error: impl Error + Send + Sync + 'static) -> Self {
        Self::Usage(Box::new(error))
    }

    /// There is no answer.
    pub fn unanswered(error: impl Error + Send + Sync + 'static) -> Self {
        Self::Unanswered(Box::new(error))
    }

    /// The answer is no.
    pub fn refused(error: impl Error + Send + Sync + 'static) -> Self {
        Self::Refused(Box::new(error))
    }

    /// A failure to start.
    pub fn start(error: impl Error + Send + Sync + 'static) -> Self {
        Self::Start(Box::new(error))
    }

    /// The exit code of the process.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Unanswered(_) if sabotaged("exit-code") => 1,
            Self::Usage(_) | Self::Unanswered(_) => 2,
            Self::Refused(_) | Self::Start(_) => 1,
        }
    }
}
