//! Why a module cannot be used.

use crate::base::label::GroupLabel;

/// Why a module cannot be used, for people: place, what is wrong, what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModuleError {
    /// Its file is not there or is unfit, or what is in it does not work as it is configured.
    #[error("{place}: {problem}")]
    File {
        /// The file, or the two that there are for one policy.
        place: String,
        /// What is wrong with it.
        problem: String,
    },
    /// An instance that had passed its trial failed when it was put to work.
    #[error("{0}")]
    Instance(String),
    /// The proxy cannot load any module now.
    #[error("{0}")]
    Proxy(String),
}

impl ModuleError {
    /// The error without its place, for those who name the file themselves.
    pub fn problem(&self) -> &str {
        match self {
            Self::File { problem, .. } => problem,
            Self::Instance(text) | Self::Proxy(text) => text,
        }
    }

    /// Says of which group's configuration the error is: a file that several groups use may be fit for some of them.
    pub(super) fn for_group(mut self, group: &GroupLabel) -> Self {
        let (Self::File { problem: text, .. } | Self::Instance(text) | Self::Proxy(text)) = &mut self;
        text.push_str(&format!(" (for group {group})"));
        self
    }
}
