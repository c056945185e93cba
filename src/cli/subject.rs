//! Which policy is meant on a command line that tries some.

use std::path::Path;

use crate::base::text::{did_you_mean, echo};
use crate::config::Config;
use crate::lab::Subject;
use crate::policy::built_in::BUILT_IN;
use crate::policy::spec::{MODULE_PREFIX, ModuleSpec, PolicySpec, is_module_name};
use crate::policy::wasm::ModuleError;
use crate::policy::wasm::source::Limits;

/// The exit code for a wrong command line, as clap's.
pub(super) const EXIT_USAGE: u8 = 2;

/// The largest module that is read, where no file says so.
const POLICY_BYTES_MAX: u64 = 64 << 20;

/// What a policy on the command line is, or an exit code and why it cannot be simulated.
///
/// `group` of the file, if one is named, tells how a module is configured; `module_config` counts more.
pub(super) fn subject(
    policy: &str,
    group: Option<&str>,
    module_config: Option<&str>,
    config: Option<&Config>,
) -> Result<Subject, (u8, String)> {
    if let Some(subject) = Subject::built_in(policy) {
        return Ok(subject);
    }
    let spec = |name: &str| {
        let spec = ModuleSpec::new(name);
        let config = module_config.map_or_else(|| spec.config.clone(), str::to_owned);
        ModuleSpec { config, ..spec }
    };
    let unfit = |error: ModuleError| (1, error.to_string());
    if let (Some(name), Some(config)) = (policy.strip_prefix(MODULE_PREFIX), config) {
        PolicySpec::parse(policy).map_err(|error| (EXIT_USAGE, error.to_string()))?;
        // As the group that names it has it.
        let in_group = |wanted: &str| config.groups.iter().find(|group| group.settings.id().as_str() == wanted);
        let of_group = group.and_then(in_group).and_then(|group| group.settings.policy.as_module());
        let configured = of_group.filter(|spec| *spec.name == *name).map(|spec| spec.as_ref().clone());
        let mut spec = configured.unwrap_or_else(|| spec(name));
        if let Some(config) = module_config {
            config.clone_into(&mut spec.config);
        }
        let limits = Limits { file_bytes_max: config.policy_max_bytes, compile_budget: spec.compile_budget };
        let keys = config.policy_keys.clone().into();
        return Subject::of_folder(&config.policies_dir, spec, limits, &keys).map_err(unfit);
    }
    let path = Path::new(policy);
    let is_file = policy.contains('/') || policy.ends_with(".wasm") || policy.ends_with(".wat");
    if !is_file {
        let hint = did_you_mean(policy, BUILT_IN);
        let known = BUILT_IN.join(", ");
        let text =
            format!("unknown policy \"{}\"; expected {known}, a module's file, or wasm:NAME{hint}", echo(policy));
        return Err((EXIT_USAGE, text));
    }
    let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).filter(|name| is_module_name(name));
    let spec = spec(name.as_deref().unwrap_or("module"));
    let limits = Limits { file_bytes_max: POLICY_BYTES_MAX, compile_budget: spec.compile_budget };
    Subject::file(path, spec, limits).map_err(unfit)
}
