//! A policy as configured: what `policy` means in `proxy.json` and over HTTP.
//!
//! A spec says which policy, not whether it works: a built-in one always does, a module is looked for in
//! `policies_dir` when [`super::factory`] makes it.

use std::fmt;
use std::ops::{Deref, RangeInclusive};
use std::sync::Arc;
use std::time::Duration;

use super::built_in::BUILT_IN;
use crate::base::text::{did_you_mean, echo};

/// The policy of a group that names none, and what answers for a module that cannot.
pub const DEFAULT_POLICY: &str = "round_robin";

/// What stands before a module's name.
pub const MODULE_PREFIX: &str = "wasm:";

/// Longest name of a module, in bytes.
pub const MODULE_NAME_LEN_MAX: usize = 64;

/// How long one pick may take. Shorter deadlines are not kept: the clock that stops guests ticks every 5 ms.
pub const DEADLINE_RANGE: RangeInclusive<Duration> = Duration::from_millis(5)..=Duration::from_secs(1);

/// How much memory an instance may have, in bytes.
pub const MEMORY_RANGE: RangeInclusive<u64> = (64 << 10)..=(1 << 30);

/// How long compiling a module may take when its policy says nothing about it.
pub const COMPILE_BUDGET: Duration = Duration::from_secs(1);

/// How long compiling a module may be allowed to take.
pub const COMPILE_BUDGET_RANGE: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);

/// A policy as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicySpec {
    /// One that needs no module.
    BuiltIn(BuiltInName),
    /// A module from `policies_dir`.
    Module(Arc<ModuleSpec>),
}

/// The name of a built-in policy: one of [`BUILT_IN`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuiltInName(Arc<str>);

/// The name of a module; it reads as that of its file in `policies_dir`, without the ending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleName {
    /// With [`MODULE_PREFIX`] in front, as the policy is called.
    policy: Arc<str>,
}

/// A policy in WebAssembly as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleSpec {
    /// The file in `policies_dir` without its ending; see [`is_module_name`].
    pub name: ModuleName,
    /// What the module is configured with, as JSON text; `{}` for nothing.
    pub config: String,
    /// The built-in policy that answers when the module cannot.
    pub fallback: &'static str,
    /// How long one pick may take, within [`DEADLINE_RANGE`].
    pub deadline: Duration,
    /// How much memory one instance may have, in bytes, within [`MEMORY_RANGE`].
    pub memory: u64,
    /// How long compiling may take, by an estimate made before, within [`COMPILE_BUDGET_RANGE`].
    pub compile_budget: Duration,
    /// The only content of the file that is accepted; `None` for any.
    pub sha256: Option<[u8; 32]>,
}

/// A name that no policy can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown policy \"{name}\"; expected {}, or wasm:NAME{}", BUILT_IN.join(", "), hint(.name))]
pub struct UnknownPolicy {
    /// The name as given, cut where it is long.
    pub name: String,
}

/// What may have been meant, in parentheses; empty when nothing comes close.
fn hint(name: &str) -> String {
    let module = name.strip_prefix(MODULE_PREFIX).unwrap_or(name);
    let like_ours = name.to_ascii_lowercase().replace(['-', ' '], "_");
    if BUILT_IN.contains(&&*like_ours) {
        format!(" (did you mean {like_ours}?)")
    } else if let Some(file) = without_ending(module).filter(|file| is_module_name(file)) {
        format!(" (did you mean {MODULE_PREFIX}{file}? the name goes without the ending)")
    } else if name.starts_with(MODULE_PREFIX) {
        format!(
            " (no file in policies_dir can be called so: expected 1 to {MODULE_NAME_LEN_MAX} letters, digits, _, - and ., and no . in \
             front)"
        )
    } else if is_module_name(name) && !BUILT_IN.iter().any(|known| known.get(..3) == like_ours.get(..3)) {
        format!(" (did you mean {MODULE_PREFIX}{name}, a module?)")
    } else {
        did_you_mean(name, BUILT_IN)
    }
}

impl UnknownPolicy {
    /// What is wrong, and what was expected, for those who have a better hint.
    pub fn without_hint(&self) -> String {
        let text = self.to_string();
        text.strip_suffix(&self.hint()).unwrap_or(&text).to_owned()
    }

    /// What may have been meant, in parentheses; empty when nothing comes close.
    pub fn hint(&self) -> String {
        hint(&self.name)
    }
}

/// True for what may follow [`MODULE_PREFIX`]: letters, digits, `_`, `-` and, but not in front, `.`, so that
/// a name never leads out of the folder.
pub fn is_module_name(name: &str) -> bool {
    let is_fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    (1..=MODULE_NAME_LEN_MAX).contains(&name.len()) && !name.starts_with('.') && name.chars().all(is_fit)
}

/// The name of a module that was named by its file; `None` for a name without an ending.
pub fn without_ending(module: &str) -> Option<&str> {
    [".wasm", ".wat"].iter().find_map(|ending| module.strip_suffix(ending))
}

impl PolicySpec {
    /// Reads `round_robin` or `wasm:NAME`. Whether there is such a module is found out when it is made.
    ///
    /// # Errors
    ///
    /// [`UnknownPolicy`] for a name that is neither in [`BUILT_IN`] nor that of a module.
    pub fn parse(name: &str) -> Result<Self, UnknownPolicy> {
        let unknown = || UnknownPolicy { name: echo(name) };
        match name.strip_prefix(MODULE_PREFIX) {
            Some(module) if is_module_name(module) && without_ending(module).is_none() => {
                Ok(Self::module(ModuleSpec::new(module)))
            }
            None if BUILT_IN.contains(&name) => Ok(Self::BuiltIn(BuiltInName(name.into()))),
            _ => Err(unknown()),
        }
    }

    /// The policy of a module.
    pub fn module(module: ModuleSpec) -> Self {
        Self::Module(Arc::new(module))
    }

    /// The configured name: `round_robin` or `wasm:NAME`.
    pub fn name(&self) -> &str {
        match self {
            Self::BuiltIn(name) => name,
            Self::Module(module) => &module.name.policy,
        }
    }

    /// The same name, shared: for log records.
    pub fn shared_name(&self) -> Arc<str> {
        match self {
            Self::BuiltIn(name) => Arc::clone(&name.0),
            Self::Module(module) => module.name.policy(),
        }
    }

    /// The module, when it is not a built-in policy.
    pub fn as_module(&self) -> Option<&Arc<ModuleSpec>> {
        match self {
            Self::BuiltIn(_) => None,
            Self::Module(module) => Some(module),
        }
    }
}

impl Deref for BuiltInName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl ModuleName {
    /// The name of the policy: `wasm:NAME`.
    pub fn policy(&self) -> Arc<str> {
        Arc::clone(&self.policy)
    }
}

impl From<&str> for ModuleName {
    fn from(name: &str) -> Self {
        Self { policy: format!("{MODULE_PREFIX}{name}").into() }
    }
}

impl Deref for ModuleName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.policy[MODULE_PREFIX.len()..]
    }
}

impl fmt::Display for ModuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl Default for PolicySpec {
    fn default() -> Self {
        Self::BuiltIn(BuiltInName(DEFAULT_POLICY.into()))
    }
}

impl fmt::Display for PolicySpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl ModuleSpec {
    /// A module of which only the name is known.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            config: "{}".to_owned(),
            fallback: DEFAULT_POLICY,
            deadline: Duration::from_millis(5),
            memory: 16 << 20,
            compile_budget: COMPILE_BUDGET,
            sha256: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_is_refused_with_the_names_that_are_known_and_a_bounded_echo() {
        let error = PolicySpec::parse("round_robbin").unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown policy \"round_robbin\"; expected ha, round_robin, ip_hash, least_sessions, random, p2c, maglev, \
             or wasm:NAME (did you mean round_robin?)"
        );
        assert_eq!(PolicySpec::parse(&"ä".repeat(1_000)).unwrap_err().name, format!("{}…", "ä".repeat(64)));
        for name in ["", "HA", " ha", "round-robin"] {
            assert!(PolicySpec::parse(name).is_err(), "{name}");
        }
    }

    #[test]
    fn the_name_of_a_module_stays_within_its_folder() {
        for name in ["wasm:mine", "wasm:my_policy-2.1", "wasm:ha"] {
            let spec = PolicySpec::parse(name).unwrap();
            assert_eq!(spec.name(), name);
            assert_eq!(format!("wasm:{}", spec.as_module().unwrap().name), name);
            assert_eq!(&*spec.shared_name(), name);
        }
        let long = format!("wasm:{}", "x".repeat(MODULE_NAME_LEN_MAX + 1));
        for name in ["wasm:", "wasm:..", "wasm:../x", "wasm:a/b", "wasm:.x", "wasm:a b", "wasm:ä", "wasm:a\0", &long] {
            assert!(PolicySpec::parse(name).is_err(), "{name}");
        }
    }
}
