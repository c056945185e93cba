//! Answers that are followed, session by session.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::books::Books;
use super::servers::{mirrored, request};
use crate::policy::balance::{Epoch, IBalancePolicy, Outcome, Picked, ServerSet};
use crate::policy::recorded::{Asked, Mirror, Reported, Servers};
use crate::server::{Facts, ServerId};

/// Policies are shown times that are later by this: a module was told its servers by the clock of this machine, which may be
/// ahead of that of the notes. Of connect times only the low bits of a time count.
const LATER_MS: u64 = 1 << 40;

/// Sessions that have not been connected for so long since they asked are taken to be gone: their clients have left, or every
/// server failed, and nobody tells.
const UNHEARD_MS: u64 = 600_000;

/// Between two looks for those.
const SWEEP_MS: u64 = 60_000;

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Sessions that were given a server.
    pub sessions: u64,
    /// Of these, those that would have been given another one.
    pub differ: u64,
    /// Sessions to which nobody is named.
    pub nobody: u64,
    /// Sessions that are over.
    pub ended: u64,
    /// How often the policy was asked.
    pub asked: u64,
}

/// A session that would have been given another server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Differing {
    /// The number of its pick, from 1 on.
    pub pick: u64,
    /// Who asked.
    pub client: SocketAddr,
    /// Sessions that servers held, by the books.
    pub held: Vec<(ServerId, u32)>,
    /// The server that it was given.
    pub was: ServerId,
    /// The one that it would have been given.
    pub would_be: Option<ServerId>,
}

/// A set of servers, and the policy prepared for it.
#[derive(Clone)]
struct Prepared {
    servers: Arc<ServerSet>,
    policy: Option<Arc<dyn IBalancePolicy>>,
}

/// A session on its way.
struct Session {
    client: SocketAddr,
    /// Of the question under way: several are asked until somebody names a server.
    random: u64,
    /// Where it is by the answers that are followed; and who is to hear of it.
    at: Option<(ServerId, Option<Epoch>, Prepared)>,
    is_compared: bool,
    is_connected: bool,
    /// When it asked last, and the pick that it was given.
    asked_ms: u64,
    pick: Option<u64>,
}

/// Answers that are followed, and what comes of that.
pub struct Following {
    /// `None`: the answers that were given.
    policy: Option<Arc<dyn IBalancePolicy>>,
    sets: HashMap<u32, Prepared>,
    mirror: Mirror,
    facts: HashMap<ServerId, Facts>,
    books: Books,
    /// By a number of our own.
    sessions: HashMap<u64, Session>,
    /// The last session of a client.
    by_client: HashMap<SocketAddr, u64>,
    /// The session of a pick.
    by_pick: HashMap<u64, u64>,
    /// When sessions that are gone were looked for.
    swept_ms: u64,
    came: u64,
    counts: Counts,
    first: Option<Differing>,
}

impl Following {
    /// Follows the answers that were given.
    pub fn given() -> Self {
        Self::new(None)
    }

    /// Follows the answers of this policy, which is prepared for no servers.
    pub fn of(policy: Arc<dyn IBalancePolicy>) -> Self {
        Self::new(Some(policy))
    }

    fn new(policy: Option<Arc<dyn IBalancePolicy>>) -> Self {
        Self {
            policy,
            sets: HashMap::new(),
            mirror: Mirror::default(),
            facts: HashMap::new(),
            books: Books::default(),
            sessions: HashMap::new(),
            by_client: HashMap::new(),
            by_pick: HashMap::new(),
            swept_ms: 0,
            came: 0,
            counts: Counts::default(),
            first: None,
        }
    }

    /// Where sessions are.
    pub fn books(&self) -> &Books {
        &self.books
    }

    /// The same, to take samples.
    pub fn books_mut(&mut self) -> &mut Books {
        &mut self.books
    }

    /// What was counted.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The first session that would have been given another server.
    pub fn first(&self) -> Option<&Differing> {
        self.first.as_ref()
    }

    /// The policy is prepared for these servers.
    pub fn prepare(&mut self, noted: &Servers) {
        self.books.show(noted);
        self.mirror.forget();
        let servers = Arc::new(mirrored(noted, &mut self.mirror));
        noted.servers.iter().for_each(|server| self.learn(server.id, server.facts));
        let policy = self.policy.as_ref().map(|policy| match noted.is_last_resort {
            true => policy.for_last_resort(&servers),
            false => policy.for_servers(&servers),
        });
        self.sets.insert(noted.set, Prepared { servers, policy });
    }

    /// Servers are asked about no more.
    pub fn forget(&mut self, set: u32) {
        self.sets.remove(&set);
    }

    /// What is known of a server; its sessions are those of the books.
    pub fn learn(&mut self, id: ServerId, facts: Facts) {
        self.facts.insert(id, facts);
        self.show(id, self.books.held(id));
    }

    fn show(&self, id: ServerId, sessions: u32) {
        let facts = self.facts.get(&id).copied().unwrap_or_default();
        self.mirror.set_facts(id, Facts { sessions, ..facts });
    }

    /// A question that was asked, and its pick's number, if somebody was named. `None` when it makes no sense.
    pub fn ask(&mut self, asked: &Asked, pick: Option<u64>) -> Option<()> {
        self.sweep(asked.now_ms);
        let prepared = self.sets.get(&asked.set)?.clone();
        let was = match asked.answer {
            None => None,
            Some(index) => Some(prepared.servers.servers.get(index as usize)?.id),
        };
        let number = self.session_of(asked);
        let is_somewhere = self.sessions.get(&number).is_some_and(|session| session.at.is_some());
        if !is_somewhere && let Some((id, epoch)) = self.answer(asked, was, &prepared) {
            let sessions = self.books.come(id);
            self.show(id, sessions);
            self.sessions.get_mut(&number)?.at = Some((id, epoch, prepared.clone()));
        }
        if let Some((was, pick)) = was.zip(pick) {
            self.by_pick.insert(pick, number);
            self.sessions.get_mut(&number)?.pick = Some(pick);
            self.compare(asked, (number, pick), was, &prepared);
        }
        Some(())
    }

    /// The session that asks: a new one, or one that asks again.
    fn session_of(&mut self, asked: &Asked) -> u64 {
        let known = self.by_client.get(&asked.client).copied();
        let asks_again = |session: &Session| session.random == asked.random || !asked.tried.is_empty();
        if let Some(number) = known
            && let Some(session) = self.sessions.get_mut(&number).filter(|session| asks_again(session))
        {
            session.asked_ms = asked.now_ms;
            return number;
        }
        self.came += 1;
        let number = self.came;
        let (client, random) = (asked.client, asked.random);
        let (at, pick, asked_ms) = (None, None, asked.now_ms);
        let session = Session { client, random, at, is_compared: false, is_connected: false, asked_ms, pick };
        self.sessions.insert(number, session);
        if let Some(before) = self.by_client.insert(asked.client, number) {
            // One that was refused is remembered by nobody else.
            let is_nowhere = |session: &Session| session.at.is_none() && !session.is_compared;
            if self.sessions.get(&before).is_some_and(is_nowhere) {
                self.sessions.remove(&before);
            }
        }
        number
    }

    fn answer(
        &mut self,
        asked: &Asked,
        was: Option<ServerId>,
        prepared: &Prepared,
    ) -> Option<(ServerId, Option<Epoch>)> {
        let Some(policy) = &prepared.policy else { return was.map(|was| (was, None)) };
        let mut request = request(asked, &prepared.servers);
        request.now_ms += LATER_MS;
        self.counts.asked += 1;
        let picked = match asked.named_nobody {
            false => policy.pick(&request),
            true => policy.named_nobody(&request),
        };
        let Picked { index, epoch } = picked?;
        Some((prepared.servers.servers.get(index)?.id, epoch))
    }

    /// The question was answered with the server `was`.
    fn compare(&mut self, asked: &Asked, (number, pick): (u64, u64), was: ServerId, prepared: &Prepared) {
        let Some(session) = self.sessions.get_mut(&number) else { return };
        let is_first = asked.tried.is_empty() && !std::mem::replace(&mut session.is_compared, true);
        let would_be = session.at.as_ref().map(|(id, ..)| *id);
        if !is_first {
            return;
        }
        self.counts.sessions += 1;
        if would_be != Some(was) {
            self.counts.differ += 1;
            let held = prepared.servers.servers.iter().map(|server| (server.id, server.live.sessions()));
            let client = asked.client;
            self.first.get_or_insert_with(|| Differing { pick: pick + 1, client, held: held.collect(), was, would_be });
        }
    }

    /// What became of a pick.
    pub fn report(&mut self, report: &Reported) {
        let Some(session) = self.by_pick.get(&report.pick).and_then(|number| self.sessions.get_mut(number)) else {
            return;
        };
        match report.outcome {
            Outcome::Connected { .. } => {
                session.is_connected = true;
                if let Some((id, epoch, prepared)) = &session.at {
                    tell(prepared, *epoch, *id, report.outcome);
                }
            }
            // Whoever named another server is taken to have had an answer.
            Outcome::Failed => {
                self.by_pick.remove(&report.pick);
                let is_there = session.at.as_ref().is_some_and(|(id, ..)| *id == report.server);
                if is_there && let Some((id, epoch, prepared)) = session.at.take() {
                    tell(&prepared, epoch, id, report.outcome);
                    let sessions = self.books.leave(id);
                    self.show(id, sessions);
                }
            }
            Outcome::Closed { .. } => self.leave(report.pick, Some(report.outcome)),
        }
    }

    /// The session of a pick is over; nobody says how, if it was never connected.
    pub fn leave(&mut self, pick: u64, outcome: Option<Outcome>) {
        if let Some(number) = self.by_pick.remove(&pick) {
            self.remove(number, outcome);
        }
    }

    fn remove(&mut self, number: u64, outcome: Option<Outcome>) {
        let Some(session) = self.sessions.remove(&number) else { return };
        self.counts.ended += 1;
        if self.by_client.get(&session.client) == Some(&number) {
            self.by_client.remove(&session.client);
        }
        let Some((id, epoch, prepared)) = session.at else {
            self.counts.nobody += 1;
            return;
        };
        outcome.iter().for_each(|outcome| tell(&prepared, epoch, id, *outcome));
        let sessions = self.books.leave(id);
        self.show(id, sessions);
    }

    /// Forgets sessions that are gone without a word.
    fn sweep(&mut self, now_ms: u64) {
        if now_ms < self.swept_ms + SWEEP_MS {
            return;
        }
        self.swept_ms = now_ms;
        let is_gone = |session: &Session| !session.is_connected && session.asked_ms + UNHEARD_MS < now_ms;
        let gone: Vec<u64> = self.sessions.iter().filter(|(_, it)| is_gone(it)).map(|(number, _)| *number).collect();
        for number in gone {
            match self.sessions.get(&number).and_then(|session| session.pick) {
                Some(pick) if self.by_pick.contains_key(&pick) => self.leave(pick, None),
                _ => self.remove(number, None),
            }
        }
    }

    /// Sessions that never got a server and are not over.
    pub fn nowhere(&self) -> u64 {
        self.sessions.values().filter(|session| session.at.is_none() && session.is_compared).count() as u64
    }
}

/// Tells a policy what became of its pick, if it wants to hear.
fn tell(prepared: &Prepared, epoch: Option<Epoch>, id: ServerId, outcome: Outcome) {
    if let (Some(policy), Some(epoch)) = (&prepared.policy, epoch) {
        policy.report(epoch, id, outcome);
    }
}
