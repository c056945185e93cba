//! Why a module cannot be used.

/// Why a module cannot be used, for people: place, what is wrong, what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ModuleError(pub String);
