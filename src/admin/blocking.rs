//! Work that would delay others on the management runtime.

use warp::http::StatusCode;

use super::reply::Refusal;

/// Runs what may take a while where it delays nobody.
///
/// # Errors
///
/// `job` panicked: a refusal with `code` that names `what` was asked for.
pub(super) async fn blocking<T: Send + 'static>(
    code: &'static str,
    what: &str,
    job: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(job).await.map_err(|error| {
        tracing::error!(%error, what, "admin answer failed with an internal error");
        let msg = format!("internal error: {what} could not be written; the log says more");
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, code, msg)
    })
}
