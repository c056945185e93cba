//! What is shown of a module: in `policy-list.do` and in the metrics.

use std::fmt;
use std::sync::Arc;

use crate::counters::ModuleCounters;
use crate::policy::spec::MODULE_PREFIX;

/// A module at one moment.
#[derive(Clone, Debug)]
pub struct ModuleView {
    /// The configured name: `wasm:NAME`.
    pub name: Arc<str>,
    /// The file in `policies_dir`.
    pub file: String,
    /// What the module says of itself; `None` while none is loaded.
    pub version: Option<String>,
    /// The content of the file that is in use, in hex; `None` while none is loaded.
    pub sha256: Option<String>,
    /// The number of the key that signed it; `None` when signatures were not asked for.
    pub signed_by: Option<String>,
    /// What has become of it.
    pub state: ModuleState,
    /// Why it is not in use, or why the newest version of its file is not.
    pub error: Option<String>,
    /// What it did; `None` when no group names it.
    pub counters: Option<Arc<ModuleCounters>>,
}

impl ModuleView {
    /// A file that no group names.
    pub(super) fn available(name: &str, file: String) -> Self {
        Self {
            name: format!("{MODULE_PREFIX}{name}").into(),
            file,
            version: None,
            sha256: None,
            signed_by: None,
            state: ModuleState::Available,
            error: None,
            counters: None,
        }
    }
}

/// What has become of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ModuleState {
    /// It answers.
    Loaded,
    /// It failed too often in a row: the fallback answers, and it is tried again later.
    Quarantined,
    /// No version of its file could be used: the fallback answers.
    Refused,
    /// It lies in the folder and no group names it, so it is not loaded.
    Available,
}

impl ModuleState {
    /// The word in the admin API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Loaded => "loaded",
            Self::Quarantined => "quarantined",
            Self::Refused => "refused",
            Self::Available => "available",
        }
    }
}

impl fmt::Display for ModuleState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::ModuleState::*;

    #[test]
    fn a_state_has_one_word_everywhere() {
        for state in [Loaded, Quarantined, Refused, Available] {
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
    }
}
