//! The only place that turns a configured name into a policy.

use std::path::PathBuf;
use std::sync::Arc;

use super::balance::IBalancePolicy;
use super::built_in;
use super::oversee::Overseer;
use super::spec::{BuiltInName, PolicySpec};
use super::wasm::source::PolicyKeys;
use super::wasm::{ModuleError, Modules};
use crate::base::label::GroupLabel;

/// Makes policies, built-in ones and modules. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Factory {
    modules: Modules,
}

impl Factory {
    /// Looks for modules in `folder`; files above `file_bytes_max` are refused, and those that none of `keys` has signed.
    pub fn new(folder: PathBuf, file_bytes_max: u64, keys: PolicyKeys) -> Self {
        Self { modules: Modules::new(folder, file_bytes_max, keys) }
    }

    /// The modules that are in use.
    pub fn modules(&self) -> &Modules {
        &self.modules
    }

    /// Makes what `spec` names for this group, prepared for no servers. A module may be signed with `keys`.
    ///
    /// # Errors
    ///
    /// The module is not there, or is unfit; a built-in policy is always made.
    pub async fn make(
        &self,
        spec: &PolicySpec,
        group: &GroupLabel,
        keys: &PolicyKeys,
    ) -> Result<Arc<dyn IBalancePolicy>, ModuleError> {
        self.make_overseen(spec, group, keys, None).await
    }

    /// The same with somebody who follows the instances of a module.
    ///
    /// # Errors
    ///
    /// As [`Factory::make`].
    pub async fn make_overseen(
        &self,
        spec: &PolicySpec,
        group: &GroupLabel,
        keys: &PolicyKeys,
        overseer: Option<Arc<dyn Overseer>>,
    ) -> Result<Arc<dyn IBalancePolicy>, ModuleError> {
        match spec {
            PolicySpec::BuiltIn(name) => Ok(make_built_in(name)),
            PolicySpec::Module(module) => Ok(self.modules.make_overseen(module, group, keys, overseer).await?),
        }
    }

    /// The same, but for a module that cannot be used its fallback serves until it can. For the start, which
    /// nobody is there to repeat.
    pub async fn make_anyway(&self, spec: &PolicySpec, group: &GroupLabel) -> Arc<dyn IBalancePolicy> {
        match spec {
            PolicySpec::BuiltIn(name) => make_built_in(name),
            PolicySpec::Module(module) => self.modules.make_anyway(module, group).await,
        }
    }
}

fn make_built_in(name: &BuiltInName) -> Arc<dyn IBalancePolicy> {
    built_in::make(name).expect("it is a name of the table")
}
