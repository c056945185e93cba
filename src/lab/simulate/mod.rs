//! `goproxy policy simulate`: policies under the same made-up sessions, before they get traffic.
//!
//! A [`Subject`] is a policy that can be simulated, built in or a module: the very code and bytes that serve. [`simulate`] runs one on a
//! scenario; the scenario alone decides which sessions come, so the results of several may be compared. Everything but what a
//! pick costs is the same in every run. Command line and exit codes are left to `cli`.

mod books;
mod condition;
mod estimate;
mod moves;
mod page;
mod report;
mod run;
mod sessions;
mod station;
mod table;
mod trace;

#[cfg(test)]
mod theory;

use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;

pub use condition::Condition;
pub use estimate::{Estimate, estimates};
pub use moves::Change;
pub use page::page;
pub use report::{Cost, Held, Simulated};
pub use table::text;
pub use trace::{Trace, TraceError, TraceFormat};

use crate::config::{Scenario, parse};
use crate::group::GroupSettings;
use crate::lab::subject::{PORT, Subject};
use crate::policy::wasm::ModuleError;

/// Runs a policy on a scenario; with a trace, on its sessions.
///
/// # Errors
///
/// A module cannot be started.
pub fn simulate(subject: &Subject, scenario: &Scenario, trace: Option<&Trace>) -> Result<Simulated, ModuleError> {
    let (policy, module) = subject.make(scenario.seed)?;
    let (books, moves, group) = run::Run::new(scenario, settings(), policy).on(trace).run();
    let mut result = Simulated::new(&subject.name, subject.sha256(), &books, moves.changes);
    result.cost = report::cost(&group);
    if let Some(module) = module {
        result.faults = module.counters().faults_total();
        result.fallbacks = module.counters().fallbacks.load(Relaxed);
        result.last_fault = module.last_fault();
    }
    Ok(result)
}

/// A group of which only the port is configured.
fn settings() -> GroupSettings {
    let text = format!(r#"{{ "groups": [ {{ "listen": "127.0.0.1:{PORT}" }} ] }}"#);
    let config = parse(Path::new("proxy.json"), &text).expect("this is in order");
    config.groups.into_iter().next().expect("it has a group").settings
}
