//! What a recording says of itself.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::base::clock;
use crate::policy::built_in::BUILT_IN;
use crate::policy::spec::{COMPILE_BUDGET_RANGE, DEADLINE_RANGE, MEMORY_RANGE, ModuleSpec, PolicySpec};

/// What is recorded, and where: enough to make the policy again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// The version of goproxy.
    pub goproxy: String,
    /// The group, by its name or its port.
    pub group: String,
    /// The group's port when it began, which modules are configured with.
    pub port: u16,
    /// When it began, as in the log.
    pub started: String,
    /// The policy: `p2c`, `wasm:mine`.
    pub policy: String,
    /// Sessions that the group held when it began.
    pub sessions_before: u64,
    /// Clients' addresses are replaced.
    pub is_anonymous: bool,
    /// What a module was made of besides its file.
    pub module: Option<AboutModule>,
}

/// What a module was made of besides its file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AboutModule {
    /// Its configuration.
    pub config: String,
    /// Who answers when it cannot.
    pub fallback: String,
    /// How much memory an instance may have.
    pub memory: u64,
    /// How long a pick might take, in milliseconds.
    pub deadline_ms: u64,
}

impl AboutModule {
    /// What is said of a module.
    pub fn new(spec: &ModuleSpec) -> Self {
        let deadline_ms = clock::as_ms(spec.deadline);
        Self { config: spec.config.clone(), fallback: spec.fallback.to_owned(), memory: spec.memory, deadline_ms }
    }
}

impl About {
    /// The policy. A module may take as long as it likes: where its time ran out, the recording says so.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn spec(&self) -> Result<PolicySpec, String> {
        let spec = PolicySpec::parse(&self.policy).map_err(|error| error.to_string())?;
        let (Some(module), Some(about)) = (spec.as_module(), &self.module) else { return Ok(spec) };
        let known = BUILT_IN.iter().find(|name| **name == about.fallback);
        let fallback = *known.ok_or_else(|| format!("unknown fallback {:?}", about.fallback))?;
        if !MEMORY_RANGE.contains(&about.memory) {
            return Err(format!("memory: {} is out of range", about.memory));
        }
        Ok(PolicySpec::Module(Arc::new(ModuleSpec {
            config: about.config.clone(),
            fallback,
            memory: about.memory,
            deadline: *DEADLINE_RANGE.end(),
            compile_budget: *COMPILE_BUDGET_RANGE.end(),
            ..module.as_ref().clone()
        })))
    }
}
