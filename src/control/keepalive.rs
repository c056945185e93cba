//! What a heartbeat says, and what of it has to be written into the file.

use crate::config::Edit;
use crate::server::{ServerSettings, State};

/// A server's heartbeat.
#[derive(Clone, Debug, Default)]
pub struct Keepalive {
    /// A changed weight is persisted.
    pub weight: Option<u32>,
    /// A changed state is persisted.
    pub state: Option<State>,
    /// Kept as the label `zone`; a changed one is persisted.
    pub zone: Option<String>,
    /// The server's own idea of its load, 0 to 100; kept in memory only.
    pub load: Option<u32>,
}

impl Keepalive {
    /// The edit that brings what is known of a server up to date; `None` when nothing is new.
    pub(super) fn edit_of(&self, group: u16, known: &ServerSettings) -> Option<Edit> {
        let weight = self.weight.filter(|weight| *weight != known.weight);
        let state = self.state.filter(|state| *state != known.state);
        let zone = self.zone.as_ref().filter(|zone| known.labels.get("zone") != Some(zone));
        let labels = zone.map(|zone| {
            let mut labels = known.labels.clone();
            labels.insert("zone".to_owned(), zone.clone());
            labels
        });
        let is_new = weight.is_some() || state.is_some() || labels.is_some();
        is_new.then(|| Edit::SetServer { group, addr: known.addr.clone(), weight, state, labels })
    }
}
