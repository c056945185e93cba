//! Which server a client would get now, and why not the others.
//!
//! The answer comes from the function that serves clients, [`Snapshot::find`], with two differences: the policy is a
//! rehearsal, and no place on a server is taken. So asking changes nothing, and this module decides nothing: it only
//! says what `find` met. Servers become full or suspect at any moment, so the answer holds for now only.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::Group;
use super::offline::Offline;
use super::snapshot::{PickError, Question, Snapshot};
use super::view::Candidate;
use crate::base::clock;
use crate::policy::built_in;
use crate::policy::spec::PolicySpec;
use crate::policy::{Epoch, PickRequest, RehearsalError};
use crate::server::{Avoided, Server, ServerAddr, ServerId};

/// Which server a client would get, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// The server's address, or why there is none.
    pub server: Result<String, PickError>,
    /// The policy as configured.
    pub policy: PolicySpec,
    /// Every server of the group, in order.
    pub candidates: Vec<Candidate>,
    /// What else one should know to read the answer.
    pub notes: Vec<String>,
}

/// Why nothing can be explained.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExplainError {
    /// A server named as tried, or to be thought away, is not in the group.
    #[error("no server {0}")]
    ServerNotFound(ServerAddr),
    /// The policy cannot be asked without side effects.
    #[error("cannot rehearse the policy: {0}")]
    CannotRehearse(#[from] RehearsalError),
}

/// The server that would be picked, and in which pass.
struct Chosen {
    server: Arc<Server>,
    avoided: Avoided,
    was_backup: bool,
}

/// The group at one moment.
struct Seen {
    snapshot: Arc<Snapshot>,
    /// Every server, and why it is not shown to the policy.
    servers: Vec<(Arc<Server>, Option<Offline>)>,
    /// The ids of those that were tried.
    tried: Vec<ServerId>,
    /// The ids of those that are to be thought away.
    without: Vec<ServerId>,
}

impl Group {
    /// Says which server `client` would get now if it had tried these servers, and for each other server why not.
    ///
    /// Changes nothing. A policy in WebAssembly runs, up to its deadline.
    ///
    /// # Errors
    ///
    /// See [`ExplainError`].
    pub fn explain(&self, client: SocketAddr, tried: &[ServerAddr]) -> Result<Explanation, ExplainError> {
        self.explain_without(client, tried, &[])
    }

    /// The same as if the servers `without` were not in the group: who moves when they go.
    ///
    /// # Errors
    ///
    /// See [`ExplainError`].
    pub fn explain_without(
        &self,
        client: SocketAddr,
        tried: &[ServerAddr],
        without: &[ServerAddr],
    ) -> Result<Explanation, ExplainError> {
        let seen = self.see(tried, without)?;
        self.explain_seen(seen, client, clock::coarse_ms(), fastrand::u64(..))
    }

    #[cfg(test)]
    fn explain_at(
        &self,
        client: SocketAddr,
        tried: &[ServerAddr],
        now_ms: u64,
        random: u64,
    ) -> Result<Explanation, ExplainError> {
        self.explain_seen(self.see(tried, &[])?, client, now_ms, random)
    }

    fn explain_seen(
        &self,
        seen: Seen,
        client: SocketAddr,
        now_ms: u64,
        random: u64,
    ) -> Result<Explanation, ExplainError> {
        let Seen { snapshot, servers, tried, without } = seen;
        let question = Question { client, tried: &tried, now_ms, random };
        let rehearsal = snapshot.rehearsal_without(&without)?;
        let choose = |request: &PickRequest<'_>, server: &Arc<Server>, _: Option<Epoch>| {
            (!server.is_full()).then(|| Chosen {
                server: Arc::clone(server),
                avoided: request.avoided,
                was_backup: request.servers.backup,
            })
        };
        let found = match rehearsal.find(question, choose) {
            Err(PickError::NoServer) => rehearsal.find_last_resort(question, choose),
            found => found,
        };
        let candidates = servers.iter().map(|(server, offline)| {
            let (eligible, why) = match without.contains(&server.id) {
                true => (false, "without: thought away".to_owned()),
                false => why(server, offline.as_ref(), &found, question),
            };
            Candidate { addr: server.settings.addr.to_string(), eligible, why }
        });
        Ok(Explanation {
            candidates: candidates.collect(),
            policy: snapshot.settings.policy.clone(),
            notes: self.notes(&snapshot, rehearsal.tiers[0].policy.name(), question),
            server: found.map(|chosen| chosen.server.settings.addr.to_string()),
        })
    }

    /// Under the lock, so that the snapshot and the list of servers agree.
    fn see(&self, tried: &[ServerAddr], without: &[ServerAddr]) -> Result<Seen, ExplainError> {
        let members = self.members();
        let ids = |addrs: &[ServerAddr]| {
            let mut ids = Vec::with_capacity(addrs.len());
            for addr in addrs {
                let id = members.id_of(addr).ok_or_else(|| ExplainError::ServerNotFound(addr.clone()))?;
                if !ids.contains(&id) {
                    ids.push(id);
                }
            }
            Ok::<_, ExplainError>(ids)
        };
        let (tried, without) = (ids(tried)?, ids(without)?);
        let servers = members.all().map(|(server, offline)| (Arc::clone(server), offline)).collect();
        Ok(Seen { snapshot: self.snapshot.load_full(), servers, tried, without })
    }

    /// `asked` is the policy that answered.
    fn notes(&self, snapshot: &Snapshot, asked: &str, question: Question<'_>) -> Vec<String> {
        let settings = &snapshot.settings;
        let mut notes = Vec::new();
        if settings.policy.name() != asked {
            notes.push(format!("the module is not in use now: its fallback {asked} was asked"));
        } else if settings.policy.as_module().is_some() {
            notes.push(
                "a fresh instance of the module was asked, which knows the servers but no earlier client".to_owned(),
            );
        }
        if built_in::describe().iter().any(|known| known.name == asked && known.is_by_chance) {
            notes.push("the policy goes by chance: asked again, it may answer otherwise".to_owned());
        }
        if !settings.open {
            notes.push("the group is closed: no client gets in".to_owned());
        }
        let max = u64::from(settings.max_sessions);
        if max > 0 && self.counters.sessions_active.load(Relaxed) >= max {
            notes.push(format!("the group holds max_sessions = {max} sessions: no client gets in"));
        }
        if snapshot.limits.as_deref().is_some_and(|limits| !limits.lets_in(question.client.ip().to_canonical())) {
            notes.push("the group's deny and allow keep this client out".to_owned());
        }
        if question.tried.len() >= settings.connect_attempts as usize {
            notes.push(format!("a session gives up after connect_attempts = {}", settings.connect_attempts));
        }
        notes
    }
}

/// Whether the policy could have picked this server, and why it did or did not.
fn why(
    server: &Server,
    offline: Option<&Offline>,
    found: &Result<Chosen, PickError>,
    question: Question<'_>,
) -> (bool, String) {
    match (found, offline) {
        (Ok(chosen), _) if chosen.server.id == server.id => (true, "chosen".to_owned()),
        (_, Some(cause)) => (false, format!("offline: {cause}")),
        _ if question.tried.contains(&server.id) => (false, "tried: it did not answer this client".to_owned()),
        _ if server.is_full() => (false, format!("full: {}", Offline::Full(server.settings.max_sessions))),
        (Ok(chosen), _) if server.settings.backup && !chosen.was_backup => {
            (false, "backup: only when no other server will do".to_owned())
        }
        (Ok(_), _) if server.live.is_ejected() => (false, "ejected: it failed too many sessions lately".to_owned()),
        (Ok(chosen), _) if chosen.avoided == Avoided::DOUBTFUL && server.live.is_suspect() => {
            (false, "suspect: the last connect failed, kept out while others are left".to_owned())
        }
        (Ok(_), _) => (true, "not chosen: the policy preferred another".to_owned()),
        (Err(error), _) => (true, format!("not chosen: {error}")),
    }
}

#[cfg(test)]
mod tests;
