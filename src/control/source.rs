//! The addresses that servers are reached from.

use super::ChangeError;
use crate::base::failure;
use crate::config::Config;
use crate::net::source;
use crate::sources::Running;

/// Refuses an address to connect from that this machine does not have, unless it is in force already.
///
/// # Errors
///
/// [`ChangeError::Unfit`] for the first such address.
pub(super) fn check_sources(config: &Config, running: &Running) -> Result<(), ChangeError> {
    let groups = running.groups.load();
    for settings in config.groups.iter().map(|group| &group.settings) {
        let Some(source) = settings.server_tcp.source else { continue };
        let id = settings.id();
        let is_known = groups.get(&id).is_some_and(|it| it.snapshot().settings.server_tcp.source == Some(source));
        if let (false, Err(error)) = (is_known, source::is_here(source)) {
            let error = failure::worded(&error);
            return Err(ChangeError::Unfit(format!(
                "group {id}: server_tcp.source: cannot connect from {source}: {error}; expected an address of this machine"
            )));
        }
    }
    Ok(())
}
