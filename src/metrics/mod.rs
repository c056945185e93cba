//! The text of `/metrics`, in the classic Prometheus format or as OpenMetrics.
//!
//! Nothing is registered and nothing is kept: a scrape is rendered from what the groups and the modules show
//! at that moment, so a series is there exactly as long as its server, its group or its module is. Names begin
//! with `goproxy_` and values are in base units; labels are `group`, `server`, `policy`, `reason`, `limit` and `result`, each of
//! bounded variety, and `version` and `sha256` on the lines that say what was built or loaded. Counting is left to
//! [`crate::counters`]; a figure that the system does not give is left out.

mod families;
mod format;
mod process;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, text};
use prometheus_client::registry::Registry;

use crate::control::Control;
use crate::counters::{
    CheckCounters, EndReason, FaultKind, GroupCounters, HeaderResult, Limit, ModuleCounters, ProcessCounters,
};
use crate::group::GroupId;
use crate::group::view::ServerView;
use crate::policy::wasm::view::{ModuleState, ModuleView};
use crate::server::State;
use families::{Families, Labels, single};
pub use format::Format;
use process::ProcessFigures;

/// When the process started, in seconds since 1970, where the system tells.
pub(crate) fn start_time_seconds() -> Option<f64> {
    ProcessFigures::read().start_time_seconds
}

/// One group as it is at the scrape.
#[derive(Debug)]
struct GroupSample {
    /// What it is called: the name, or else the port.
    id: GroupId,
    /// The name of its policy.
    policy: Arc<str>,
    /// Some of its clients have to send PROXY headers.
    accepts_proxy: bool,
    /// What its sessions did.
    counters: Arc<GroupCounters>,
    /// All its servers.
    servers: Vec<ServerView>,
}

/// The clients that limits for each client are counted for.
#[derive(Debug, Default)]
struct ClientSample {
    tracked: u64,
    untracked: u64,
}

/// All metrics of what runs. May take a while: with thousands of servers the text has megabytes.
pub fn of(control: &Control, format: Format) -> String {
    let groups = control.groups();
    let samples = groups.iter().map(|(id, group)| GroupSample {
        id: id.clone(),
        policy: group.snapshot().settings.policy.shared_name(),
        accepts_proxy: group.snapshot().settings.accept_proxy.is_some(),
        counters: Arc::clone(&group.counters),
        servers: group.servers(),
    });
    let limits = control.sessions().limits();
    let clients = ClientSample { tracked: limits.tracked(), untracked: limits.untracked() };
    let modules = control.policies().modules().views();
    let text = render(samples.collect(), modules, Arc::clone(control.counters()), clients);
    match format {
        Format::OpenMetrics => text,
        Format::Text => format::to_classic(&text),
    }
}

/// The whole text as OpenMetrics, `# EOF` included. Of the modules, those that a group names are shown.
fn render(
    groups: Vec<GroupSample>,
    modules: Vec<ModuleView>,
    process: Arc<ProcessCounters>,
    clients: ClientSample,
) -> String {
    let figures = ProcessFigures::read();
    let mut registry = Registry::with_prefix("goproxy");
    registry.register_collector(Box::new(Scrape { groups, modules, process, clients, figures }));
    let mut out = String::new();
    text::encode(&mut out, &registry).expect("a String takes whatever is written");
    out
}

/// What is known at one scrape.
#[derive(Debug)]
struct Scrape {
    groups: Vec<GroupSample>,
    modules: Vec<ModuleView>,
    process: Arc<ProcessCounters>,
    clients: ClientSample,
    figures: ProcessFigures,
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut families = Families(encoder);
        self.sessions(&mut families)?;
        self.limits(&mut families)?;
        self.connects(&mut families)?;
        self.servers(&mut families)?;
        self.modules(&mut families)?;
        self.config(&mut families)?;
        self.process(&mut families)
    }
}

impl Scrape {
    fn groups(&self) -> impl Iterator<Item = (&str, &GroupSample)> {
        self.groups.iter().map(|group| (group.id.as_str(), group))
    }

    /// One series per group.
    fn per_group<'a, V>(
        &'a self,
        value: impl Fn(&GroupCounters) -> V + 'a,
    ) -> impl Iterator<Item = (Labels<'a>, V)> + 'a {
        self.groups().map(move |(id, group)| (vec![("group", id)], value(&group.counters)))
    }

    /// One series per group of what is counted in this field.
    fn loaded<'a>(
        &'a self,
        field: impl Fn(&GroupCounters) -> &AtomicU64 + 'a,
    ) -> impl Iterator<Item = (Labels<'a>, u64)> + 'a {
        self.per_group(move |counters| field(counters).load(Relaxed))
    }

    /// One series per group and reason.
    fn ended(&self, is_refusal: bool) -> impl Iterator<Item = (Labels<'_>, u64)> {
        self.groups().flat_map(move |(id, group)| {
            let reasons = EndReason::ALL.into_iter().filter(move |reason| reason.is_refusal() == is_refusal);
            reasons.map(move |reason| (vec![("group", id), ("reason", reason.as_str())], group.counters.ended(reason)))
        })
    }

    /// One series per server that has this value.
    fn per_server<'a, V>(
        &'a self,
        value: impl Fn(&ServerView) -> Option<V> + Copy + 'a,
    ) -> impl Iterator<Item = (Labels<'a>, V)> + 'a {
        self.groups().flat_map(move |(id, group)| {
            group
                .servers
                .iter()
                .filter_map(move |server| Some((vec![("group", id), ("server", server.addr.as_str())], value(server)?)))
        })
    }

    /// Each module that a group names.
    fn named(&self) -> impl Iterator<Item = (Labels<'_>, &ModuleView)> {
        let named = self.modules.iter().filter(|module| module.state != ModuleState::Available);
        named.map(|module| (vec![("policy", &*module.name)], module))
    }

    /// The counters of each module that has some.
    fn module_counters(&self) -> impl Iterator<Item = (Labels<'_>, &ModuleCounters)> {
        self.named().filter_map(|(labels, module)| Some((labels, module.counters.as_deref()?)))
    }

    /// One series per module of what is counted in this field.
    fn per_module<'a>(
        &'a self,
        field: impl Fn(&ModuleCounters) -> &AtomicU64 + 'a,
    ) -> impl Iterator<Item = (Labels<'a>, u64)> + 'a {
        self.module_counters().map(move |(labels, counters)| (labels, field(counters).load(Relaxed)))
    }

    fn sessions(&self, families: &mut Families<'_>) -> fmt::Result {
        families.gauge("sessions_active", "Sessions now", self.loaded(|group| &group.sessions_active))?;
        families.counter("sessions", "Clients accepted", self.loaded(|group| &group.sessions_total))?;
        families.counter("sessions_ended", "Sessions that are over, by reason", self.ended(false))?;
        families.counter("sessions_refused", "Clients turned away without a server, by reason", self.ended(true))?;
        let headers = self.groups().filter(|(_, group)| group.accepts_proxy).flat_map(|(id, group)| {
            HeaderResult::ALL
                .map(|result| (vec![("group", id), ("result", result.as_str())], group.counters.headers(result)))
        });
        families.counter("proxy_headers", "PROXY headers that clients had to send, by result", headers)?;
        families.counter("bytes_up", "Bytes from clients to servers", self.loaded(|group| &group.bytes_up))?;
        families.counter("bytes_down", "Bytes from servers to clients", self.loaded(|group| &group.bytes_down))?;
        let time = self.groups().map(|(id, group)| (vec![("group", id)], &group.counters.session_time));
        families.histogram("session_duration_seconds", "How long sessions lasted", time)
    }

    fn limits(&self, families: &mut Families<'_>) -> fmt::Result {
        let limited = self.groups().flat_map(|(id, group)| {
            let labels = move |limit: Limit| vec![("group", id), ("limit", limit.as_str())];
            Limit::ALL.map(|limit| (labels(limit), group.counters.limited(limit)))
        });
        families.counter("limited", "Clients turned away because of a limit, by limit", limited)?;
        families.gauge("clients_tracked", "Clients whose sessions are counted", single(self.clients.tracked))?;
        let untracked = single(self.clients.untracked);
        families.counter("clients_untracked", "Clients let in without being counted", untracked)
    }

    fn connects(&self, families: &mut Families<'_>) -> fmt::Result {
        let errors = self.loaded(|group| &group.connect_errors);
        families.counter("connect_errors", "Attempts to connect to a server that failed", errors)?;
        let without_port = self.loaded(|group| &group.connects_without_port);
        let help = "Attempts to connect for which this machine had no free port, or not the source address";
        families.counter("connects_without_port", help, without_port)?;
        let retries = self.loaded(|group| &group.connect_retries);
        families.counter("connect_retries", "Attempts to connect that followed a failed one", retries)?;
        let time = self.groups().map(|(id, group)| (vec![("group", id)], &group.counters.connect_time));
        families.histogram("connect_duration_seconds", "How long successful attempts to connect took", time)
    }

    fn servers(&self, families: &mut Families<'_>) -> fmt::Result {
        let policies = self.groups().map(|(id, group)| (vec![("group", id), ("policy", &*group.policy)], 1u64));
        families.gauge("group_policy", "1 for the policy of each group", policies)?;
        let preserving = self.per_group(|group| u64::from(group.is_self_preserving.load(Relaxed)));
        families.gauge("self_preservation", "1 while a group keeps leases that ran out", preserving)?;
        let up = self.per_server(|server| Some(u64::from(server.online)));
        families.gauge("server_up", "1 while the server may be picked", up)?;
        let state = self.per_server(|server| Some(state_number(server.state)));
        families.gauge("server_state", "What an operator wants: 0 ready, 1 drain, 2 maint", state)?;
        let suspect = self.per_server(|server| Some(u64::from(server.suspect)));
        families.gauge("server_suspect", "1 while it is passed over for a failed connect", suspect)?;
        let active = self.per_server(|server| Some(u64::from(server.sessions)));
        families.gauge("server_sessions_active", "Sessions the server has now", active)?;
        let total = self.per_server(|server| Some(server.sessions_total));
        families.counter("server_sessions", "Sessions that reached the server", total)?;
        let errors = self.per_server(|server| Some(server.connect_errors));
        families.counter("server_connect_errors", "Failed attempts to connect to the server", errors)?;
        let lease = self.per_server(|server| server.lease_ms.map(as_seconds));
        families.gauge("server_lease_seconds", "What is left of the server's lease", lease)?;
        let open = self.per_group(|group| u64::from(group.is_fail_open.load(Relaxed)));
        families.gauge("group_fail_open", "1 while servers are tried that only checks keep out", open)?;
        let ejections = self.groups().flat_map(|(id, group)| {
            let judged = group.servers.iter().filter_map(move |server| Some((id, server, server.ejections?)));
            judged.flat_map(|(id, server, (ejected, spared))| {
                [("ejected", ejected), ("over_limit", spared)].map(|(result, count)| {
                    (vec![("group", id), ("server", server.addr.as_str()), ("result", result)], count)
                })
            })
        });
        families.counter("server_ejections", "Ejections of the server, by result", ejections)?;
        self.checks(families)
    }

    fn checks(&self, families: &mut Families<'_>) -> fmt::Result {
        let results = self.groups().flat_map(|(id, group)| {
            let checked = group.servers.iter().filter_map(move |server| Some((id, server, server.check?)));
            checked.flat_map(|(id, server, check)| {
                [("pass", check.passed), ("fail", check.failed)].map(|(result, count)| {
                    (vec![("group", id), ("server", server.addr.as_str()), ("result", result)], count)
                })
            })
        });
        families.counter("server_checks", "Checks of the server, by result", results)?;
        let up = self.per_server(|server| server.check.map(|check| u64::from(check.is_up)));
        families.gauge("server_check_up", "1 while checks find the server up", up)?;
        let seconds = self.per_server(|server| server.check.map(|check| check.seconds));
        families.gauge("server_check_seconds", "How long the last check of the server took", seconds)?;
        let transitions = self.per_server(|server| server.check.map(|check| check.transitions));
        families.counter("server_transitions", "How often checks found it down, or up again", transitions)?;
        let CheckCounters { in_flight, late_us, delayed } = &self.process.checks;
        families.gauge("checks_in_flight", "Checks under way", single(in_flight.load(Relaxed)))?;
        let late = late_us.load(Relaxed) as f64 / 1e6;
        families.gauge("checks_late_seconds", "How much too late the last check began", single(late))?;
        families.counter("checks_delayed", "Checks that waited for a place", single(delayed.load(Relaxed)))
    }

    fn modules(&self, families: &mut Families<'_>) -> fmt::Result {
        let time = self.module_counters().map(|(labels, counters)| (labels, &counters.pick_time));
        let picks = self.per_module(|counters| &counters.picks);
        families.counter("policy_picks", "Picks that a module was asked for", picks)?;
        families.histogram("policy_pick_seconds", "How long one pick in sixteen took", time)?;
        let faults = self.module_counters().flat_map(|(labels, counters)| {
            FaultKind::ALL.map(|kind| {
                let reason = ("reason", kind.as_str());
                (labels.iter().copied().chain([reason]).collect(), counters.faults(kind))
            })
        });
        families.counter("policy_faults", "What a module did wrong, by reason", faults)?;
        let fallbacks = self.per_module(|module| &module.fallbacks);
        families.counter("policy_fallbacks", "Picks that a module's fallback answered", fallbacks)?;
        let nones = self.per_module(|module| &module.nones);
        families.counter("policy_nones", "Clients to whom a module named no server though one was open", nones)?;
        let is_quarantined = |module: &ModuleView| u64::from(module.state == ModuleState::Quarantined);
        let quarantined = self.named().map(|(labels, module)| (labels, is_quarantined(module)));
        families.gauge("policy_quarantined", "1 while a module is not asked because of its faults", quarantined)?;
        families.counter("policy_swaps", "Versions that took over", self.per_module(|module| &module.swaps))?;
        let refusals = self.per_module(|module| &module.refusals);
        families.counter("policy_refused_versions", "Versions of a module's file that were refused", refusals)?;
        let loaded = self.named().filter_map(|(mut labels, module)| {
            labels.extend([("version", module.version.as_deref()?), ("sha256", module.sha256.as_deref()?)]);
            Some(labels)
        });
        families.info("policy", "The version of a module that is in use", loaded)
    }

    fn config(&self, families: &mut Families<'_>) -> fmt::Result {
        let process = &self.process;
        let loaded = (process.reload_good_ms() > 0).then(|| as_seconds(process.reload_good_ms()));
        families.counter("config_reloads", "Configurations read, good or not", single(process.reloads()))?;
        families.counter("config_reload_errors", "Reloads that changed nothing", single(process.reload_errors()))?;
        let is_good = u64::from(process.is_last_reload_good());
        families.gauge("config_reload_success", "1 when the last reload went well", single(is_good))?;
        families.gauge(
            "config_reload_success_timestamp_seconds",
            "When the configuration in force was loaded",
            loaded.into_iter().flat_map(single),
        )?;
        let generation = single(process.config_generation());
        families.gauge("config_generation", "Grows with every configuration put in force", generation)
    }

    fn process(&self, families: &mut Families<'_>) -> fmt::Result {
        families.counter("log_dropped_lines", "Log lines lost", single(crate::log::dropped_total()))?;
        families.info("build", "What was built", [vec![("version", env!("CARGO_PKG_VERSION"))]])?;
        let figures = &self.figures;
        if let Some(seconds) = figures.cpu_seconds {
            families.counter("process_cpu_seconds", "Processor time used", single(seconds))?;
        }
        if let Some(bytes) = figures.resident_bytes {
            families.gauge("process_resident_memory_bytes", "Memory in use", single(bytes))?;
        }
        if let Some(open) = figures.open_fds {
            families.gauge("process_open_fds", "Open file descriptors", single(open))?;
        }
        if let Some(max) = figures.max_fds {
            families.gauge("process_max_fds", "Limit of open file descriptors", single(max))?;
        }
        if let Some(seconds) = figures.start_time_seconds {
            families.gauge("process_start_time_seconds", "When the process started", single(seconds))?;
        }
        Ok(())
    }
}

fn state_number(state: State) -> u64 {
    match state {
        State::Ready => 0,
        State::Drain => 1,
        State::Maint => 2,
    }
}

fn as_seconds(millis: u64) -> f64 {
    millis as f64 / 1e3
}

#[cfg(test)]
mod tests;
