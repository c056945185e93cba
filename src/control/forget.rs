//! Takes servers that registered themselves and have been silent for `forget_after` out of list and file.
//!
//! Many are taken out together. When the file cannot be written they stay, and that is tried again later. A server whose
//! heartbeat comes while the file is written is taken out all the same; its next heartbeat registers it anew.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{ChangeError, Control};
use crate::base::clock;
use crate::config::Edit;
use crate::events::{self, ConfigEvent, Event, ServerChange};

/// Between two looks, so that servers which fall silent together are taken out together.
const GATHER: Duration = Duration::from_secs(1);

/// After a write that failed.
const PAUSE_AFTER_ERROR: Duration = Duration::from_secs(60);

/// Takes silent servers out until `stop`.
pub(crate) async fn forget_silent(control: Control, stop: CancellationToken) {
    let keep = async {
        let mut changes = events::subscribe();
        // What else may bring the time nearer: another server falls silent, or settings change.
        let is_news = |event: &Event| {
            matches!(
                event,
                Event::Config(ConfigEvent::Applied) | Event::Server { change: ServerChange::Offline { .. }, .. }
            )
        };
        loop {
            match control.forget().await {
                Ok(None) => changes.wait_for(is_news).await,
                // Over when the time is, or before.
                Ok(Some(pause)) => drop(tokio::time::timeout(pause, changes.wait_for(is_news)).await),
                Err(error) => {
                    tracing::debug!(%error, "cannot forget servers that are silent");
                    tokio::time::sleep(PAUSE_AFTER_ERROR).await;
                }
            }
            tokio::time::sleep(GATHER).await;
        }
    };
    stop.run_until_cancelled(keep).await;
}

impl Control {
    /// Takes out what has been silent for too long. Answers when the next one will have been.
    async fn forget(&self) -> Result<Option<Duration>, ChangeError> {
        let now_ms = clock::coarse_ms();
        let (mut next_ms, mut failed) = (None::<u64>, None);
        for (id, group) in self.groups().iter() {
            let (due, next) = group.to_be_forgotten(now_ms);
            next_ms = next_ms.into_iter().chain(next).min();
            let edit = |addr| Edit::RemoveServer { group: id.clone(), addr };
            let edits = due.iter().map(|(addr, _)| edit(addr.clone())).collect();
            for ((addr, silent_for), outcome) in due.into_iter().zip(self.edit_all(edits).await) {
                let (group, addr) = (group.label().clone(), addr.shared());
                match outcome {
                    Ok(()) => {
                        let change = ServerChange::Forgotten { silent_for };
                        events::publish(Event::Server { group, addr, change });
                    }
                    // Somebody else has taken it out.
                    Err(ChangeError::ServerNotFound { .. } | ChangeError::GroupNotFound(_)) => {}
                    Err(error) => failed = Some(error),
                }
            }
        }
        let pause = next_ms.map(|next| Duration::from_millis(next.saturating_sub(now_ms)));
        failed.map_or(Ok(pause), Err)
    }
}
