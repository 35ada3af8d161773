//! Whom the access log names: no one, or the identity that the gate has found.

use std::sync::{Arc, OnceLock};

use crate::identity::Identity;

/// Whom a request is attributed to.
#[derive(Debug, Clone, Default)]
pub(super) enum Attribution {
    /// No identity is needed.
    #[default]
    Nobody,
    Known(Arc<Identity>),
    /// Known once its token was verified.
    Later(Arc<OnceLock<Arc<Identity>>>),
}

impl Attribution {
    pub(super) fn later() -> (Self, Arc<OnceLock<Arc<Identity>>>) {
        let cell = Arc::new(OnceLock::new());
        (Self::Later(Arc::clone(&cell)), cell)
    }

    pub(super) fn name(&self) -> Option<&str> {
        self.shared_name().map(AsRef::as_ref)
    }

    /// The same as one of many that share it.
    pub(super) fn shared_name(&self) -> Option<&Arc<str>> {
        match self {
            Self::Nobody => None,
            Self::Known(identity) => Some(&identity.name),
            Self::Later(cell) => cell.get().map(|identity| &identity.name),
        }
    }

    /// Whether reading it needs an identity.
    pub(super) fn is_needed(&self) -> bool {
        !matches!(self, Self::Nobody)
    }
}
