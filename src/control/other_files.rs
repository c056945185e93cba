//! The other files that `proxy.json` names, with secrets and lists of networks.
//!
//! While one cannot be read, the former secret or list stands in for what it says. That is told once.

use std::path::PathBuf;

use super::Control;
use crate::config::Config;
use crate::events::{self, ConfigEvent, Event};

impl Control {
    /// Those that are to be watched.
    pub(crate) fn other_files(&self) -> Vec<PathBuf> {
        self.shared.running.config.load_full().other_files.clone()
    }
}

/// Tells what stands in from now on, and when nothing does any more.
pub(super) fn tell_stand_ins(old: &Config, new: &Config) {
    let tell = |event| events::publish(Event::Config(event));
    for why in new.kept_secrets.iter().filter(|why| !old.kept_secrets.contains(why)) {
        tell(ConfigEvent::SecretKept { why: why.as_str().into() });
    }
    if new.kept_secrets.is_empty() && !old.kept_secrets.is_empty() {
        tell(ConfigEvent::SecretsRead);
    }
    for why in new.kept_lists.iter().filter(|why| !old.kept_lists.contains(why)) {
        tell(ConfigEvent::ListKept { why: why.as_str().into() });
    }
    if new.kept_lists.is_empty() && !old.kept_lists.is_empty() {
        tell(ConfigEvent::ListsRead);
    }
}
