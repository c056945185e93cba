//! Policies in WebAssembly.
pub mod source;

#[cfg(test)]
pub(crate) mod guests;

use std::path::PathBuf;
use std::sync::Arc;

use super::IBalancePolicy;
use super::spec::ModuleSpec;

/// Why a module cannot be used, for people: place, what is wrong, what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ModuleError(pub String);

/// The modules in use.
#[derive(Clone, Debug)]
pub struct Modules {}

impl Modules {
    /// Looks for modules in `folder`.
    pub fn new(_folder: PathBuf, _file_bytes_max: u64) -> Self {
        Self {}
    }
    /// Makes a policy.
    ///
    /// # Errors
    ///
    /// The module is not there, or is unfit.
    pub async fn make(&self, _spec: &Arc<ModuleSpec>, _group: u16) -> Result<Arc<dyn IBalancePolicy>, ModuleError> {
        Err(ModuleError("not yet".to_owned()))
    }
    /// Makes it anyway.
    pub async fn make_anyway(&self, spec: &Arc<ModuleSpec>, _group: u16) -> Arc<dyn IBalancePolicy> {
        super::factory::built_in(spec.fallback).expect("a fallback is built in")
    }
}
