//! What is known of everything at one moment, in the words and figures of the lists.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use serde::Serialize;

use crate::base::clock;
use crate::control::Control;
use crate::counters::{Histogram, ModuleCounters};
use crate::group::Group;
use crate::group::view::ServerView;
use crate::metrics;
use crate::policy::wasm::view::{ModuleState, ModuleView};
use crate::server::{Origin, State};

/// Everything at one moment.
#[derive(Debug)]
pub(super) struct Sample {
    /// On the precise clock.
    pub(super) at_us: u64,
    /// In milliseconds since 1970.
    pub(super) wall_ms: u64,
    pub(super) process: ProcessFacts,
    pub(super) sessions: u64,
    pub(super) groups: Vec<GroupSample>,
    pub(super) policies: Vec<PolicyFacts>,
    /// How long all picks took that were timed, and how many, by the module's name.
    pub(super) pick_times: HashMap<String, (u64, u64)>,
}

/// A group.
#[derive(Debug)]
pub(super) struct GroupSample {
    pub(super) facts: GroupFacts,
    pub(super) sessions: u64,
    /// Sessions, bytes up, bytes down, and clients turned away, since the start.
    pub(super) totals: [u64; 4],
    pub(super) servers: Vec<ServerSample>,
}

/// A server.
#[derive(Debug)]
pub(super) struct ServerSample {
    pub(super) facts: ServerFacts,
    pub(super) sessions: u64,
    /// Sessions since the start.
    pub(super) total: u64,
    pub(super) connect_us: u64,
    pub(super) check_us: u64,
}

/// What changes rarely of the process.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct ProcessFacts {
    pub(super) version: &'static str,
    pub(super) started_ms: Option<u64>,
    pub(super) sessions_max: u64,
    pub(super) ready: bool,
    pub(super) generation: u64,
    pub(super) reload: ReloadFacts,
}

/// What became of the last reload.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct ReloadFacts {
    pub(super) ok: bool,
    /// When what is in force was loaded, in milliseconds since 1970.
    pub(super) loaded_ms: u64,
    /// Why the file as it is is not in force.
    pub(super) error: Option<String>,
}

/// What changes rarely of a group.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct GroupFacts {
    pub(super) group: String,
    pub(super) port: u16,
    pub(super) listen: String,
    pub(super) open: bool,
    pub(super) policy: String,
    pub(super) policy_state: ModuleState,
    /// Who answers when the module cannot; null for a built-in policy.
    pub(super) fallback: Option<&'static str>,
    pub(super) fail_open: bool,
    pub(super) self_preservation: bool,
    pub(super) sessions_max: u32,
}

/// What changes rarely of a server.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct ServerFacts {
    /// The number of its group.
    pub(super) g: u32,
    pub(super) addr: String,
    pub(super) state: State,
    pub(super) online: bool,
    /// The last connect failed, and no check says the same.
    pub(super) suspect: bool,
    pub(super) cause: Option<String>,
    /// Since when it is online, or is not.
    pub(super) since_ms: u64,
    pub(super) weight: u32,
    pub(super) backup: bool,
    pub(super) origin: Origin,
    pub(super) sessions_max: u32,
    pub(super) check: Option<CheckFacts>,
}

/// What changes rarely of a server's checks.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct CheckFacts {
    pub(super) ok: bool,
    pub(super) kind: &'static str,
    pub(super) error: Option<String>,
}

/// A policy that a group uses.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct PolicyFacts {
    pub(super) name: String,
    pub(super) kind: &'static str,
    pub(super) state: ModuleState,
    pub(super) version: Option<String>,
    pub(super) error: Option<String>,
    /// How many use it.
    pub(super) groups: usize,
    pub(super) calls: Option<u64>,
    pub(super) faults: Option<u64>,
    pub(super) fallbacks: Option<u64>,
    /// What a call takes, lately if there were calls.
    pub(super) cost_ns: Option<u64>,
}

impl Sample {
    /// Looks at everything. Takes a while where there are thousands of servers: the folder of the modules is read, too.
    pub(super) fn take(control: &Control) -> Self {
        let modules = control.policies().modules().views();
        let groups: Vec<GroupSample> = control.groups().values().map(|group| group_sample(group, &modules)).collect();
        let time = |module: &ModuleView| {
            let times = &module.counters.as_ref()?.pick_time;
            Some((module.name.to_string(), (times.sum(), times.count())))
        };
        Self {
            at_us: clock::precise_us(),
            wall_ms: clock::wall_ms(),
            process: process_facts(control),
            sessions: control.sessions().active(),
            policies: policies(&groups, &modules),
            pick_times: modules.iter().filter_map(time).collect(),
            groups,
        }
    }
}

fn process_facts(control: &Control) -> ProcessFacts {
    let counters = control.counters();
    let allowed = Some(u64::from(control.config().max_sessions)).filter(|max| *max > 0);
    ProcessFacts {
        version: env!("CARGO_PKG_VERSION"),
        started_ms: metrics::start_time_seconds().map(|seconds| (seconds * 1e3) as u64),
        sessions_max: control.sessions().sessions_max().min(allowed.unwrap_or(u64::MAX)),
        ready: control.is_ready(),
        generation: counters.config_generation(),
        reload: ReloadFacts {
            ok: counters.is_last_reload_good(),
            loaded_ms: counters.reload_good_ms(),
            error: counters.last_reload_error().map(|error| error.to_string()),
        },
    }
}

fn group_sample(group: &Arc<Group>, modules: &[ModuleView]) -> GroupSample {
    let (view, counters) = (group.view(), &group.counters);
    let module = modules.iter().find(|module| *module.name == *view.policy);
    let snapshot = group.snapshot();
    GroupSample {
        facts: GroupFacts {
            group: group.id().as_str().to_owned(),
            port: view.group,
            listen: view.listen,
            open: view.open,
            policy_state: module.map_or(ModuleState::Loaded, |module| module.state),
            fallback: snapshot.settings.policy.as_module().map(|module| module.fallback),
            policy: view.policy,
            fail_open: counters.is_fail_open.load(Relaxed),
            self_preservation: counters.is_self_preserving.load(Relaxed),
            sessions_max: view.limits.sessions,
        },
        sessions: view.sessions,
        totals: [
            counters.sessions_total.load(Relaxed),
            counters.bytes_up.load(Relaxed),
            counters.bytes_down.load(Relaxed),
            counters.refused(),
        ],
        servers: group.servers().into_iter().map(server_sample).collect(),
    }
}

fn server_sample(view: ServerView) -> ServerSample {
    let check = view.last_check;
    // Whose check fails as well is more than suspect.
    let is_failing = check.as_ref().is_some_and(|check| !check.ok);
    ServerSample {
        sessions: u64::from(view.sessions),
        total: view.sessions_total,
        connect_us: u64::from(view.connect_latency_us),
        check_us: check.as_ref().map_or(0, |check| (check.ms * 1e3) as u64),
        facts: ServerFacts {
            g: 0,
            addr: view.addr,
            state: view.state,
            online: view.online,
            suspect: view.suspect && !is_failing,
            cause: view.cause,
            since_ms: view.since_ms,
            weight: view.weight,
            backup: view.backup,
            origin: view.origin,
            sessions_max: view.max_sessions,
            check: check.map(|check| CheckFacts { ok: check.ok, kind: check.kind, error: check.error }),
        },
    }
}

/// Those that a group uses, in the order of their names, and modules that cannot be used.
fn policies(groups: &[GroupSample], modules: &[ModuleView]) -> Vec<PolicyFacts> {
    let mut used: BTreeMap<&str, usize> = BTreeMap::new();
    for group in groups {
        *used.entry(&group.facts.policy).or_default() += 1;
    }
    used.into_iter().map(|(name, groups)| policy(name, groups, modules.iter().find(|it| *it.name == *name))).collect()
}

fn policy(name: &str, groups: usize, module: Option<&ModuleView>) -> PolicyFacts {
    let counters = module.and_then(|module| module.counters.as_deref());
    PolicyFacts {
        name: name.to_owned(),
        kind: if module.is_some() { "wasm" } else { "built_in" },
        state: module.map_or(ModuleState::Loaded, |module| module.state),
        version: module.and_then(|module| module.version.clone()),
        error: module.and_then(|module| module.error.clone()),
        groups,
        calls: counters.map(|counters| counters.picks.load(Relaxed)),
        faults: counters.map(ModuleCounters::faults_total),
        fallbacks: counters.map(|counters| counters.fallbacks.load(Relaxed)),
        cost_ns: counters.and_then(|counters| mean(&counters.pick_time)),
    }
}

fn mean(times: &Histogram) -> Option<u64> {
    times.sum().checked_div(times.count())
}

impl ServerFacts {
    /// What it is, in one word.
    pub(super) fn word(&self) -> &'static str {
        match (self.state, self.online) {
            (State::Ready, true) => "online",
            (State::Ready, false) => "offline",
            (state, _) => state.as_str(),
        }
    }
}
