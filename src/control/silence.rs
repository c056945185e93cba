//! Notes in the file which of the servers that registered themselves are silent, so that a restart does not bring them
//! back for a whole lease.
//!
//! Leases run out without the file; the note follows, many together, and is taken back in the same way. It is written
//! again at the stop. A file that cannot be written loses the notes and nothing else.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{ChangeError, Control};
use crate::config::{Config, Edit};
use crate::events::{self, Event};
use crate::group::{GroupId, Groups};
use crate::server::ServerAddr;

/// From the first server that comes or goes to the note.
const GATHER: Duration = Duration::from_secs(1);

/// Between two writes, so that servers which come and go do not keep the disk busy.
const PAUSE: Duration = Duration::from_secs(5);

/// After a write that failed.
const PAUSE_AFTER_ERROR: Duration = Duration::from_secs(60);

/// Keeps the notes in the file until `stop`.
pub(crate) async fn note_silence(control: Control, stop: CancellationToken) {
    let keep = async {
        let mut changes = events::subscribe();
        loop {
            changes.wait_for(|event| matches!(event, Event::Server { .. })).await;
            // Those that fall silent together are noted together.
            tokio::time::sleep(GATHER).await;
            while let Err(error) = control.note_silence().await {
                tracing::debug!(%error, "cannot note which servers are silent");
                tokio::time::sleep(PAUSE_AFTER_ERROR).await;
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    stop.run_until_cancelled(keep).await;
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

/// What the file does not say rightly of the servers of groups that go now: whether they are silent. A group with another
/// name or port is another group, and its servers are not to be taken for what they were some seconds ago.
pub(super) fn silence_of_gone(running: &Groups, config: &Config) -> HashMap<ServerAddr, bool> {
    let wanted: HashSet<GroupId> = config.groups.iter().map(|group| group.settings.id()).collect();
    let gone = running.iter().filter(|(id, _)| !wanted.contains(id));
    let mut silence = HashMap::new();
    for (addr, is_silent) in gone.flat_map(|(_, group)| group.unnoted_silence()) {
        // Of two groups that have it, the one that has heard of it knows better.
        silence.entry(addr).and_modify(|known| *known &= is_silent).or_insert(is_silent);
    }
    silence
}
