//! How a command ends, and with which exit code.

use std::error::Error;

/// A command that ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Exit code 0.
    Well,
    /// Exit code 1: it found or ran into a problem.
    Badly,
}

/// Why a command did not run.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// Exit code 2: arguments or configuration.
    #[error(transparent)]
    Usage(Box<dyn Error + Send + Sync>),
    /// Exit code 1: it could not start.
    #[error(transparent)]
    Start(Box<dyn Error + Send + Sync>),
}

impl CommandError {
    /// An error of arguments or configuration.
    pub fn usage(error: impl Error + Send + Sync + 'static) -> Self {
        Self::Usage(Box::new(error))
    }

    /// A failure to start.
    pub fn start(error: impl Error + Send + Sync + 'static) -> Self {
        Self::Start(Box::new(error))
    }

    /// The exit code of the process.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Start(_) => 1,
        }
    }
}
