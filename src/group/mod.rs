//! A listening port with its policy and its servers.
//!
//! Sessions load one immutable [`Snapshot`] and pick from it. Every change (a heartbeat, an operator, the file, a lease
//! that runs out) edits the list of members under one short lock and publishes a new snapshot. Sessions never wait for
//! that lock.
//!
//! This module decides which servers are online, from claims ([`Claim`]) and verdicts. Desired state, from operators
//! and the file, comes through `control`, one change at a time ([`Group::apply`]). Observed state comes from `sources`
//! at any moment, through the other methods.

pub mod check;
mod access;
mod carried;
mod claim;
mod eject;
pub mod ejection;
mod explain;
mod id;
mod lease;
mod lost;
mod member;
mod members;
#[cfg(test)]
mod model;
mod offline;
mod on_down;
mod outcome;
mod recording;
mod route;
mod routes;
mod routing;
mod said;
mod serving;
mod settings;
mod shadow;
mod shown;
mod snapshot;
mod take_over;
mod tcp;
mod trying;
#[cfg(test)]
mod tests;
pub mod view;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption, Guard};

use crate::access::AccessTarget;
use crate::base::clock;
use crate::base::label::GroupLabel;
use crate::counters::GroupCounters;
use crate::events::{self, Event, ServerChange};
use crate::limits::GroupState;
use crate::policy::IBalancePolicy;
use crate::server::{Origin, ServerAddr, ServerId, ServerSettings};
use members::Members;
use said::{Disagreement, SaidKeeper};

pub use carried::{GroupCarried, GroupSessions};
pub use claim::{Claim, Registration};
pub use explain::{ExplainError, Explanation};
pub use id::{GroupId, Listen, NAME_LEN_MAX, is_name};
pub use lease::{Lease, LeaseCheck};
pub(crate) use member::CHECK_LINES;
pub use member::Target;
pub use on_down::{Fate, Loss, OnDown};
pub use outcome::Outcome;
pub use recording::Recording;
pub use route::{Route, RouteTo, SniMatch, Starttls};
pub use routes::{RouteTable, RouteTarget};
pub use said::{Caller, Said};
pub use settings::{AcceptProxy, GroupSettings};
pub use shadow::Shadow;
use snapshot::Question;
pub use snapshot::{PickError, ServerSlot, Snapshot};
pub use take_over::ForeignSessions;
pub use tcp::{ClientTcp, KEEPALIVE_PROBES, Liveness, ServerTcp, probe_interval};

/// The groups by id.
pub type Groups = BTreeMap<GroupId, Arc<Group>>;

/// A group: one port, one policy, its servers. What sessions need comes first, on the cache line of the reference count.
#[derive(Debug)]
#[repr(C)]
pub struct Group {
    snapshot: ArcSwap<Snapshot>,
    /// What happened to its sessions.
    pub counters: Arc<GroupCounters>,
    id: GroupId,
    label: GroupLabel,
    /// Guards the list of members and the order in which snapshots are published.
    members: Mutex<Members>,
    /// Held while a server is ejected.
    ejecting: Mutex<()>,
    /// What is counted of its clients.
    limits: Arc<GroupState>,
    /// Where its sessions are told besides the log of the process.
    access_log: ArcSwapOption<AccessTarget>,
    /// Where its clients go, where that depends on what they say first.
    routes: ArcSwapOption<RouteTable<Self>>,
    /// The recording of its picks, under way or the last one.
    recording: ArcSwapOption<Recording>,
    /// The policy that is tried beside its own, now or last.
    shadow: ArcSwapOption<Shadow>,
}

impl Group {
    /// A group with its servers. Those that registered themselves start with a whole lease, so that a restart takes
    /// none of them offline. `policy` is the object for [`GroupSettings::policy`].
    pub fn new(settings: GroupSettings, servers: Vec<ServerSettings>, policy: Arc<dyn IBalancePolicy>) -> Self {
        Self::after(settings, servers, policy, &HashMap::new())
    }

    /// The same with what is `known` of servers and not noted in their settings yet: whether they are silent.
    pub fn after(
        settings: GroupSettings,
        servers: Vec<ServerSettings>,
        policy: Arc<dyn IBalancePolicy>,
        known: &HashMap<ServerAddr, bool>,
    ) -> Self {
        let (now_ms, timeout) = (clock::coarse_ms(), settings.heartbeat_timeout);
        let (id, label) = (settings.id(), settings.label());
        let mut members = Members::new(label.clone(), policy);
        members.set_common(&settings);
        members.merge(servers, now_ms, timeout);
        members.grant_leases(known, now_ms, timeout);
        let limits = Arc::default();
        let snapshot = members.publish(settings).completed(&limits, None);
        Self {
            counters: Arc::default(),
            limits,
            id,
            label,
            snapshot: ArcSwap::from_pointee(snapshot),
            members: Mutex::new(members),
            ejecting: Mutex::default(),
            access_log: ArcSwapOption::empty(),
            routes: ArcSwapOption::empty(),
            recording: ArcSwapOption::empty(),
            shadow: ArcSwapOption::empty(),
        }
    }

    /// What it is called. Never changes: a group with another name is another group.
    pub fn id(&self) -> &GroupId {
        &self.id
    }

    /// The port of its first address.
    pub fn port(&self) -> u16 {
        self.snapshot().settings.listen.port()
    }

    /// What it is called where it is shown.
    pub fn label(&self) -> &GroupLabel {
        &self.label
    }

    /// What is counted of its clients.
    pub fn limits(&self) -> &Arc<GroupState> {
        &self.limits
    }

    /// What sessions see now.
    pub fn snapshot(&self) -> Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }

    /// Picks a server for `client` that is not among `tried` and takes a place on it. `now_ms` is of the coarse clock.
    ///
    /// # Errors
    ///
    /// No server may be picked, or the policy answered with one that may not.
    pub fn pick(&self, client: SocketAddr, tried: &[ServerId], now_ms: u64) -> Result<ServerSlot, PickError> {
        let random = fastrand::u64(..);
        match self.snapshot().pick(client, tried, now_ms, random) {
            Err(PickError::NoServer) => self.pick_last_resort(Question { client, tried, now_ms, random }),
            picked => picked,
        }
    }

    /// Takes new settings and the file's list of servers. `policy` is given only where the settings name another
    /// policy; otherwise the object and its counters stay.
    ///
    /// A server with another live claim stays even if it is not in the list, unless it is in `removed`. Being in the
    /// list gives no lease to a server that registered itself earlier; being in `registered` does.
    pub fn apply(
        &self,
        settings: GroupSettings,
        servers: Vec<ServerSettings>,
        policy: Option<Arc<dyn IBalancePolicy>>,
        registered: &[Registration],
        removed: &[ServerAddr],
    ) {
        let (now_ms, timeout) = (clock::coarse_ms(), settings.heartbeat_timeout);
        let mut members = self.members();
        members.set_common(&settings);
        self.label.set_port(settings.listen.port());
        removed.iter().for_each(|addr| members.remove(addr));
        for Registration { server, addresses } in registered {
            members.claim(server.clone(), addresses.clone(), Claim::Heartbeat(Lease::new(now_ms, timeout)));
        }
        members.merge(servers, now_ms, timeout);
        if let Some(policy) = policy {
            members.set_policy(policy);
        }
        self.publish(&mut members, settings);
    }

    /// Takes a source's claim that the server exists, and adds the server if it is new. For a server in the file, the
    /// file's settings hold.
    pub fn claim(&self, server: ServerSettings, addresses: Vec<SocketAddr>, claim: Claim) {
        let mut members = self.members();
        if members.claim(server, addresses, claim) {
            self.republish(&mut members);
        }
    }

    /// Takes back a claim of the kind of `claim`. A server without any claim leaves the group.
    pub fn withdraw(&self, addr: &ServerAddr, claim: &Claim) {
        let mut members = self.members();
        if members.withdraw(addr, claim) {
            self.republish(&mut members);
        }
    }

    /// Renews the lease of a server that registered itself; a server in the file needs no lease. `None` when there is
    /// no such server.
    pub fn renew(&self, addr: &ServerAddr, load: Option<u32>) -> Option<view::ServerView> {
        let now_ms = clock::coarse_ms();
        let mut members = self.members();
        let timeout = self.snapshot().settings.heartbeat_timeout;
        if members.renew(addr, load, now_ms, timeout)? {
            self.republish(&mut members);
        }
        members.view_of(addr, now_ms)
    }

    /// Takes what a heartbeat says of a server, which counts at once. `None` when there is no such server, else what of
    /// it is new, and whether that is to be written into the file now; see [`Group::said_written`] and
    /// [`Group::said_refused`]. What is not is to be written when [`Group::take_said`] tells so.
    pub fn hear(&self, addr: &ServerAddr, said: &Said, caller: Caller) -> Option<(Said, bool)> {
        let mut members = self.members();
        let (news, verdict, has_changed) = members.hear(addr, said, caller, clock::coarse_ms())?;
        if has_changed {
            self.republish(&mut members);
        }
        drop(members);
        if let Some(Disagreement { other, differs }) = verdict.disagreement {
            let change = ServerChange::Disagreement {
                caller: caller_text(caller),
                other: caller_text(other),
                differs: differs.into(),
            };
            events::publish(Event::Server { group: self.label.clone(), addr: addr.shared(), change });
        }
        Some((news, verdict.is_due))
    }

    /// What heartbeats have said of a server is in the file, or has to wait once more.
    pub fn said_written(&self, addr: &ServerAddr) {
        self.change_said(addr, SaidKeeper::stop_writing);
    }

    /// What a heartbeat has said of a server cannot be written, and does not count any more.
    pub fn said_refused(&self, addr: &ServerAddr, said: &Said) {
        self.change_said(addr, |keeper| keeper.take_back(said));
    }

    /// An operator has set the state of a server, whatever heartbeats have said.
    pub fn state_set(&self, addr: &ServerAddr) {
        self.change_said(addr, SaidKeeper::forget_state);
    }

    /// When the file is to be told next what heartbeats have said, on the clock of [`clock::coarse_ms`].
    pub fn said_due_ms(&self) -> Option<u64> {
        self.members().said_due_ms()
    }

    /// What the file is to be told of servers, with their settings: what heartbeats have said and is due by `by_ms`.
    pub fn take_said(&self, by_ms: u64) -> Vec<(ServerSettings, Said)> {
        self.members().take_said(clock::coarse_ms(), by_ms)
    }

    fn change_said(&self, addr: &ServerAddr, change: impl FnOnce(&mut SaidKeeper)) {
        let mut members = self.members();
        if members.change_said(addr, change) {
            self.republish(&mut members);
        }
    }

    /// Lets leases run out. Tells when to check again. `late_ms` is by how much the check comes too late: all leases last
    /// longer by that, as heartbeats may be waiting.
    pub fn check_leases(&self, late_ms: u64) -> LeaseCheck {
        let now_ms = clock::coarse_ms();
        let mut members = self.members();
        let timeout = self.snapshot().settings.heartbeat_timeout;
        let check = members.check_leases(now_ms, late_ms, timeout);
        if check.changed {
            self.republish(&mut members);
        }
        self.counters.is_self_preserving.store(check.preserving, Relaxed);
        check
    }

    /// Servers whose name has to be resolved, and how they came into the group.
    pub fn names(&self) -> Vec<(ServerAddr, Origin)> {
        self.members().names()
    }

    /// Takes what a name resolves to. An error, or an answer without addresses, keeps those known before for an hour.
    pub fn resolved(&self, addr: &ServerAddr, outcome: Result<Vec<SocketAddr>, String>) {
        let mut members = self.members();
        if members.resolved(addr, outcome, clock::coarse_ms()) {
            self.republish(&mut members);
        }
    }

    /// The settings of one server.
    pub fn server_settings(&self, addr: &ServerAddr) -> Option<ServerSettings> {
        self.members().settings_of(addr)
    }

    /// The settings of the servers that registered themselves and whose lease has not run out.
    pub fn leased(&self) -> Vec<ServerSettings> {
        self.members().leased()
    }

    /// The servers whose `silent` in the file is out of date, and its value now.
    pub fn unnoted_silence(&self) -> Vec<(ServerAddr, bool)> {
        self.members().unnoted_silence().map(|(addr, silent)| (addr.clone(), silent)).collect()
    }

    /// The servers that have been silent for `forget_after`, and for how long, at `now_ms` of the coarse clock; and when the
    /// next one will have been.
    pub fn to_be_forgotten(&self, now_ms: u64) -> (Vec<(ServerAddr, Duration)>, Option<u64>) {
        let forget_after = self.snapshot().settings.forget_after;
        if forget_after.is_zero() {
            return (Vec::new(), None);
        }
        let (mut due, mut next_ms) = (Vec::new(), None::<u64>);
        for (addr, since_ms) in self.members().silent() {
            let due_ms = since_ms.saturating_add(clock::as_ms(forget_after));
            match due_ms <= now_ms {
                true => due.push((addr.clone(), Duration::from_millis(now_ms.saturating_sub(since_ms)))),
                false => next_ms = Some(next_ms.map_or(due_ms, |next| next.min(due_ms))),
            }
        }
        (due, next_ms)
    }

    /// The server that registered itself and has been without a lease for longest.
    pub fn longest_gone(&self) -> Option<ServerAddr> {
        self.members().longest_gone()
    }

    fn republish(&self, members: &mut Members) {
        let settings = self.snapshot().settings.clone();
        self.publish(members, settings);
    }

    fn publish(&self, members: &mut Members, settings: GroupSettings) {
        let now = self.snapshot();
        self.snapshot.store(Arc::new(members.publish(settings).completed(&self.limits, Some(&now))));
        self.look_at_fail_open();
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        // Nothing that could panic is called in the middle of a change.
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who has sent a heartbeat, for people.
fn caller_text(caller: Option<SocketAddr>) -> Box<str> {
    caller.map_or_else(|| "a unix socket".into(), |addr| addr.to_string().into())
}
