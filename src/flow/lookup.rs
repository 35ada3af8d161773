//! The one shape in which a service replies: what it has in memory at once, or a future that already carries all that
//! the look-up found out.

use futures_util::future::BoxFuture;

use super::Error;

/// The outcome of a look-up.
pub enum Lookup<T> {
    /// In memory, usable as it is.
    Hit(T),
    /// Something has to be waited for. Nothing is looked up again.
    Miss(BoxFuture<'static, Result<T, Error>>),
}

impl<T: Send + 'static> Lookup<T> {
    pub(super) fn miss(work: impl Future<Output = Result<T, Error>> + Send + 'static) -> Self {
        Self::Miss(Box::pin(work))
    }

    pub(super) fn error(error: Error) -> Self {
        Self::miss(std::future::ready(Err(error)))
    }

    /// Waits for what has to be waited for.
    pub async fn wait(self) -> Result<T, Error> {
        match self {
            Self::Hit(found) => Ok(found),
            Self::Miss(work) => work.await,
        }
    }
}
