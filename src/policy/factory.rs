//! The only place that turns a configured name into a policy.

use std::fmt;
use std::sync::Arc;

use super::IBalancePolicy;

/// The policies that need no module, in the order in which they are listed.
pub const BUILT_IN: [&str; 7] = ["ha", "round_robin", "ip_hash", "least_sessions", "random", "p2c", "maglev"];

/// A policy as configured: a name that the factory knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicySpec {
    name: Arc<str>,
}

/// A name the factory does not know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown policy \"{name}\"; expected {}", BUILT_IN.join(", "))]
pub struct UnknownPolicy {
    /// The name as given, cut to 64 characters.
    pub name: String,
}

impl PolicySpec {
    /// Checks `name` against what the factory can make.
    ///
    /// # Errors
    ///
    /// [`UnknownPolicy`] for any name that is not in [`BUILT_IN`].
    pub fn parse(name: &str) -> Result<Self, UnknownPolicy> {
        if BUILT_IN.contains(&name) {
            Ok(Self { name: name.into() })
        } else {
            Err(UnknownPolicy { name: name.chars().take(64).collect() })
        }
    }

    /// The configured name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same name, shared: for log records.
    pub fn shared_name(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }
}

impl Default for PolicySpec {
    fn default() -> Self {
        Self { name: "round_robin".into() }
    }
}

impl fmt::Display for PolicySpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Makes the policy that `spec` names, prepared for no servers.
pub fn make(_spec: &PolicySpec) -> Arc<dyn IBalancePolicy> {
    todo!("helper: built-ins")
}
