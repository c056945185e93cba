//! Work that waits for the disk.

use super::ChangeError;

/// Runs what touches the disk where it delays nobody.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ChangeError> + Send + 'static,
) -> Result<T, ChangeError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        // The runtime is going down, or the work panicked and the panic hook has said so.
        Err(_) => Err(ChangeError::Stopping),
    }
}
