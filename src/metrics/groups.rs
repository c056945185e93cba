//! The metrics of groups: their clients, their sessions, and how they reach their servers.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::families::{Families, Labels};
use crate::counters::{EndReason, GroupCounters, HeaderResult, Histogram, Limit};
use crate::group::view::{ServerView, ShadowFigures, ShadowView};
use crate::group::{Group, GroupId, GroupSettings, Recording};

/// One group as it is at the scrape.
#[derive(Debug)]
pub(super) struct GroupSample {
    /// What it is called: the name, or else the port.
    pub(super) id: GroupId,
    pub(super) settings: GroupSettings,
    /// What its sessions did.
    pub(super) counters: Arc<GroupCounters>,
    /// All its servers.
    pub(super) servers: Vec<ServerView>,
    /// The recording of its picks, under way or the last one.
    pub(super) recording: Option<Arc<Recording>>,
    /// How the policy that is tried beside its own does, while it is.
    pub(super) shadow: Option<ShadowView>,
}

impl GroupSample {
    pub(super) fn of(group: &Group) -> Self {
        Self {
            id: group.id().clone(),
            settings: group.snapshot().settings.clone(),
            counters: Arc::clone(&group.counters),
            servers: group.servers(),
            recording: group.recording(),
            shadow: group.shadow().filter(|shadow| shadow.is_active()).map(|shadow| shadow.view(group.label())),
        }
    }

    pub(super) fn label(&self) -> (&'static str, &str) {
        ("group", self.id.as_str())
    }

    /// True when sessions may end so by the settings.
    fn may_end(&self, end: EndReason) -> bool {
        let settings = &self.settings;
        match end {
            EndReason::MaxAge => !settings.max_session_age.is_zero(),
            EndReason::Denied => !(settings.allow.is_empty() && settings.deny.is_empty()),
            EndReason::BadHeader | EndReason::HeaderTimeout => settings.accept_proxy.is_some(),
            EndReason::BadHello | EndReason::HelloTimeout | EndReason::NoRoute => settings.routes.is_some(),
            // In any group that a route leads to.
            EndReason::StarttlsRefused => false,
            EndReason::TlsFailed | EndReason::HandshakeTimeout => settings.tls.is_some(),
            EndReason::ServerTlsFailed => settings.server_tls.is_some(),
            _ => true,
        }
    }

    /// True when clients may be over this limit by the settings, which are those of the group only.
    fn may_limit(&self, limit: Limit, process_has_rate: bool) -> bool {
        let settings = &self.settings;
        match limit {
            Limit::ClientSessions => settings.client.as_ref().is_some_and(|client| client.sessions > 0),
            Limit::ClientRate => settings.client.as_ref().is_some_and(|client| client.rate.is_some()),
            Limit::GroupSessions => settings.max_sessions > 0,
            Limit::Waiting => settings.accept_proxy.is_some() || settings.routes.is_some() || settings.tls.is_some(),
            Limit::GroupRate => settings.session_rate.is_some(),
            Limit::ProcessRate => process_has_rate,
            Limit::ProcessSessions | Limit::Descriptors => true,
        }
    }
}

/// One series per group.
pub(super) fn per_group<'a, V>(
    groups: &'a [GroupSample],
    value: impl Fn(&'a GroupSample) -> V + 'a,
) -> impl Iterator<Item = (Labels<'a>, V)> + 'a {
    groups.iter().map(move |group| (vec![group.label()], value(group)))
}

/// One series per group of what is counted in this field.
fn loaded<'a>(
    groups: &'a [GroupSample],
    field: impl Fn(&GroupCounters) -> &AtomicU64 + 'a,
) -> impl Iterator<Item = (Labels<'a>, u64)> + 'a {
    per_group(groups, move |group| field(&group.counters).load(Relaxed))
}

/// One series per group and reason. Those that the settings rule out are left out until they are counted.
fn ended(groups: &[GroupSample], is_refusal: bool) -> impl Iterator<Item = (Labels<'_>, u64)> {
    groups.iter().flat_map(move |group| {
        let reasons = EndReason::ALL.into_iter().filter(move |reason| reason.is_refusal() == is_refusal);
        let counts = reasons.map(|reason| (reason, group.counters.ended(reason)));
        let shown = counts.filter(|(reason, count)| *count > 0 || group.may_end(*reason));
        shown.map(|(reason, count)| (vec![group.label(), ("reason", reason.as_str())], count))
    })
}

/// One histogram per group in which something is counted: an empty one is nineteen lines that say nothing.
fn timed<'a>(
    groups: &'a [GroupSample],
    field: impl Fn(&GroupCounters) -> &Histogram + 'a,
) -> impl Iterator<Item = (Labels<'a>, &'a Histogram)> + 'a {
    let all = groups.iter().map(move |group| (vec![group.label()], field(&group.counters)));
    all.filter(|(_, histogram)| histogram.buckets().any(|(_, count)| count > 0))
}

pub(super) fn write(groups: &[GroupSample], process_has_rate: bool, families: &mut Families<'_>) -> fmt::Result {
    sessions(groups, families)?;
    let limited = groups.iter().flat_map(|group| {
        let counts = Limit::ALL.map(|limit| (limit, group.counters.limited(limit)));
        let shown = counts.into_iter().filter(move |(limit, n)| *n > 0 || group.may_limit(*limit, process_has_rate));
        shown.map(|(limit, count)| (vec![group.label(), ("limit", limit.as_str())], count))
    });
    families.counter("limited", "Clients turned away because of a limit, by limit", limited)?;
    connects(groups, families)?;
    let policies = groups.iter().map(|group| {
        let policy = ("policy", group.settings.policy.name());
        (vec![group.label(), policy], 1u64)
    });
    families.gauge("group_policy", "1 for the policy of each group", policies)?;
    let preserving = per_group(groups, |group| u64::from(group.counters.is_self_preserving.load(Relaxed)));
    families.gauge("self_preservation", "1 while a group keeps leases that ran out", preserving)?;
    let open = per_group(groups, |group| u64::from(group.counters.is_fail_open.load(Relaxed)));
    families.gauge("group_fail_open", "1 while servers are tried that only checks keep out", open)?;
    recordings(groups, families)
}

/// Of groups that are or were recorded.
fn recordings(groups: &[GroupSample], families: &mut Families<'_>) -> fmt::Result {
    fn of<'a, V: 'a>(
        groups: &'a [GroupSample],
        value: impl Fn(&Recording) -> V + 'a,
    ) -> impl Iterator<Item = (Labels<'a>, V)> + 'a {
        groups.iter().filter_map(move |group| Some((vec![group.label()], value(group.recording.as_deref()?))))
    }
    shadows(groups, families)?;
    families.gauge("record_active", "1 while picks are recorded", of(groups, |it| u64::from(it.is_active())))?;
    families.gauge("record_picks", "Picks in the last recording", of(groups, |it| it.picks.load(Relaxed)))?;
    families.gauge("record_bytes", "Bytes in the last recording", of(groups, |it| it.bytes.load(Relaxed)))
}

fn sessions(groups: &[GroupSample], families: &mut Families<'_>) -> fmt::Result {
    families.gauge("sessions_active", "Sessions now", loaded(groups, |group| &group.sessions_active))?;
    families.counter("sessions", "Clients accepted", loaded(groups, |group| &group.sessions_total))?;
    families.counter("sessions_ended", "Sessions that are over, by reason", ended(groups, false))?;
    families.counter("sessions_refused", "Clients turned away without a server, by reason", ended(groups, true))?;
    let headers = groups.iter().filter(|group| group.settings.accept_proxy.is_some()).flat_map(|group| {
        HeaderResult::ALL
            .map(|result| (vec![group.label(), ("result", result.as_str())], group.counters.headers(result)))
    });
    families.counter("proxy_headers", "PROXY headers that clients had to send, by result", headers)?;
    let routing = groups.iter().filter(|group| group.settings.routes.is_some());
    let routed = routing.map(|group| (vec![group.label()], group.counters.sessions_routed.load(Relaxed)));
    families.counter("sessions_routed", "Clients that routes have given to another group", routed)?;
    families.counter("bytes_up", "Bytes from clients to servers", loaded(groups, |group| &group.bytes_up))?;
    families.counter("bytes_down", "Bytes from servers to clients", loaded(groups, |group| &group.bytes_down))?;
    let time = timed(groups, |group| &group.session_time);
    families.histogram("session_duration_seconds", "How long sessions lasted", time)
}

fn connects(groups: &[GroupSample], families: &mut Families<'_>) -> fmt::Result {
    let errors = loaded(groups, |group| &group.connect_errors);
    families.counter("connect_errors", "Attempts to connect to a server that failed", errors)?;
    let without_port = loaded(groups, |group| &group.connects_without_port);
    let help = "Attempts to connect for which this machine had no free port, or not the source address";
    families.counter("connects_without_port", help, without_port)?;
    let retries = loaded(groups, |group| &group.connect_retries);
    families.counter("connect_retries", "Attempts to connect that followed a failed one", retries)?;
    let time = timed(groups, |group| &group.connect_time);
    families.histogram("connect_duration_seconds", "How long successful attempts to connect took", time)
}

/// Of groups in which another policy is tried.
fn shadows(groups: &[GroupSample], families: &mut Families<'_>) -> fmt::Result {
    fn of<'a>(
        groups: &'a [GroupSample],
        value: impl Fn(&ShadowFigures) -> u64 + 'a,
    ) -> impl Iterator<Item = (Labels<'a>, u64)> + 'a {
        groups.iter().filter_map(move |group| Some((vec![group.label()], value(&group.shadow.as_ref()?.figures))))
    }
    families.counter("shadow_picks", "Picks that a policy beside another was asked for", of(groups, |it| it.picks))?;
    families.counter(
        "shadow_differ",
        "Sessions that it would have given to another server",
        of(groups, |it| it.differ),
    )?;
    families.counter("shadow_faults", "Calls of it that failed", of(groups, |it| it.faults))?;
    families.counter("shadow_dropped", "Picks that it was too slow for", of(groups, |it| it.dropped))?;
    let ratios = groups.iter().filter_map(|group| Some((group, group.shadow.as_ref()?))).flat_map(|(group, shadow)| {
        let of = |policy, mean| (vec![group.label(), ("policy", policy)], mean);
        [
            of(shadow.policy.as_str(), shadow.figures.live.busiest_over_mean.mean),
            of(shadow.candidate.as_str(), shadow.figures.shadow.busiest_over_mean.mean),
        ]
    });
    families.gauge(
        "policy_imbalance_ratio",
        "Sessions of the fullest server as a multiple of the mean, by policy",
        ratios,
    )
}
