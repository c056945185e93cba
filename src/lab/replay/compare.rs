//! Another policy, asked what the recorded one was asked.
//!
//! The other policy sees the recorded servers, suspicion and connect times, and sessions by books of its own. A session
//! lasts as long as it did. Where the recorded policy's server failed and the other one had named it too, the other one is
//! asked again as well; where it had named another, that is taken to have answered. The recorded policy gets books of the
//! same kind, so both are measured alike.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use super::books::Books;
use super::notes::{Notes, Problem, ReplayError};
use super::repeat::{Difference, held, mirrored, request};
use super::survey::Survey;
use crate::lab::figures::Spread;
use crate::lab::subject::Subject;
use crate::policy::recorded::{Asked, Mirror, Note, Reported, Servers};
use crate::policy::wasm::trial::TrialPolicy;
use crate::policy::{Epoch, IBalancePolicy, Outcome, Picked, ServerSet};
use crate::server::{Facts, ServerId};

/// What a module draws before its first pick follows from this.
const SEED: u64 = 1;

/// Policies are shown times that are later by this: a module was told its servers by the clock of this machine, which may be
/// ahead of that of the recording. Of connect times only the low bits of a time count.
const LATER_MS: u64 = 1 << 40;

/// The recorded policy and others.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The servers, in the order of the lists of each policy.
    pub servers: Vec<String>,
    /// The recorded policy first.
    pub policies: Vec<Compared>,
}

/// How one policy did, or would have done.
#[derive(Clone, Debug, Serialize)]
pub struct Compared {
    /// What it is called.
    pub policy: String,
    /// The hash of a module's file.
    pub sha256: Option<String>,
    /// Sessions that got a server when this was recorded.
    pub sessions: u64,
    /// Of these, those that would have got another one.
    pub differ: u64,
    /// The first of those.
    pub first: Option<Difference>,
    /// Sessions to which it names nobody.
    pub nobody: u64,
    /// The fullest server as a multiple of the mean, by weight, over time.
    pub busiest_over_mean: Spread,
    /// Jain's index, the mean over time.
    pub jain: f64,
    /// The deviation between servers as a part of the mean, the mean over time.
    pub cov: f64,
    /// The part of the sessions that each server got.
    pub share: Vec<f64>,
    /// False when the recording is too short for the figures above.
    pub is_measured: bool,
    /// Calls of a module that failed. After the first, its fallback answers.
    pub faults: u64,
    /// How the last fault was.
    pub last_fault: Option<String>,
    /// Sessions of each server, at 200 moments.
    pub series: Vec<Vec<u32>>,
}

/// Asks each of these policies what was recorded.
///
/// # Errors
///
/// The recording cannot be read or makes no sense, or a module cannot be started.
pub fn compare(path: &Path, survey: &Survey, subjects: &[Subject]) -> Result<Comparison, ReplayError> {
    let run = || {
        let mut policies = vec![Following::new(survey, None)?.run(path)?];
        for subject in subjects {
            policies.push(Following::new(survey, Some(subject))?.run(path)?);
        }
        let servers = survey.servers.iter().map(|(_, addr)| addr.clone()).collect();
        Ok(Comparison { servers, policies })
    };
    run().map_err(|problem: Problem| problem.of(path))
}

/// Whose answers are followed.
enum Whose {
    /// Those that were recorded.
    Recorded,
    /// Those of this policy.
    Of { policy: Arc<dyn IBalancePolicy>, module: Option<TrialPolicy> },
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
}

/// Answers that are followed, and what comes of that.
struct Following<'s> {
    survey: &'s Survey,
    whose: Whose,
    sets: HashMap<u32, Prepared>,
    mirror: Mirror,
    facts: HashMap<ServerId, Facts>,
    books: Books,
    /// By a number of our own.
    sessions: HashMap<u64, Session>,
    /// The last session of a client.
    by_client: HashMap<SocketAddr, u64>,
    /// The session of a recorded pick.
    by_pick: HashMap<u64, u64>,
    /// Recorded picks that named a server.
    answered: u64,
    came: u64,
    result: Compared,
}

impl<'s> Following<'s> {
    fn new(survey: &'s Survey, subject: Option<&Subject>) -> Result<Self, Problem> {
        let (policy, sha256) = match subject {
            None => (survey.about.policy.clone(), None),
            Some(subject) => (subject.name.clone(), subject.sha256()),
        };
        let whose = match subject {
            None => Whose::Recorded,
            Some(subject) => {
                let (policy, module) = subject.make(SEED)?;
                Whose::Of { policy, module }
            }
        };
        let result = Compared {
            policy,
            sha256,
            sessions: 0,
            differ: 0,
            first: None,
            nobody: 0,
            busiest_over_mean: Spread::default(),
            jain: 0.0,
            cov: 0.0,
            share: Vec::new(),
            is_measured: false,
            faults: 0,
            last_fault: None,
            series: Vec::new(),
        };
        Ok(Self {
            survey,
            whose,
            sets: HashMap::new(),
            mirror: Mirror::default(),
            facts: HashMap::new(),
            books: Books::new(survey),
            sessions: HashMap::new(),
            by_client: HashMap::new(),
            by_pick: HashMap::new(),
            answered: 0,
            came: 0,
            result,
        })
    }

    fn run(mut self, path: &Path) -> Result<Compared, Problem> {
        let mut notes = Notes::open(path)?;
        while let Some(note) = notes.next()? {
            match note {
                Note::Servers(servers) => self.prepare(servers),
                Note::Gone(set) => _ = self.sets.remove(&set),
                Note::Facts(changes) => changes.iter().for_each(|(id, facts)| self.learn(*id, *facts)),
                Note::Pick(asked) => self.take(&asked).ok_or_else(|| notes.damaged())?,
                Note::Report(report) => self.report(&report),
                Note::About(_) | Note::Module(..) | Note::Instance(..) | Note::RanOut(_) | Note::End(_) => {}
            }
        }
        Ok(self.end())
    }

    fn end(mut self) -> Compared {
        self.books.until(self.survey.first_ms + self.survey.lasted_ms);
        let served: u64 = self.books.served.iter().sum();
        let result = &mut self.result;
        let is_nowhere = |session: &&Session| session.at.is_none() && session.is_compared;
        result.nobody += self.sessions.values().filter(is_nowhere).count() as u64;
        result.busiest_over_mean = self.books.busiest.spread();
        (result.jain, result.cov) = (self.books.jain.mean(), self.books.cov.mean());
        result.share = self.books.served.iter().map(|count| *count as f64 / served.max(1) as f64).collect();
        result.is_measured = !self.books.busiest.is_empty();
        result.series = self.books.series;
        if let Whose::Of { module: Some(module), .. } = &self.whose {
            result.faults = module.counters().faults_total();
            result.last_fault = module.last_fault();
        }
        self.result
    }

    fn prepare(&mut self, servers: Servers) {
        self.books.show(&servers);
        self.mirror.forget();
        let set = servers.set;
        let is_last_resort = servers.is_last_resort;
        let facts: Vec<(ServerId, Facts)> = servers.servers.iter().map(|server| (server.id, server.facts)).collect();
        let servers = Arc::new(mirrored(servers, &mut self.mirror));
        facts.into_iter().for_each(|(id, facts)| self.learn(id, facts));
        let policy = match &self.whose {
            Whose::Recorded => None,
            Whose::Of { policy, .. } if is_last_resort => Some(policy.for_last_resort(&servers)),
            Whose::Of { policy, .. } => Some(policy.for_servers(&servers)),
        };
        self.sets.insert(set, Prepared { servers, policy });
    }

    /// What is known of a server; its sessions are those of the books.
    fn learn(&mut self, id: ServerId, facts: Facts) {
        self.facts.insert(id, facts);
        self.show(id, self.books.held(id));
    }

    fn show(&self, id: ServerId, sessions: u32) {
        let facts = self.facts.get(&id).copied().unwrap_or_default();
        self.mirror.set_facts(id, Facts { sessions, ..facts });
    }

    /// A recorded question; `None` when it makes no sense.
    fn take(&mut self, asked: &Asked) -> Option<()> {
        self.books.until(asked.now_ms);
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
        if let Some(was) = was {
            self.recorded(asked, number, was, &prepared);
        }
        Some(())
    }

    /// The session that asks: a new one, or one that asks again.
    fn session_of(&mut self, asked: &Asked) -> u64 {
        let known = self.by_client.get(&asked.client).copied();
        let known = known.filter(|number| {
            let session = self.sessions.get(number);
            session.is_some_and(|session| session.random == asked.random || !asked.tried.is_empty())
        });
        if let Some(number) = known {
            return number;
        }
        self.came += 1;
        let number = self.came;
        let session = Session { client: asked.client, random: asked.random, at: None, is_compared: false };
        self.sessions.insert(number, session);
        if let Some(before) = self.by_client.insert(asked.client, number) {
            // One that was refused is remembered by nobody else.
            let is_nowhere =
                self.sessions.get(&before).is_some_and(|session| session.at.is_none() && !session.is_compared);
            if is_nowhere {
                self.sessions.remove(&before);
            }
        }
        number
    }

    fn answer(&self, asked: &Asked, was: Option<ServerId>, prepared: &Prepared) -> Option<(ServerId, Option<Epoch>)> {
        let Some(policy) = &prepared.policy else { return was.map(|was| (was, None)) };
        let mut request = request(asked, &prepared.servers);
        request.now_ms += LATER_MS;
        let picked = match asked.named_nobody {
            false => policy.pick(&request),
            true => policy.named_nobody(&request),
        };
        let Picked { index, epoch } = picked?;
        Some((prepared.servers.servers.get(index)?.id, epoch))
    }

    /// When this was recorded, the question was answered with this server.
    fn recorded(&mut self, asked: &Asked, number: u64, was: ServerId, prepared: &Prepared) {
        let pick = self.answered;
        self.answered += 1;
        let Some(session) = self.sessions.get_mut(&number) else { return };
        let is_first = asked.tried.is_empty() && !std::mem::replace(&mut session.is_compared, true);
        let at = session.at.as_ref().map(|(id, ..)| *id);
        if is_first {
            self.result.sessions += 1;
            if at != Some(was) {
                self.result.differ += 1;
                self.result.first.get_or_insert_with(|| Difference {
                    pick: pick + 1,
                    client: asked.client,
                    held: held(&prepared.servers),
                    was: Some(self.survey.name(was)),
                    would_be: at.map(|at| self.survey.name(at)),
                });
            }
        }
        self.by_pick.insert(pick, number);
        if self.survey.abandoned.contains(&pick) {
            self.leave(pick, None);
        }
    }

    fn report(&mut self, report: &Reported) {
        match report.outcome {
            Outcome::Connected { .. } => self.tell(report.pick, report.outcome),
            Outcome::Failed => {
                let Some(session) = self.by_pick.get(&report.pick).and_then(|number| self.sessions.get_mut(number))
                else {
                    return;
                };
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

    fn tell(&self, pick: u64, outcome: Outcome) {
        let session = self.by_pick.get(&pick).and_then(|number| self.sessions.get(number));
        if let Some((id, epoch, prepared)) = session.and_then(|session| session.at.as_ref()) {
            tell(prepared, *epoch, *id, outcome);
        }
    }

    /// The session of a pick is over.
    fn leave(&mut self, pick: u64, outcome: Option<Outcome>) {
        let Some(number) = self.by_pick.remove(&pick) else { return };
        let Some(session) = self.sessions.remove(&number) else { return };
        if self.by_client.get(&session.client) == Some(&number) {
            self.by_client.remove(&session.client);
        }
        let Some((id, epoch, prepared)) = session.at else {
            self.result.nobody += 1;
            return;
        };
        outcome.iter().for_each(|outcome| tell(&prepared, epoch, id, *outcome));
        let sessions = self.books.leave(id);
        self.show(id, sessions);
    }
}

/// Tells a policy what became of its pick, if it wants to hear.
fn tell(prepared: &Prepared, epoch: Option<Epoch>, id: ServerId, outcome: Outcome) {
    if let (Some(policy), Some(epoch)) = (&prepared.policy, epoch) {
        policy.report(epoch, id, outcome);
    }
}
