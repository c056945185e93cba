//! Work that would delay others on the management runtime.

use tokio::sync::Semaphore;
use warp::http::StatusCode;

use super::reply::Refusal;
use crate::events::{self, AdminEvent, Event};

/// Jobs at a time: those whose caller has hung up go on, and must not take all threads.
static PLACES: Semaphore = Semaphore::const_new(32);

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
    // Never closed. Whoever hangs up while waiting here leaves nothing behind.
    let place = PLACES.acquire().await;
    let job = move || {
        let _place = place;
        job()
    };
    tokio::task::spawn_blocking(job).await.map_err(|error| {
        let error = error.to_string().into();
        events::publish(Event::Admin(AdminEvent::AnswerFailed { error, what: what.into() }));
        let msg = format!("internal error: {what} could not be written; the log says more");
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, code, msg)
    })
}
