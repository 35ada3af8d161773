//! Work for the blocking thread pool.

use std::io;
use std::path::PathBuf;

use super::error::StoreError;

/// Runs file-system work on a blocking thread. A panic in it continues in the caller.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => {
                Err(StoreError::Disk { path: PathBuf::new(), source: io::Error::other("the runtime is shutting down") })
            }
        },
    }
}
