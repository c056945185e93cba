//! The access logs of the groups: opened before a change is made, given to the groups when it is.
//!
//! Groups whose logs are configured alike share one. It stays open while some group has it.

use std::collections::HashMap;
use std::sync::Arc;

use super::ChangeError;
use super::blocking::blocking;
use crate::access::{AccessSettings, AccessTarget};
use crate::base::failure::worded;
use crate::config::Config;
use crate::group::Groups;
use crate::log;

/// The access logs that are open, by how they are configured.
#[derive(Clone, Debug, Default)]
pub(super) struct AccessLogs(HashMap<AccessSettings, Arc<AccessTarget>>);

impl AccessLogs {
    /// Those that `config` asks for; of these, those that are open already.
    ///
    /// # Errors
    ///
    /// [`ChangeError::AccessLog`] for a file that cannot be opened.
    pub(super) async fn prepare(&self, config: &Config) -> Result<Self, ChangeError> {
        let mut wanted = Self::default();
        let mut missing: Vec<AccessSettings> = Vec::new();
        for settings in config.groups.iter().filter_map(|group| config.access_log_of(&group.settings)) {
            match self.0.get(settings) {
                Some(target) => {
                    wanted.0.insert(settings.clone(), Arc::clone(target));
                }
                None if missing.contains(settings) => {}
                None => missing.push(settings.clone()),
            }
        }
        if missing.is_empty() {
            return Ok(wanted);
        }
        let opened = blocking(move || missing.into_iter().map(open).collect::<Result<Vec<_>, _>>()).await?;
        wanted.0.extend(opened.into_iter().map(|target| (target.settings().clone(), target)));
        Ok(wanted)
    }

    /// Gives the groups those that were prepared for this configuration.
    pub(super) fn commit(&mut self, prepared: Self, groups: &Groups, config: &Config) {
        *self = prepared;
        for settings in config.groups.iter().map(|group| &group.settings) {
            let target = config.access_log_of(settings).and_then(|settings| self.0.get(settings));
            if let Some(group) = groups.get(&settings.id()) {
                group.set_access_log(target.cloned());
            }
        }
        log::set_access_logs(self.0.values().cloned().collect());
    }
}

fn open(settings: AccessSettings) -> Result<Arc<AccessTarget>, ChangeError> {
    let path = settings.path.to_string();
    AccessTarget::open(settings).map(Arc::new).map_err(|error| ChangeError::AccessLog { path, why: worded(&error) })
}
