//! What sessions see of a group: one immutable value, loaded once per pick.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use super::settings::GroupSettings;
use crate::limits::{GroupLimits, GroupState};
use crate::policy::{Epoch, IBalancePolicy, PickRequest, Picked, RehearsalError, ServerSet};
use crate::server::{Avoided, Server, ServerId};
use crate::tls::{Acceptor, Connector};

/// A group at one moment: its settings, and the servers that the policy sees. Fields are in the order in which sessions
/// need them.
#[derive(Debug)]
#[repr(C)]
pub struct Snapshot {
    /// The servers that are online, then the backups that are.
    pub(super) tiers: [Tier; 2],
    /// Who is let in; `None` for everybody.
    pub limits: Option<Arc<GroupLimits>>,
    /// Those that only checks keep out, where they are to be tried when nobody else is left.
    pub(super) last_resort: Option<Box<[Tier; 2]>>,
    /// The group's settings.
    pub settings: GroupSettings,
    /// Grows with every change of the servers.
    pub generation: u64,
    /// What makes clients' connections those of TLS; `None` when they are plain.
    pub tls: Option<Arc<Acceptor>>,
    /// The same of connections to servers.
    pub server_tls: Option<Arc<Connector>>,
    /// The same of checks that have a way of their own.
    pub check_tls: Option<Arc<Connector>>,
}

/// Servers that the policy sees together, and the policy prepared for them.
#[derive(Clone)]
pub(super) struct Tier {
    pub(super) set: Arc<ServerSet>,
    pub(super) policy: Arc<dyn IBalancePolicy>,
}

impl fmt::Debug for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tier").field("policy", &self.policy.name()).field("set", &self.set).finish()
    }
}

/// Why no server was picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PickError {
    /// No server is online, or every one that is has been tried or is full.
    #[error("no server is online")]
    NoServer,
    /// The policy picked none, although it saw a server that could be picked.
    #[error("the policy named no server")]
    NamedNobody,
    /// The policy answered with a server that may not be picked.
    #[error("the policy answered with a server that may not be picked")]
    BadAnswer,
}

/// A place on a server; dropping it gives the place back.
#[derive(Debug)]
pub struct ServerSlot {
    /// The server that was picked.
    pub server: Arc<Server>,
    /// Which instance of the policy made the pick; [`Group::report`](super::Group::report) wants it back.
    pub epoch: Option<Epoch>,
}

impl Drop for ServerSlot {
    fn drop(&mut self) {
        self.server.live.release();
    }
}

/// What a pick depends on besides the servers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question<'a> {
    pub(super) client: SocketAddr,
    pub(super) tried: &'a [ServerId],
    pub(super) now_ms: u64,
    pub(super) random: u64,
}

impl Snapshot {
    /// The same with the limits and the TLS that its settings ask for. `former` is what the group has now, whose connections go
    /// on as they are.
    pub(super) fn completed(self, state: &Arc<GroupState>, former: Option<&Self>) -> Self {
        let GroupSettings { session_rate, client, allow, deny, tls, server_tls, check, .. } = &self.settings;
        let limits = GroupLimits::new(state, session_rate.as_ref(), client.as_ref(), (deny, allow));
        let tls = Acceptor::after(tls.as_ref(), former.and_then(|former| former.tls.as_ref()));
        let server_tls = Connector::after(server_tls.as_ref(), former.and_then(|former| former.server_tls.as_ref()));
        let of_check = check.as_ref().and_then(|check| check.server_tls.as_ref());
        let check_tls = Connector::after(of_check, former.and_then(|former| former.check_tls.as_ref()));
        Self { limits, tls, server_tls, check_tls, ..self }
    }

    /// Picks a server and takes a place on it.
    ///
    /// # Errors
    ///
    /// See [`PickError`].
    pub fn pick(
        &self,
        client: SocketAddr,
        tried: &[ServerId],
        now_ms: u64,
        random: u64,
    ) -> Result<ServerSlot, PickError> {
        self.find(Question { client, tried, now_ms, random }, Self::take)
    }

    /// Takes a place on a server.
    #[inline]
    pub(super) fn take(_: &PickRequest<'_>, server: &Arc<Server>, epoch: Option<Epoch>) -> Option<ServerSlot> {
        let is_taken = server.live.try_acquire(server.settings.max_sessions);
        is_taken.then(|| ServerSlot { server: Arc::clone(server), epoch })
    }

    /// The same servers with a copy of the policy: asking the copy changes nothing here.
    ///
    /// # Errors
    ///
    /// As those of [`IBalancePolicy::rehearsal`].
    pub fn rehearsal(&self) -> Result<Self, RehearsalError> {
        let [first, second] = &self.tiers;
        let policy = first.policy.rehearsal()?;
        // Made from the first tier's policy, so that the two share counters, as in the original.
        let backups = Tier { set: Arc::clone(&second.set), policy: policy.for_servers(&second.set) };
        let tiers = [Tier { set: Arc::clone(&first.set), policy }, backups];
        let last_resort = self.last_resort.clone();
        let (settings, generation) = (self.settings.clone(), self.generation);
        Ok(Self {
            settings,
            generation,
            tiers,
            last_resort,
            limits: None,
            tls: None,
            server_tls: None,
            check_tls: None,
        })
    }

    /// The same as if these servers were not in the group.
    ///
    /// # Errors
    ///
    /// As those of [`IBalancePolicy::rehearsal`].
    pub(super) fn rehearsal_without(&self, without: &[ServerId]) -> Result<Self, RehearsalError> {
        let copy = self.rehearsal()?;
        if without.is_empty() {
            return Ok(copy);
        }
        let left = |tier: &Tier| {
            let servers = tier.set.servers.iter().filter(|server| !without.contains(&server.id)).cloned().collect();
            let (generation, backup) = (tier.set.generation, tier.set.backup);
            let set = Arc::new(ServerSet { generation, backup, servers });
            Tier { policy: tier.policy.for_servers(&set), set }
        };
        let both = |tiers: &[Tier; 2]| tiers.each_ref().map(left);
        let (tiers, last_resort) = (both(&copy.tiers), copy.last_resort.as_deref().map(|tiers| Box::new(both(tiers))));
        Ok(Self { tiers, last_resort, ..copy })
    }

    /// Asks the policy until it picks a server that `take` accepts.
    ///
    /// Suspect servers come last, after the backups: no client waits for a server that has just failed while another
    /// may answer, and none is refused while only such a server is left.
    ///
    /// # Errors
    ///
    /// See [`PickError`].
    pub(super) fn find<T>(
        &self,
        question: Question<'_>,
        take: impl Fn(&PickRequest<'_>, &Arc<Server>, Option<Epoch>) -> Option<T>,
    ) -> Result<T, PickError> {
        for avoided in [Avoided::DOUBTFUL, Avoided::EJECTED] {
            for tier in self.tiers.iter().filter(|tier| !tier.set.servers.is_empty()) {
                let request = self.request(tier, question, avoided);
                if let Some(taken) = tier.pick(&request, &take, |policy| policy.pick(&request))? {
                    return Ok(taken);
                }
            }
        }
        self.named_nobody(question, take)
    }

    /// The same among those that only checks or ejections keep out, where the group allows that. A server that is only full
    /// has not failed: while there is one, nobody else is tried.
    ///
    /// # Errors
    ///
    /// See [`PickError`].
    pub(super) fn find_last_resort<T>(
        &self,
        question: Question<'_>,
        take: impl Fn(&PickRequest<'_>, &Arc<Server>, Option<Epoch>) -> Option<T>,
    ) -> Result<T, PickError> {
        let is_full = |server: &Arc<Server>| server.is_full() && !question.tried.contains(&server.id);
        if !self.settings.fail_open || self.tiers.iter().any(|tier| tier.set.servers.iter().any(is_full)) {
            return Err(PickError::NoServer);
        }
        for avoided in [Avoided::SUSPECT, Avoided::NONE] {
            let tiers = self.tiers.iter().chain(self.last_resort.iter().flat_map(|tiers| tiers.iter()));
            // Asking for nobody would cost a turn.
            for tier in tiers.filter(|tier| !tier.set.servers.is_empty()) {
                let request = self.request(tier, question, avoided);
                if let Some(taken) = tier.pick(&request, &take, |policy| policy.pick(&request))? {
                    return Ok(taken);
                }
            }
        }
        Err(PickError::NoServer)
    }

    /// True when policies see this server.
    pub(super) fn shows(&self, server: ServerId) -> bool {
        self.tiers.iter().any(|tier| tier.set.servers.iter().any(|shown| shown.id == server))
    }

    /// True when a server that is neither `tried`, suspect nor `this` one could be picked.
    pub fn is_another_open(&self, client: SocketAddr, tried: &[ServerId], this: ServerId) -> bool {
        let question = Question { client, tried, now_ms: 0, random: 0 };
        self.tiers.iter().any(|tier| {
            let request = self.request(tier, question, Avoided::DOUBTFUL);
            let others = (0..request.len()).filter(|index| tier.set.servers[*index].id != this);
            others.into_iter().any(|index| request.is_open(index))
        })
    }

    /// Neither pass has found a server. This is rare, so its code is kept out of the hot path.
    #[cold]
    fn named_nobody<T>(
        &self,
        question: Question<'_>,
        take: impl Fn(&PickRequest<'_>, &Arc<Server>, Option<Epoch>) -> Option<T>,
    ) -> Result<T, PickError> {
        let is_any_open = |request: &PickRequest<'_>| (0..request.len()).any(|index| request.is_open(index));
        let requests = || self.tiers.iter().map(|tier| (tier, self.request(tier, question, Avoided::EJECTED)));
        let Some((tier, request)) = requests().find(|(_, request)| is_any_open(request)) else {
            return Err(PickError::NoServer);
        };
        match tier.pick(&request, &take, |policy| policy.named_nobody(&request))? {
            Some(taken) => Ok(taken),
            // It may have filled up meanwhile.
            None if requests().any(|(_, request)| is_any_open(&request)) => Err(PickError::NamedNobody),
            None => Err(PickError::NoServer),
        }
    }

    fn request<'a>(&self, tier: &'a Tier, question: Question<'a>, avoided: Avoided) -> PickRequest<'a> {
        let Question { client, tried, now_ms, random } = question;
        PickRequest {
            client,
            group: self.settings.listen.port(),
            attempt: tried.len() as u32,
            servers: &tier.set,
            tried,
            avoided,
            now_ms,
            random,
        }
    }
}

impl Tier {
    /// Asks the policy, and asks again while other sessions take the last place on the server it picks.
    fn pick<T>(
        &self,
        request: &PickRequest<'_>,
        take: impl Fn(&PickRequest<'_>, &Arc<Server>, Option<Epoch>) -> Option<T>,
        ask: impl Fn(&dyn IBalancePolicy) -> Option<Picked>,
    ) -> Result<Option<T>, PickError> {
        for _ in 0..=request.len() {
            let Some(Picked { index, epoch }) = ask(&*self.policy) else { return Ok(None) };
            // The one place where an answer is checked.
            let Some(server) = self.set.servers.get(index) else { return Err(PickError::BadAnswer) };
            if let Some(taken) = take(request, server, epoch) {
                // The place is taken, so the server is not full. It may be suspect by now, which is no bad answer.
                return match request.tried.contains(&server.id) {
                    true => Err(PickError::BadAnswer),
                    false => Ok(Some(taken)),
                };
            }
        }
        Ok(None)
    }
}
