//! What is tried on sessions, made up or recorded: a built-in policy, or a module as it would serve.

use std::path::Path;
use std::sync::Arc;

use crate::base::text::hex;
use crate::policy::spec::ModuleSpec;
use crate::policy::wasm::ModuleError;
use crate::policy::wasm::source::{Limits, PolicyKeys};
use crate::policy::wasm::trial::{Trial, TrialPolicy};
use crate::policy::{IBalancePolicy, built_in};

/// The port of the group, which policies are shown.
pub(in crate::lab) const PORT: u16 = 8081;

/// A policy that can be tried.
pub struct Subject {
    /// What it is called: `p2c`, `wasm:mine`.
    pub name: String,
    kind: Kind,
}

enum Kind {
    BuiltIn,
    Module { trial: Box<Trial>, spec: ModuleSpec },
}

impl Subject {
    /// A built-in policy; `None` when none is called so.
    pub fn built_in(name: &str) -> Option<Self> {
        built_in::make(name)?;
        Some(Self { name: name.to_owned(), kind: Kind::BuiltIn })
    }

    /// A module in a file.
    ///
    /// # Errors
    ///
    /// It cannot be used.
    pub fn file(path: &Path, spec: ModuleSpec, limits: Limits) -> Result<Self, ModuleError> {
        Self::module(Trial::load(path, limits)?, spec)
    }

    /// A module of a folder, by its name.
    ///
    /// # Errors
    ///
    /// It cannot be used.
    pub fn of_folder(folder: &Path, spec: ModuleSpec, limits: Limits, keys: &PolicyKeys) -> Result<Self, ModuleError> {
        Self::module(Trial::find(folder, &spec.name, limits, keys)?, spec)
    }

    fn module(trial: Trial, spec: ModuleSpec) -> Result<Self, ModuleError> {
        // A configuration that is refused is told before anything is tried.
        trial.policy(&spec, PORT)?;
        Ok(Self { name: spec.name.policy().to_string(), kind: Kind::Module { trial: Box::new(trial), spec } })
    }

    /// The hash of the module's file in hex; `None` for a built-in policy.
    pub fn sha256(&self) -> Option<String> {
        match &self.kind {
            Kind::BuiltIn => None,
            Kind::Module { trial, .. } => Some(hex(&trial.file().sha256)),
        }
    }

    /// The policy, prepared for no servers; for a module, with what it does besides. What a module draws before its first
    /// pick follows from the seed.
    pub(in crate::lab) fn make(
        &self,
        seed: u64,
    ) -> Result<(Arc<dyn IBalancePolicy>, Option<TrialPolicy>), ModuleError> {
        Ok(match &self.kind {
            Kind::BuiltIn => (built_in::make(&self.name).expect("it was looked up"), None),
            Kind::Module { trial, spec } => {
                let made = trial.seeded_policy(spec, PORT, Some(seed))?;
                (Arc::clone(&made.policy), Some(made))
            }
        })
    }
}
