//! The other files that `proxy.json` names, with secrets, lists of networks and certificates.
//!
//! While one cannot be used, the former secret, list or certificate stands in for what it says. That is told once.

use std::path::PathBuf;

use super::Control;
use crate::config::{Config, GroupConfig};
use crate::events::{self, ConfigEvent, Event};
use crate::group::GroupId;

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
    let (were, are) = (unverified(old), unverified(new));
    if are.iter().any(|group| !were.contains(group)) {
        let groups = are.iter().map(|group| group.to_string().into()).collect();
        tell(ConfigEvent::ServersUnverified { groups });
    }
    for why in new.kept_certificates.iter().filter(|why| !old.kept_certificates.contains(why)) {
        tell(ConfigEvent::CertificateKept { why: why.as_str().into() });
    }
    if new.kept_certificates.is_empty() && !old.kept_certificates.is_empty() {
        tell(ConfigEvent::CertificatesRead);
    }
}

/// The groups whose servers need not prove who they are.
fn unverified(config: &Config) -> Vec<GroupId> {
    let is_unverified = |group: &&GroupConfig| group.settings.server_tls.as_ref().is_some_and(|tls| !tls.verify);
    config.groups.iter().filter(is_unverified).map(|group| group.settings.id()).collect()
}
