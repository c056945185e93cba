//! The keys of a policy that is written as an object.

use std::sync::LazyLock;

use crate::config::declare::settings;
use crate::config::kinds::{Size, Time, free, module_name, optional, sha256, size, time, words};
use crate::policy::built_in::BUILT_IN;
use crate::policy::spec::{COMPILE_BUDGET_RANGE, DEADLINE_RANGE, MEMORY_RANGE, ModuleSpec};

/// What `deadline` may be.
pub(in crate::config) const DEADLINE: Time =
    time(DEADLINE_RANGE.start().as_millis() as u64, DEADLINE_RANGE.end().as_millis() as u64);

/// What `memory` may be.
pub(in crate::config) const MEMORY: Size = size(*MEMORY_RANGE.start(), *MEMORY_RANGE.end());

/// What `compile_budget` may be.
pub(in crate::config) const COMPILE_BUDGET: Time =
    time(COMPILE_BUDGET_RANGE.start().as_millis() as u64, COMPILE_BUDGET_RANGE.end().as_millis() as u64);

/// A module of which only the name is known: it has every default.
static PLAIN: LazyLock<ModuleSpec> = LazyLock::new(|| ModuleSpec::new(""));

settings! {
    impl ModuleSpec {
        /// The module: NAME.wasm or NAME.wat in policies_dir, by its NAME.
        name("wasm") as module_name(), NewSessions;
        /// What the module is told before it picks, as JSON; what it may be is the module's business.
        config as free() => PLAIN.config.clone(), NewSessions;
        /// The built-in policy that answers whenever the module cannot.
        fallback as words(&BUILT_IN) => PLAIN.fallback, NewSessions;
        /// How long one pick may take; a module that takes longer is stopped, within 10 ms, and fallback answers.
        deadline as DEADLINE => PLAIN.deadline, NewSessions;
        /// How much memory the module may have for one group.
        memory as MEMORY => PLAIN.memory, NewSessions;
        /// How long compiling the module may take, by an estimate; it is done in the background, at low priority.
        compile_budget as COMPILE_BUDGET => PLAIN.compile_budget, NewSessions;
        /// The SHA-256 of the only file that is accepted, as sha256sum prints it; null for any.
        sha256 as optional(sha256()) => PLAIN.sha256, NewSessions;
    }
}
