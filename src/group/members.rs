//! The servers of a group, in order, and what each snapshot shows of them.
//!
//! The file gives a whole list, which decides the order and the settings ([`Members::merge`]). Sources report one
//! server at a time ([`Members::claim`], [`Members::renew`], [`Members::resolved`]). A name that the file expands is a
//! member that is never shown; the servers of its addresses are members of their own.
//!
//! The methods that return a `bool` return true when policies have to see another list of servers.

mod expand;
mod shown;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::check::{CheckResult, CheckTarget, GroupCheck};
use super::claim::{Claim, Standing};
use super::lease::{Keeper, Lease, LeaseCheck};
use super::member::{Checked, Common, Member, Target};
use super::on_down::OnDown;
use super::said::{Caller, Said, SaidKeeper, Verdict};
use super::settings::GroupSettings;
use crate::base::label::GroupLabel;
use crate::policy::IBalancePolicy;
use crate::server::{Origin, Server, ServerAddr, ServerId, ServerSettings};

pub(super) struct Members {
    common: Common,
    list: Vec<Member>,
    by_addr: HashMap<ServerAddr, usize>,
    /// Prepared for no servers. The policies of the tiers are made from it and share its counters.
    policy: Arc<dyn IBalancePolicy>,
    leases: Keeper,
    generation: u64,
    next_id: ServerId,
}

impl std::fmt::Debug for Members {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Members").field("list", &self.list).field("policy", &self.policy.name()).finish_non_exhaustive()
    }
}

impl Members {
    pub(super) fn new(label: GroupLabel, policy: Arc<dyn IBalancePolicy>) -> Self {
        Self {
            common: Common { label, check: None, is_open: false, on_down: OnDown::default(), source: None },
            list: Vec::new(),
            by_addr: HashMap::new(),
            policy,
            leases: Keeper::default(),
            generation: 0,
            next_id: ServerId(1),
        }
    }

    /// Takes those of the group's settings that members follow. They do so when they are told of a change next.
    pub(super) fn set_common(&mut self, settings: &GroupSettings) {
        self.common.check = settings.check.as_ref().map(GroupCheck::new);
        self.common.is_open = settings.open;
        self.common.on_down = settings.on_down;
        self.common.source = settings.server_tcp.source;
    }

    /// The policy, prepared for no servers.
    pub(super) fn policy(&self) -> Arc<dyn IBalancePolicy> {
        Arc::clone(&self.policy)
    }

    /// Takes another policy.
    pub(super) fn set_policy(&mut self, policy: Arc<dyn IBalancePolicy>) {
        self.policy = policy;
    }

    /// Takes the file's list. Servers that stay keep what is known of them. A server that is no longer in the list
    /// stays, at the end, while another claim to it is live.
    pub(super) fn merge(&mut self, servers: Vec<ServerSettings>, now_ms: u64, timeout: Duration) {
        let common = self.common.clone();
        let mut old: HashMap<ServerAddr, Member> = std::mem::take(&mut self.list)
            .into_iter()
            .map(|member| (member.server.settings.addr.clone(), member))
            .collect();
        let named: HashSet<&ServerAddr> = servers.iter().map(|server| &server.addr).collect();
        let mut forgotten: Vec<Member> = old.extract_if(|addr, _| !named.contains(addr)).map(|(_, it)| it).collect();
        forgotten.sort_by_key(|member| member.server.id);
        for settings in servers {
            let mut member =
                old.remove(&settings.addr).unwrap_or_else(|| self.new_member(settings.clone(), Vec::new()));
            member.change(&common, |member| member.take_settings(settings, now_ms, timeout));
            self.list.push(member);
        }
        for mut member in forgotten {
            member.claims.withdraw(&Claim::File);
            member.claims.withdraw(&Claim::Remembered);
            member.claims.withdraw(&Claim::OneOfName);
            if member.claims.standing() == Standing::Live {
                self.list.push(member);
            } else {
                member.tell_removed(&common);
            }
        }
        self.expand();
        self.index();
    }

    /// Gives the servers that registered themselves in an earlier life of the process one whole lease, but for those
    /// whose lease had run out then. The file says so, unless more is `known`.
    pub(super) fn grant_leases(&mut self, known: &HashMap<ServerAddr, bool>, now_ms: u64, timeout: Duration) {
        let common = self.common.clone();
        for member in self.list.iter_mut().filter(|member| member.claims.is_remembered()) {
            let settings = &member.server.settings;
            let lease = match (known.get(&settings.addr), settings.silent) {
                (Some(false), _) | (None, false) => Lease::new(now_ms, timeout),
                // So that the file is told.
                (Some(true), false) => Lease::ended(),
                (_, true) => continue,
            };
            member.change(&common, |member| member.claims.set(Claim::Heartbeat(lease)));
        }
    }

    /// Takes a source's claim, and adds the server if it is new. For a server in the file, the file's settings hold.
    pub(super) fn claim(&mut self, settings: ServerSettings, addresses: Vec<SocketAddr>, claim: Claim) -> bool {
        let at = match self.by_addr.get(&settings.addr) {
            Some(&at) => at,
            None => {
                let member = self.new_member(settings.clone(), addresses);
                self.by_addr.insert(settings.addr.clone(), self.list.len());
                self.list.push(member);
                self.list.len() - 1
            }
        };
        let member = &mut self.list[at];
        let has_news = !member.claims.is_in_file() && member.server.settings != settings;
        let is_changed = member.change(&self.common, |member| {
            member.claims.set(claim);
            if has_news {
                member.set_settings(settings);
            }
        });
        is_changed || has_news
    }

    /// Takes back a claim of this kind.
    pub(super) fn withdraw(&mut self, addr: &ServerAddr, claim: &Claim) -> bool {
        let Some(&at) = self.by_addr.get(addr) else {
            return false;
        };
        self.list[at].claims.withdraw(claim);
        if self.list[at].claims.standing() > Standing::Over {
            return self.list[at].tell_change(&self.common);
        }
        let was_shown = self.list.remove(at).tell_removed(&self.common);
        self.index();
        was_shown
    }

    pub(super) fn remove(&mut self, addr: &ServerAddr) {
        if let Some(&at) = self.by_addr.get(addr) {
            let member = self.list.remove(at);
            member.tell_removed(&self.common);
            self.index();
        }
    }

    /// Renews a lease. `None` when there is no such server.
    pub(super) fn renew(
        &mut self,
        addr: &ServerAddr,
        load: Option<u32>,
        now_ms: u64,
        timeout: Duration,
    ) -> Option<bool> {
        let member = &mut self.list[*self.by_addr.get(addr)?];
        if member.server.settings.origin != Origin::Heartbeat {
            return Some(false);
        }
        Some(member.change(&self.common, |member| {
            let lease = Lease::renewed(member.claims.lease(), now_ms, timeout, load);
            member.claims.set(Claim::Heartbeat(lease));
        }))
    }

    /// Takes what a heartbeat says of a server: what of it is news, what has to be done about that, and whether policies
    /// are shown another list by it.
    pub(super) fn hear(
        &mut self,
        addr: &ServerAddr,
        said: &Said,
        caller: Caller,
        now_ms: u64,
    ) -> Option<(Said, Verdict, bool)> {
        let member = &mut self.list[*self.by_addr.get(addr)?];
        let (news, verdict) = member.hear(said, caller, now_ms);
        member.tell_change(&self.common);
        Some((news.clone(), verdict, !news.is_empty()))
    }

    /// Changes what is kept of a server's heartbeats; true when policies are shown another list by that.
    pub(super) fn change_said(&mut self, addr: &ServerAddr, change: impl FnOnce(&mut SaidKeeper)) -> bool {
        let Some(&at) = self.by_addr.get(addr) else {
            return false;
        };
        let is_other = self.list[at].change_said(change);
        self.list[at].tell_change(&self.common);
        is_other
    }

    /// When the file is to be told next what heartbeats have said.
    pub(super) fn said_due_ms(&self) -> Option<u64> {
        self.list.iter().filter_map(Member::said_due_ms).min()
    }

    /// The settings of the servers of which the file is to be told what heartbeats have said until `by_ms`, and that.
    pub(super) fn take_said(&mut self, now_ms: u64, by_ms: u64) -> Vec<(ServerSettings, Said)> {
        let due = |member: &mut Member| Some((member.server.settings.clone(), member.take_said(now_ms, by_ms)?));
        self.list.iter_mut().filter_map(due).collect()
    }

    /// Lets leases run out. `late_ms` is by how much the check comes too late.
    pub(super) fn check_leases(&mut self, now_ms: u64, late_ms: u64, timeout: Duration) -> LeaseCheck {
        let common = self.common.clone();
        let were_kept: Vec<bool> = self.list.iter().map(Member::is_kept).collect();
        let mut leases: Vec<&mut Lease> = self.list.iter_mut().filter_map(|it| it.claims.lease_mut()).collect();
        let mut outcome = self.leases.check(&mut leases, now_ms, late_ms, timeout, &common.label);
        for (member, was_kept) in self.list.iter_mut().zip(were_kept) {
            if member.is_kept() && !was_kept {
                member.tell_kept(&common);
            }
            outcome.changed |= member.tell_change(&common);
        }
        // A server that is no longer in the file goes with its lease.
        let count = self.list.len();
        self.list.retain(|member| member.claims.standing() > Standing::Over);
        if self.list.len() < count {
            self.index();
        }
        outcome
    }

    /// The servers to be tried by a connect of the proxy's own.
    pub(super) fn targets(&self, settings: &GroupSettings) -> Vec<(ServerAddr, Target)> {
        let targets = self.list.iter().map(|member| (member.server.settings.addr.clone(), member.target(settings)));
        targets.filter_map(|(addr, target)| Some((addr, target?))).collect()
    }

    /// How to try this server; `None` when that is not needed.
    pub(super) fn target(&self, addr: &ServerAddr, settings: &GroupSettings) -> Option<Target> {
        self.list[*self.by_addr.get(addr)?].target(settings)
    }

    /// The servers to be checked.
    pub(super) fn check_targets(&self) -> impl Iterator<Item = CheckTarget> {
        self.list.iter().filter_map(|member| member.check_target(&self.common))
    }

    /// How to check this server; `None` when it is not to be checked.
    pub(super) fn check_target(&self, addr: &ServerAddr) -> Option<CheckTarget> {
        self.list[*self.by_addr.get(addr)?].check_target(&self.common)
    }

    /// Takes the result of a check of the server with this id; `None` when it is no longer here.
    pub(super) fn take_check(
        &mut self,
        addr: &ServerAddr,
        id: ServerId,
        result: CheckResult,
        now_ms: u64,
    ) -> Option<Checked> {
        let member = self.member(addr).filter(|(member, _)| member.server.id == id);
        member.and_then(|(member, common)| member.take_check(common, result, now_ms))
    }

    /// The member at this address, and what it shares with the others.
    pub(super) fn member(&mut self, addr: &ServerAddr) -> Option<(&mut Member, &Common)> {
        let at = *self.by_addr.get(addr)?;
        Some((&mut self.list[at], &self.common))
    }

    /// True while the process is not ready before a server of the group was checked once.
    pub(super) fn is_check_awaited(&self) -> bool {
        self.list.iter().any(|member| member.is_check_awaited(&self.common))
    }

    /// The server at this address.
    pub(super) fn server_at(&self, addr: &ServerAddr) -> Option<&Arc<Server>> {
        Some(&self.list[*self.by_addr.get(addr)?].server)
    }

    /// Something outside of the list has become known of a server.
    pub(super) fn look_again(&mut self, addr: &ServerAddr) -> bool {
        let at = self.by_addr.get(addr);
        at.is_some_and(|&at| self.list[at].tell_change(&self.common))
    }

    pub(super) fn names(&self) -> Vec<(ServerAddr, Origin)> {
        let servers = self.list.iter().map(|member| &member.server.settings);
        servers.filter(|server| server.addr.literal().is_none()).map(|s| (s.addr.clone(), s.origin)).collect()
    }

    pub(super) fn settings_of(&self, addr: &ServerAddr) -> Option<ServerSettings> {
        self.by_addr.get(addr).map(|&at| self.list[at].server.settings.clone())
    }

    pub(super) fn leased(&self) -> Vec<ServerSettings> {
        let leased = self.list.iter().filter(|member| member.has_live_lease());
        leased.map(|member| ServerSettings { silent: false, ..member.server.settings.clone() }).collect()
    }

    /// The servers whose `silent` in the file is out of date, and its value now. A server without a lease since the
    /// process started keeps what the file says.
    pub(super) fn unnoted_silence(&self) -> impl Iterator<Item = (&ServerAddr, bool)> {
        self.list.iter().filter(|member| member.claims.is_remembered()).filter_map(|member| {
            let silent = !member.claims.lease()?.is_live();
            let settings = &member.server.settings;
            (settings.silent != silent).then_some((&settings.addr, silent))
        })
    }

    pub(super) fn longest_gone(&self) -> Option<ServerAddr> {
        let is_gone = |member: &&Member| member.claims.is_remembered() && member.claims.standing() == Standing::Place;
        let gone = self.list.iter().filter(is_gone);
        // A server without a heartbeat since the process started has been gone for longest.
        let gone = gone.min_by_key(|member| member.claims.lease().map(Lease::until_ms));
        gone.map(|member| member.server.settings.addr.clone())
    }

    /// The servers that registered themselves and are silent, and since when.
    pub(super) fn silent(&self) -> impl Iterator<Item = (&ServerAddr, u64)> {
        self.list.iter().filter_map(|member| Some((&member.server.settings.addr, member.silent_since_ms()?)))
    }

    pub(super) fn id_of(&self, addr: &ServerAddr) -> Option<ServerId> {
        self.by_addr.get(addr).map(|&at| self.list[at].server.id)
    }

    /// All of them, names that are expanded included.
    pub(super) fn all_members(&self) -> impl Iterator<Item = &Member> {
        self.list.iter()
    }

    fn new_member(&mut self, settings: ServerSettings, addresses: Vec<SocketAddr>) -> Member {
        let id = self.next_id;
        self.next_id = ServerId(id.0.wrapping_add(1).max(1));
        Member::new(id, settings, addresses)
    }

    fn index(&mut self) {
        let addrs = self.list.iter().map(|member| member.server.settings.addr.clone());
        self.by_addr = addrs.enumerate().map(|(at, addr)| (addr, at)).collect();
    }
}
