//! What is shown of a group and of its servers: the shapes of the admin API.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

use super::check::{CheckFigures, LastCheck};
use super::settings::GroupSettings;
use crate::counters::{EndReason, GroupCounters};
use crate::policy::follow::Spread;
use crate::server::{Origin, State};

/// A server as `worker-list.do` shows it.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct ServerView {
    /// `host:port`.
    pub addr: String,
    /// What an operator wants of it.
    pub state: State,
    /// True when it may be picked now.
    pub online: bool,
    /// Why it is not online.
    pub cause: Option<String>,
    /// Since when that is so, in milliseconds since 1970.
    pub since_ms: u64,
    /// How it came into the group.
    pub origin: Origin,
    /// Share of new sessions.
    pub weight: u32,
    /// Used only when no other is online.
    pub backup: bool,
    /// Limit of sessions; 0 for none.
    pub max_sessions: u32,
    /// Free-form facts.
    pub labels: BTreeMap<String, String>,
    /// Sessions it holds now.
    pub sessions: u32,
    /// Sessions that ever reached it.
    pub sessions_total: u64,
    /// Bytes that ever went to it; those of a running session are counted once a second.
    pub bytes_up: u64,
    /// Bytes that ever came from it.
    pub bytes_down: u64,
    /// Connects to it that failed.
    pub connect_errors: u64,
    /// Smoothed time to connect in microseconds; 0 when not yet known.
    pub connect_latency_us: u32,
    /// True when the last connect failed; it is picked only when no other server is left.
    pub suspect: bool,
    /// How much longer it is ejected; only while it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ejected_ms: Option<u64>,
    /// Its ejections, and how often it was spared; only where servers may be ejected.
    #[serde(skip)]
    pub ejections: Option<(u64, u64)>,
    /// True when no connect has succeeded so far.
    pub untried: bool,
    /// For how long, in all, it could not be picked because something was wrong with it; what an operator wants and a full
    /// server do not count.
    pub down_ms: u64,
    /// What is left of its lease; only for a server that registered itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_ms: Option<u64>,
    /// The load that the server's heartbeats report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load: Option<u32>,
    /// The last check; null where there was none.
    pub last_check: Option<LastCheck>,
    /// What is counted of its checks, where it is checked.
    #[serde(skip)]
    pub check: Option<CheckFigures>,
}

/// A server as `policy-explain.do` shows it.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Candidate {
    /// `host:port`.
    pub addr: String,
    /// True when the policy might have named it.
    pub eligible: bool,
    /// Why it is the answer, or is not.
    pub why: String,
}

/// A group as `group-list.do` shows it.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct GroupView {
    /// The port, the first one where it listens on several.
    pub group: u16,
    /// Its name, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `ip:port`; several are separated by a comma and a blank.
    pub listen: String,
    /// True when it accepts clients.
    pub open: bool,
    /// The name of its policy.
    pub policy: String,
    /// Sessions now.
    pub sessions: u64,
    /// How many there may be.
    pub limits: LimitsView,
    /// Where its clients go, where that depends on their TLS hello.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub routes: Option<RoutesView>,
    /// Servers that may be picked now.
    pub servers_online: usize,
    /// All its servers.
    pub servers_total: usize,
    /// The policy that is tried beside its own, while it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow: Option<String>,
    /// Where its picks are recorded, while they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub records: Option<String>,
}

/// A recording as `record-list.do` shows it.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct RecordingView {
    /// The group's port, the first one where it listens on several.
    pub group: u16,
    /// The group's name, where it has one.
    #[serde(skip_serializing_if = "Option::is_none", rename = "group_name")]
    pub name: Option<String>,
    /// What is recorded.
    pub policy: String,
    /// Where it is written.
    pub file: String,
    /// False when the file is complete.
    pub active: bool,
    /// Picks in the file.
    pub picks: u64,
    /// Picks that were noted and could not be written; the recording has ended before them.
    pub lost: u64,
    /// Bytes in the file.
    pub bytes: u64,
    /// Why it has ended; null while it goes on.
    pub why: Option<String>,
}

/// A policy beside the one that serves, as `shadow-list.do` shows it.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct ShadowView {
    /// The group's port, the first one where it listens on several.
    pub group: u16,
    /// The group's name, where it has one.
    #[serde(skip_serializing_if = "Option::is_none", rename = "group_name")]
    pub name: Option<String>,
    /// The policy that serves.
    pub policy: String,
    /// The one beside it.
    pub candidate: String,
    /// The hash of a module's file.
    pub sha256: Option<String>,
    /// False when it has ended.
    pub active: bool,
    /// How the two do.
    #[serde(flatten)]
    pub figures: ShadowFigures,
}

/// How a policy does, and another one beside it.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct ShadowFigures {
    /// For how long, in milliseconds.
    pub elapsed_ms: u64,
    /// Picks that the candidate was asked for.
    pub picks: u64,
    /// Picks and ends of sessions that nobody looked at, because the candidate was too slow.
    pub dropped: u64,
    /// Sessions that were compared.
    pub sessions: u64,
    /// Of these, those that the candidate would have given to another server.
    pub differ: u64,
    /// Sessions to which the candidate names nobody.
    pub nobody: u64,
    /// Fewer sessions have ended than are held: the figures below are those of servers that fill up.
    pub warming: bool,
    /// Calls of the candidate that failed. After the first, its fallback answers.
    pub faults: u64,
    /// How that was.
    pub last_fault: Option<String>,
    /// Processor time of a pick of the candidate, with its books.
    pub ns_per_pick: u64,
    /// The policy that serves.
    pub live: EvennessView,
    /// The candidate, by the load that it would have made.
    pub shadow: EvennessView,
}

/// How evenly sessions lie on servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct EvennessView {
    /// The fullest server as a multiple of the mean, by weight, over time.
    pub busiest_over_mean: Spread,
    /// Jain's index, the mean over time.
    pub jain: f64,
    /// The deviation between servers as a part of the mean, the mean over time.
    pub cov: f64,
}

/// The limits of a group as `group-list.do` shows them.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct LimitsView {
    /// Sessions at a time; 0 for no limit.
    pub sessions: u32,
    /// New sessions, such as `100/s`.
    pub rate: Option<String>,
    /// Clients turned away because of a limit or of their address.
    pub refused: u64,
}

/// The routes of a group as `group-list.do` shows them.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct RoutesView {
    /// How many there are.
    pub count: usize,
    /// Where clients go whose hello no route takes.
    pub default: String,
    /// Where clients go that do not speak TLS.
    pub plain: String,
    /// Clients whose hello is waited for now.
    pub waiting: u64,
    /// Clients that were given to other groups.
    pub routed: u64,
}

impl RoutesView {
    pub(super) fn new(settings: &GroupSettings, counters: &GroupCounters) -> Option<Self> {
        let routes = settings.routes.as_ref()?;
        Some(Self {
            count: routes.len(),
            default: settings.route_default.to_string(),
            plain: settings.route_plain.to_string(),
            waiting: counters.hellos_awaited.load(Relaxed),
            routed: counters.sessions_routed.load(Relaxed),
        })
    }
}

impl LimitsView {
    pub(super) fn new(settings: &GroupSettings, counters: &GroupCounters) -> Self {
        let rate = settings.session_rate.map(|rate| rate.to_string());
        let refused = counters.ended(EndReason::Limit) + counters.ended(EndReason::Denied);
        Self { sessions: settings.max_sessions, rate, refused }
    }
}
