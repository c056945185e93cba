//! What all endpoints share.

use tokio_util::task::TaskTracker;
use warp::http::StatusCode;

use super::reply::{Answer, Refusal};
use super::stream::Streams;
use crate::control::Control;
use crate::events::{self, AdminEvent, Event};
use crate::frames::Frames;

/// Changes under way at a time: more than there are connections, because a caller may hang up and ask again.
const CHANGES_MAX: usize = 16_384;

/// What the endpoints ask, and what they have under way.
pub(super) struct App {
    /// Knows and changes what runs. Tokens and rules are read from its configuration at every request, so
    /// they follow a reload.
    pub(super) control: Control,
    /// Changes under way; they outlive the connection that asked for them.
    pub(super) changes: TaskTracker,
    /// Answers that go on.
    pub(super) streams: Streams,
    /// What the dashboard is shown.
    pub(super) frames: Frames,
}

impl App {
    /// Runs a change so that it ends even when nobody waits for the answer any more.
    pub(super) async fn to_the_end(&self, change: impl Future<Output = Answer> + Send + 'static) -> Answer {
        if self.changes.len() >= CHANGES_MAX {
            let msg = "the admin port has as many changes under way as it can; try again later";
            return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_changes", msg));
        }
        self.changes.spawn(change).await.unwrap_or_else(|error| {
            events::publish(Event::Admin(AdminEvent::ChangeFailed { error: error.to_string().into() }));
            let msg = "internal error: the change did not end; the log says more";
            Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", msg))
        })
    }
}
