//! Notes in the file which of the servers that registered themselves are silent, so that a restart does not bring them
//! back for a whole lease.
//!
//! Leases run out without the file; the note follows, many together, and is taken back in the same way. It is written
//! again at the stop. A file that cannot be written loses the notes and nothing else.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{ChangeError, Control};
use crate::config::Edit;

/// How often it is looked for news.
const LOOK: Duration = Duration::from_secs(1);

/// Between two writes, so that servers which come and go do not keep the disk busy.
const PAUSE: Duration = Duration::from_secs(5);

/// After a write that failed.
const PAUSE_AFTER_ERROR: Duration = Duration::from_secs(60);

/// Keeps the notes in the file until `stop`.
pub(crate) async fn note_silence(control: Control, stop: CancellationToken) {
    let mut pause = LOOK;
    while stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
        pause = match control.note_silence().await {
            Ok(false) => LOOK,
            Ok(true) => PAUSE,
            Err(error) => {
                tracing::debug!(%error, "cannot note which servers are silent");
                PAUSE_AFTER_ERROR
            }
        };
    }
}

impl Control {
    /// Writes into the file which servers have fallen silent or are heard again; true when there were any.
    pub(super) async fn note_silence(&self) -> Result<bool, ChangeError> {
        let mut servers = Vec::new();
        for (id, group) in self.groups().iter() {
            servers.extend(group.unnoted_silence().into_iter().map(|(addr, silent)| (id.clone(), addr, silent)));
        }
        let is_news = !servers.is_empty();
        if is_news {
            self.edit(Edit::NoteSilence { servers }).await?;
        }
        Ok(is_news)
    }
}
