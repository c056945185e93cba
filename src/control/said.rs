//! Tells the file what heartbeats have said of servers and what it could not be told at once, because it had been told
//! something of the same server a moment before.
//!
//! Many servers are written together. What cannot be written goes on counting and waits for the next time; what a
//! heartbeat brings when the file may be told at once is refused instead.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Change, ChangeError, Control};
use crate::base::clock;
use crate::config::Edit;
use crate::events::{self, Event, ServerChange};
use crate::group::{Group, Said};
use crate::server::ServerAddr;
use crate::sources::heartbeat;

/// Keeps the file up to date until `stop`.
pub(crate) async fn write_said(control: Control, stop: CancellationToken) {
    let mut changes = events::subscribe();
    let keep = async {
        loop {
            changes.wait_for(|event| matches!(event, Event::Server { change: ServerChange::Unwritten, .. })).await;
            while let Some(due_ms) = control.next_said_due_ms() {
                let wait = due_ms.saturating_sub(clock::coarse_ms());
                tokio::time::sleep(Duration::from_millis(wait)).await;
                control.write_said_by(due_ms).await;
            }
        }
    };
    stop.run_until_cancelled(keep).await;
}

impl Control {
    /// When the file has to be told something; `None` while it knows all.
    fn next_said_due_ms(&self) -> Option<u64> {
        // Before the look: what is said after it is told by another event.
        self.shared.has_unwritten.store(false, Relaxed);
        self.groups().values().filter_map(|group| group.said_due_ms()).min()
    }

    /// Writes what a heartbeat has just said of a server.
    pub(super) async fn write_said(
        &self,
        group: &Group,
        server: &ServerAddr,
        said: &Said,
        edit: Edit,
    ) -> Result<(), ChangeError> {
        let outcome = self.change(Change { edit, addresses: Vec::new() }).await;
        match outcome {
            Ok(()) => group.said_written(server),
            Err(_) => group.said_refused(server, said),
        }
        outcome
    }

    /// Writes what heartbeats have said and is due by then.
    pub(super) async fn write_said_by(&self, by_ms: u64) {
        for (id, group) in self.groups().iter() {
            let due = group.take_said(by_ms);
            let edits = due.iter().map(|(server, said)| heartbeat::edit(id, server, said)).collect();
            for ((server, _), outcome) in due.iter().zip(self.edit_all(edits).await) {
                if let Err(error) = outcome {
                    tracing::debug!(%error, server.addr = %server.addr, "cannot write what heartbeats say");
                }
                group.said_written(&server.addr);
            }
        }
    }
}
