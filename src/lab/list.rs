//! `goproxy policy list`, and the modules that `goproxy check` has to try.

use std::collections::HashMap;
use std::fmt::Write;

use serde::Serialize;

use super::rig::GROUP;
use crate::base::terminal::Style;
use crate::base::text::hex;
use crate::config::Config;
use crate::policy::built_in;
use crate::policy::spec::{COMPILE_BUDGET, MODULE_PREFIX, ModuleSpec};
use crate::policy::wasm::source::PolicyKeys;
use crate::policy::wasm::trial::Trial;
use crate::policy::wasm::view::ModuleState;
use crate::policy::wasm::{ModuleError, Modules, source};

/// How much of a SHA-256 a table shows.
const SHA256_SHOWN: usize = 12;

/// The policies there are.
#[derive(Debug, Serialize)]
pub struct Listing {
    /// Where modules are looked for.
    pub policies_dir: String,
    /// Built-in ones, then modules by name.
    pub policies: Vec<Entry>,
}

/// A policy; the keys are those of `policy-list.do`.
#[derive(Debug, Serialize)]
pub struct Entry {
    /// The configured name.
    pub name: String,
    /// `built_in` or `wasm`.
    pub kind: &'static str,
    /// What a built-in one promises.
    pub promise: Option<&'static str>,
    /// A module's file in the folder.
    pub file: Option<String>,
    /// What a module says of itself.
    pub version: Option<String>,
    /// Of the file, in hex.
    pub sha256: Option<String>,
    /// The number of the key that signed it, where `policy_keys` asks for that.
    pub signed_by: Option<String>,
    /// `loaded` or `refused`.
    pub state: ModuleState,
    /// Why it is refused.
    pub error: Option<String>,
    /// The groups that name it.
    pub groups: Vec<u16>,
}

/// Tries every module of the folder, and every one that a group names, with the configuration of each group.
pub fn list(config: &Config) -> Listing {
    let groups_of = |name: &str| {
        let groups = config.groups.iter().filter(|group| group.settings.policy.name() == name);
        groups.map(|group| group.settings.listen.port()).collect::<Vec<_>>()
    };
    let built_in = built_in::describe().iter().map(|built_in| Entry {
        name: built_in.name.to_owned(),
        kind: "built_in",
        promise: Some(built_in.promise),
        file: None,
        version: None,
        sha256: None,
        signed_by: None,
        state: ModuleState::Loaded,
        error: None,
        groups: groups_of(built_in.name),
    });
    let mut policies: Vec<Entry> = built_in.collect();
    let mut trials = Trials::new(config);
    for name in trials.names() {
        let groups = groups_of(&format!("{MODULE_PREFIX}{name}"));
        policies.push(trials.entry(&name, groups));
    }
    Listing { policies_dir: config.policies_dir.display().to_string(), policies }
}

/// The index of each group whose module cannot be used, and why.
pub fn unusable(config: &Config) -> Vec<(usize, String)> {
    let mut trials = Trials::new(config);
    let groups = config.groups.iter().enumerate();
    let tried = groups.filter_map(|(index, group)| {
        let spec = group.settings.policy.as_module()?;
        let error = trials.try_for(spec, group.settings.listen.port()).err()?;
        Some((index, error.to_string()))
    });
    tried.collect()
}

/// Modules, each compiled once.
struct Trials<'c> {
    config: &'c Config,
    /// By name; the file's name in the folder.
    files: HashMap<String, String>,
    loaded: HashMap<String, Result<Trial, ModuleError>>,
}

impl<'c> Trials<'c> {
    fn new(config: &'c Config) -> Self {
        let views = Modules::new(config.policies_dir.clone(), config.policy_max_bytes, PolicyKeys::default()).views();
        let bare = |name: &str| name.strip_prefix(MODULE_PREFIX).map(str::to_owned);
        let files = views.into_iter().filter_map(|view| Some((bare(&view.name)?, view.file))).collect();
        Self { config, files, loaded: HashMap::new() }
    }

    /// Every module in the folder, and every one that a group names.
    fn names(&self) -> Vec<String> {
        let named = self.config.groups.iter().filter_map(|group| group.settings.policy.as_module());
        let mut names: Vec<String> =
            self.files.keys().cloned().chain(named.map(|spec| spec.name.to_string())).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    fn loaded(&mut self, name: &str) -> &Result<Trial, ModuleError> {
        let Self { config, loaded, .. } = self;
        loaded.entry(name.to_owned()).or_insert_with(|| {
            let named = config.groups.iter().filter_map(|group| group.settings.policy.as_module());
            let budgets = named.filter(|spec| *spec.name == *name).map(|spec| spec.compile_budget);
            let compile_budget = budgets.max().unwrap_or(COMPILE_BUDGET);
            let limits = source::Limits { file_bytes_max: config.policy_max_bytes, compile_budget };
            Trial::find(&config.policies_dir, name, limits, &config.policy_keys.clone().into())
        })
    }

    /// Makes the policy as the group would, and returns its version.
    fn try_for(&mut self, spec: &ModuleSpec, group: u16) -> Result<String, ModuleError> {
        let trial = self.loaded(&spec.name).as_ref().map_err(Clone::clone)?;
        trial.policy(spec, group).map(|made| made.version)
    }

    fn entry(&mut self, name: &str, groups: Vec<u16>) -> Entry {
        let config = self.config;
        let of_groups = config.groups.iter().filter_map(|group| {
            let spec = group.settings.policy.as_module().filter(|spec| *spec.name == *name)?;
            Some((spec.as_ref().clone(), group.settings.listen.port()))
        });
        let mut specs: Vec<(ModuleSpec, u16)> = of_groups.collect();
        if specs.is_empty() {
            specs.push((ModuleSpec::new(name), GROUP));
        }
        let (mut version, mut errors) = (None, Vec::<ModuleError>::new());
        for (spec, group) in &specs {
            match self.try_for(spec, *group) {
                Ok(found) => version = Some(found),
                Err(error) if !errors.contains(&error) => errors.push(error),
                Err(_) => {}
            }
        }
        let trial = self.loaded(name).as_ref().ok();
        let sha256 = trial.map(|trial| hex(&trial.file().sha256));
        let signed_by = trial.and_then(|trial| Some(trial.signed_by()?.to_string()));
        // Each holds an engine, and the folder may have many modules.
        self.loaded.remove(name);
        Entry {
            name: format!("{MODULE_PREFIX}{name}"),
            kind: "wasm",
            promise: None,
            file: self.files.get(name).cloned(),
            version,
            sha256,
            signed_by,
            state: if errors.is_empty() { ModuleState::Loaded } else { ModuleState::Refused },
            error: (!errors.is_empty()).then(|| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")),
            groups,
        }
    }
}

impl Listing {
    /// The list as one line of JSON.
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("a listing has only texts as keys")
    }

    /// A table on a terminal; elsewhere a line for each policy, its fields between tabs: name, state, version,
    /// SHA-256, groups, and what it promises, who signed it or why it is refused.
    pub fn text(&self, style: Style) -> String {
        let rows: Vec<[String; 6]> = self.policies.iter().map(Entry::row).collect();
        let mut text = String::new();
        if !style.is_terminal {
            for row in rows {
                let _ = writeln!(text, "{}", row.map(|field| field.replace(['\n', '\t'], " ")).join("\t"));
            }
            return text;
        }
        let heads = ["policy", "state", "version", "sha256", "groups", ""].map(str::to_owned);
        let widths: [usize; 5] =
            std::array::from_fn(|at| rows.iter().chain([&heads]).map(|row| row[at].chars().count()).max().unwrap_or(0));
        for (number, row) in [&heads].into_iter().chain(&rows).enumerate() {
            let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            let cells = cells.join("  ");
            let is_refused = number > 0 && self.policies[number - 1].error.is_some();
            let shown = match number {
                0 => style.bold(&cells),
                _ if is_refused => style.red(&cells),
                _ => cells,
            };
            let last = &row[5];
            let _ = if is_refused { writeln!(text, "{shown}\n    {last}") } else { writeln!(text, "{shown}  {last}") };
        }
        let _ = writeln!(text, "\nmodules are looked for in {}", self.policies_dir);
        text
    }
}

impl Entry {
    fn row(&self) -> [String; 6] {
        let signed_by = || self.signed_by.as_ref().map_or_else(String::new, |number| format!("signed by {number}"));
        let or_dash = |field: Option<&str>| field.unwrap_or("-").to_owned();
        let groups: Vec<String> = self.groups.iter().map(u16::to_string).collect();
        [
            self.name.clone(),
            self.state.to_string(),
            or_dash(self.version.as_deref()),
            or_dash(self.sha256.as_ref().map(|sha256| &sha256[..SHA256_SHOWN])),
            or_dash((!groups.is_empty()).then(|| groups.join(",")).as_deref()),
            self.error.as_deref().or(self.promise).map_or_else(signed_by, str::to_owned),
        ]
    }
}
