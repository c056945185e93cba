//! The servers of a group, in order, and what each snapshot shows of them.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::lease::{Lease, LeaseCheck, check};
use super::snapshot::{Snapshot, Tier};
use super::view::ServerView;
use super::{GroupSettings, has_lease};
use crate::policy::{IBalancePolicy, ServerSet};
use crate::server::{Live, Origin, Server, ServerAddr, ServerSettings, State};

/// What a server that registers itself by being in the file gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NewLease {
    /// At start: one whole time-out to send its next heartbeat.
    Whole,
    /// On a reload: an old copy of the file brings nobody back.
    None,
}

/// One server of the group, online or not.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) server: Arc<Server>,
    /// Only of a server that registered itself.
    pub(super) lease: Option<Lease>,
    /// Why its name could not be resolved, while there is no address for it.
    unresolved: Option<String>,
    /// False for a server that the file has forgotten: it stays for as long as its lease does.
    is_in_file: bool,
    was_online: bool,
}

pub(super) struct Members {
    port: u16,
    list: Vec<Member>,
    by_addr: HashMap<ServerAddr, usize>,
    /// Prepared for no servers; what is prepared for the tiers shares its counters.
    policy: Arc<dyn IBalancePolicy>,
    generation: u64,
    next_id: u32,
}

impl std::fmt::Debug for Members {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Members").field("list", &self.list).field("policy", &self.policy.name()).finish_non_exhaustive()
    }
}

impl Members {
    pub(super) fn new(port: u16, policy: Arc<dyn IBalancePolicy>) -> Self {
        Self { port, list: Vec::new(), by_addr: HashMap::new(), policy, generation: 0, next_id: 1 }
    }

    /// Takes another policy.
    pub(super) fn set_policy(&mut self, policy: Arc<dyn IBalancePolicy>) {
        self.policy = policy;
    }

    /// Takes the list of the file. What is known of a server that stays is kept; servers with a lease that
    /// has not run out stay even when the list has forgotten them, at the end.
    pub(super) fn merge(&mut self, servers: Vec<ServerSettings>, timeout: Duration, new_lease: NewLease) {
        let now_ms = crate::base::clock::coarse_ms();
        let mut old: HashMap<ServerAddr, Member> = std::mem::take(&mut self.list)
            .into_iter()
            .map(|member| (member.server.settings.addr.clone(), member))
            .collect();
        let named: HashSet<ServerAddr> = servers.iter().map(|server| server.addr.clone()).collect();
        let mut forgotten: Vec<Member> = Vec::new();
        for (_, member) in old.extract_if(|addr, member| !named.contains(addr) && member.has_live_lease()) {
            forgotten.push(Member { is_in_file: false, ..member });
        }
        forgotten.sort_by_key(|member| member.server.id);
        for settings in servers {
            let member = match old.remove(&settings.addr) {
                Some(member) => member.with_settings(settings, now_ms, timeout),
                None => self.new_member(settings, Vec::new(), now_ms, timeout, new_lease),
            };
            self.list.push(Member { is_in_file: true, ..member });
        }
        self.list.append(&mut forgotten);
        for member in old.into_values() {
            member.log_gone(self.port);
        }
        self.index();
    }

    /// Adds a server that has just registered itself, or gives the one that is there other settings and a
    /// whole lease.
    pub(super) fn add(&mut self, settings: ServerSettings, addresses: Vec<SocketAddr>, timeout: Duration) {
        let now_ms = crate::base::clock::coarse_ms();
        match self.by_addr.get(&settings.addr) {
            Some(&at) => {
                let mut member = self.list.remove(at).with_settings(settings, now_ms, timeout);
                if let Some(lease) = &mut member.lease {
                    lease.renew(now_ms, timeout);
                }
                self.list.insert(at, member);
            }
            None => {
                let member = self.new_member(settings, addresses, now_ms, timeout, NewLease::Whole);
                self.by_addr.insert(member.server.settings.addr.clone(), self.list.len());
                self.list.push(member);
            }
        }
    }

    pub(super) fn remove(&mut self, addr: &ServerAddr) {
        if let Some(&at) = self.by_addr.get(addr) {
            self.list.remove(at).log_gone(self.port);
            self.index();
        }
    }

    /// Renews a lease. `Some(true)` when the server was not online for want of it.
    pub(super) fn renew(
        &mut self,
        addr: &ServerAddr,
        load: Option<u32>,
        now_ms: u64,
        timeout: Duration,
    ) -> Option<bool> {
        let member = &mut self.list[*self.by_addr.get(addr)?];
        let Some(lease) = &mut member.lease else { return Some(false) };
        lease.renew(now_ms, timeout);
        if load.is_some() {
            lease.load = load;
        }
        Some(!member.was_online && member.offline_cause().is_none())
    }

    pub(super) fn check_leases(&mut self, now_ms: u64, timeout: Duration) -> LeaseCheck {
        let mut leases: Vec<&mut Lease> = self.list.iter_mut().filter_map(|member| member.lease.as_mut()).collect();
        let mut outcome = check(&mut leases, now_ms, timeout, self.port);
        // Without its lease, nothing is left of a server that the file has forgotten.
        let is_gone = |member: &mut Member| !member.is_in_file && !member.has_live_lease();
        let gone: Vec<Member> = self.list.extract_if(.., is_gone).collect();
        if !gone.is_empty() {
            self.index();
            outcome.changed = true;
        }
        for mut member in gone {
            let cause = member.offline_cause();
            member.log_change(self.port, cause.as_deref());
        }
        outcome.changed |= self.list.iter().any(|member| member.was_online != member.offline_cause().is_none());
        outcome
    }

    pub(super) fn names(&self) -> Vec<(ServerAddr, Origin)> {
        let servers = self.list.iter().map(|member| &member.server.settings);
        servers.filter(|server| server.addr.literal().is_none()).map(|s| (s.addr.clone(), s.origin)).collect()
    }

    /// Takes what a name resolves to. True when that decides whether the server is online.
    pub(super) fn resolved(&mut self, addr: &ServerAddr, outcome: Result<Vec<SocketAddr>, String>) -> bool {
        let Some(&at) = self.by_addr.get(addr) else { return false };
        let member = &mut self.list[at];
        match outcome {
            Ok(addresses) if !addresses.is_empty() => {
                member.server.live.resolved(addresses);
                member.unresolved.take().is_some()
            }
            Ok(_) => member.set_unresolved("it has no address"),
            Err(error) => member.set_unresolved(&error),
        }
    }

    pub(super) fn settings_of(&self, addr: &ServerAddr) -> Option<ServerSettings> {
        self.by_addr.get(addr).map(|&at| self.list[at].server.settings.clone())
    }

    pub(super) fn leased(&self) -> Vec<ServerSettings> {
        let leased = self.list.iter().filter(|member| member.has_live_lease());
        leased.map(|member| member.server.settings.clone()).collect()
    }

    pub(super) fn longest_gone(&self) -> Option<ServerAddr> {
        let gone = self.list.iter().filter_map(|member| Some((member, member.lease.as_ref()?)));
        let gone = gone.filter(|(_, lease)| !lease.is_live()).min_by_key(|(_, lease)| lease.until_ms());
        gone.map(|(member, _)| member.server.settings.addr.clone())
    }

    pub(super) fn views(&self, now_ms: u64) -> Vec<ServerView> {
        self.list.iter().map(|member| member.view(now_ms)).collect()
    }

    pub(super) fn view_of(&self, addr: &ServerAddr, now_ms: u64) -> Option<ServerView> {
        self.by_addr.get(addr).map(|&at| self.list[at].view(now_ms))
    }

    /// Every server, and why it is not shown to the policy.
    pub(super) fn all(&self) -> impl Iterator<Item = (&Arc<Server>, Option<String>)> {
        self.list.iter().map(|member| (&member.server, member.offline_cause()))
    }

    pub(super) fn id_of(&self, addr: &ServerAddr) -> Option<u32> {
        self.by_addr.get(addr).map(|&at| self.list[at].server.id)
    }

    /// Servers online, and all.
    pub(super) fn count(&self) -> (usize, usize) {
        let online = self.list.iter().filter(|member| member.is_online());
        (online.count(), self.list.len())
    }

    /// Makes the snapshot of this moment and logs who has come and gone since the last.
    pub(super) fn publish(&mut self, settings: GroupSettings) -> Snapshot {
        self.generation += 1;
        let mut tiers: [Vec<Arc<Server>>; 2] = [Vec::new(), Vec::new()];
        for member in &mut self.list {
            let cause = member.offline_cause();
            member.log_change(self.port, cause.as_deref());
            if cause.is_none() {
                tiers[usize::from(member.server.settings.backup)].push(Arc::clone(&member.server));
            }
        }
        let [primaries, backups] = tiers;
        let tiers = [(primaries, false), (backups, true)].map(|(servers, backup)| {
            let set = Arc::new(ServerSet { generation: self.generation, backup, servers });
            Tier { policy: self.policy.for_servers(&set), set }
        });
        Snapshot { settings, generation: self.generation, tiers }
    }

    fn new_member(
        &mut self,
        settings: ServerSettings,
        addresses: Vec<SocketAddr>,
        now_ms: u64,
        timeout: Duration,
        new_lease: NewLease,
    ) -> Member {
        let addresses = settings.addr.literal().map_or(addresses, |addr| vec![addr]);
        let unresolved = addresses.is_empty().then(|| "it is being resolved".to_owned());
        let lease = has_lease(&settings).then(|| match new_lease {
            NewLease::Whole => Lease::new(now_ms, timeout),
            NewLease::None => Lease::run_out(now_ms),
        });
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1).max(1);
        let server = Arc::new(Server { id, settings, live: Arc::new(Live::new(addresses)) });
        Member { server, lease, unresolved, is_in_file: true, was_online: false }
    }

    fn index(&mut self) {
        let addrs = self.list.iter().map(|member| member.server.settings.addr.clone());
        self.by_addr = addrs.enumerate().map(|(at, addr)| (addr, at)).collect();
    }
}

impl Member {
    /// The same server with other settings; what is known of it stays.
    fn with_settings(self, settings: ServerSettings, now_ms: u64, timeout: Duration) -> Self {
        if self.server.settings == settings {
            return self;
        }
        let lease = match (has_lease(&settings), self.lease) {
            (true, Some(lease)) => Some(lease),
            (true, None) => Some(Lease::new(now_ms, timeout)),
            (false, _) => None,
        };
        let server = Arc::new(Server { id: self.server.id, settings, live: Arc::clone(&self.server.live) });
        Self { server, lease, ..self }
    }

    fn has_live_lease(&self) -> bool {
        self.lease.as_ref().is_some_and(|lease| lease.is_live())
    }

    /// Why the server is not shown to policies; any one cause is enough.
    fn offline_cause(&self) -> Option<String> {
        match self.server.settings.state {
            State::Ready => {}
            State::Drain => return Some("drained by an operator".to_owned()),
            State::Maint => return Some("in maintenance".to_owned()),
        }
        if self.lease.is_some() && !self.has_live_lease() {
            return Some("no heartbeat within heartbeat_timeout".to_owned());
        }
        self.unresolved.as_ref().map(|why| format!("its name is not resolved: {why}"))
    }

    fn is_online(&self) -> bool {
        self.offline_cause().is_none() && !self.server.is_full()
    }

    fn set_unresolved(&mut self, why: &str) -> bool {
        if self.server.live.addresses().is_empty() {
            // Shown as the cause; the server was offline before and stays so.
            self.unresolved = Some(why.chars().take(200).collect());
        }
        false
    }

    fn log_change(&mut self, port: u16, cause: Option<&str>) {
        let is_online = cause.is_none();
        if is_online != self.was_online {
            let addr = self.server.settings.addr.as_str();
            match cause {
                None => tracing::info!(group = port, server.addr = addr, "server online"),
                Some(cause) => tracing::info!(group = port, server.addr = addr, cause, "server offline"),
            }
            self.was_online = is_online;
        }
    }

    fn log_gone(self, port: u16) {
        if self.was_online {
            let addr = self.server.settings.addr.as_str();
            tracing::info!(group = port, server.addr = addr, cause = "taken out of the group", "server offline");
        }
    }

    fn view(&self, now_ms: u64) -> ServerView {
        let Server { settings, live, .. } = &*self.server;
        let cause = self.offline_cause().or_else(|| self.server.is_full().then(|| full(settings)));
        ServerView {
            addr: settings.addr.to_string(),
            state: settings.state,
            online: cause.is_none(),
            cause,
            origin: settings.origin,
            weight: settings.weight,
            backup: settings.backup,
            max_sessions: settings.max_sessions,
            labels: settings.labels.clone(),
            sessions: live.sessions(),
            sessions_total: live.sessions_total(),
            connect_errors: live.connect_errors(),
            connect_latency_us: live.connect_latency_us(),
            suspect: live.is_suspect(now_ms),
            lease_ms: self.lease.as_ref().map(|lease| lease.left_ms(now_ms)),
            load: self.lease.as_ref().and_then(|lease| lease.load),
            last_check: None,
        }
    }
}

/// Why a full server is passed over.
pub(super) fn full(settings: &ServerSettings) -> String {
    format!("holds max_sessions = {} sessions", settings.max_sessions)
}
