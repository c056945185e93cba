//! The policy that was recorded, asked again.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use super::notes::{Notes, Problem, ReplayError};
use super::survey::Survey;
use crate::policy::follow::{mirrored, request};
use crate::policy::recorded::{Asked, Epochs, Mirror, Note, PickNumber, Reported, Servers};
use crate::policy::spec::{BuiltInName, PolicySpec};
use crate::policy::wasm::source::Limits;
use crate::policy::wasm::trial::{ReplayedModule, Trial};
use crate::policy::{Birth, IBalancePolicy, InstanceChange, Overseer, ServerSet, built_in};

/// Servers that are shown beside a difference.
pub(super) const HELD_MAX: usize = 10;

/// What came of a repetition.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Repeated {
    /// Questions.
    pub picks: u64,
    /// Answers that were others.
    pub differ: u64,
    /// The first of those.
    pub first: Option<Difference>,
}

/// An answer that is another than the recorded one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The number of the question, from 1 on.
    pub pick: u64,
    /// Who asked.
    pub client: SocketAddr,
    /// Sessions that servers held, of the first ten.
    pub held: Vec<(String, u32)>,
    /// The server as recorded; `None` for nobody.
    pub was: Option<String>,
    /// The server that would be picked.
    pub would_be: Option<String>,
}

/// Asks the policy that was recorded the same again.
///
/// # Errors
///
/// The recording cannot be read or makes no sense, or its module cannot be used.
pub fn repeat(path: &Path, survey: &Survey) -> Result<Repeated, ReplayError> {
    run(path, survey).map_err(|problem| problem.of(path))
}

fn run(path: &Path, survey: &Survey) -> Result<Repeated, Problem> {
    let mut notes = Notes::open(path)?;
    let mut again: Option<Again> = None;
    let mut module = None;
    while let Some(note) = notes.next()? {
        match note {
            Note::About(_) => {}
            Note::Module(name, bytes) => module = Some((name, bytes)),
            note => {
                let again = match &mut again {
                    Some(again) => again,
                    None => again.insert(Again::new(survey, module.take())?),
                };
                again.take(note)?.ok_or_else(|| notes.damaged())?;
            }
        }
    }
    Ok(again.map(|again| again.result).unwrap_or_default())
}

/// What the instances of a replayed module are shown besides requests.
#[derive(Default)]
struct Given {
    now_ms: AtomicU64,
    birth: Mutex<Option<Birth>>,
}

impl Overseer for Given {
    fn birth(&self) -> Birth {
        let given = *self.birth.lock().unwrap_or_else(PoisonError::into_inner);
        given.unwrap_or(Birth { now_ms: 0, seed: 0 })
    }

    fn now_ms(&self) -> u64 {
        self.now_ms.load(Relaxed)
    }

    fn change(&self, change: &mut dyn FnMut() -> Option<InstanceChange>) {
        change();
    }

    fn ran_out_of_time(&self, _: bool) {}
}

/// A set of servers and the policy prepared for it.
type Prepared = (Arc<ServerSet>, Arc<dyn IBalancePolicy>);

/// A policy that is asked again.
struct Again<'s> {
    survey: &'s Survey,
    policy: Arc<dyn IBalancePolicy>,
    module: Option<(Trial, ReplayedModule)>,
    given: Arc<Given>,
    mirror: Mirror,
    sets: HashMap<u32, Prepared>,
    epochs: Epochs,
    /// Picks that named a server.
    answered: u64,
    result: Repeated,
}

impl<'s> Again<'s> {
    fn new(survey: &'s Survey, file: Option<(String, Vec<u8>)>) -> Result<Self, Problem> {
        let given = Arc::new(Given::default());
        let spec = survey.about.spec().map_err(Problem::Policy)?;
        let (policy, module) = match &spec {
            PolicySpec::BuiltIn(name) => (made(name), None),
            PolicySpec::Module(spec) => {
                let (name, bytes) = file.ok_or(Problem::Headless)?;
                let limits = Limits { file_bytes_max: u64::MAX, compile_budget: spec.compile_budget };
                let trial = Trial::of_bytes(&name, bytes, limits)?;
                let module = trial.replayed(spec, survey.about.port, Arc::clone(&given) as _);
                (module.policy(), Some((trial, module)))
            }
        };
        Ok(Self {
            survey,
            policy,
            module,
            given,
            mirror: Mirror::default(),
            sets: HashMap::new(),
            epochs: Epochs::default(),
            answered: 0,
            result: Repeated::default(),
        })
    }

    /// Does what a note says; `None` when it makes no sense.
    fn take(&mut self, note: Note) -> Result<Option<()>, Problem> {
        match note {
            Note::Servers(servers) => self.prepare(servers),
            Note::Gone(set) => _ = self.sets.remove(&set),
            Note::Facts(changes) => changes.iter().for_each(|(id, facts)| self.mirror.set_facts(*id, *facts)),
            Note::Pick(asked) => return Ok(self.ask(&asked)),
            Note::Report(report) => self.report(&report),
            Note::Instance(is_backup, birth) => {
                let Some((_, module)) = &self.module else { return Ok(None) };
                *self.given.birth.lock().unwrap_or_else(PoisonError::into_inner) = Some(birth);
                module.instance_comes(is_backup)?;
            }
            Note::RanOut(is_backup) => {
                let Some((_, module)) = &self.module else { return Ok(None) };
                module.time_runs_out(is_backup);
            }
            Note::End(_) | Note::About(_) | Note::Module(..) => {}
        }
        Ok(Some(()))
    }

    fn prepare(&mut self, servers: Servers) {
        self.given.now_ms.store(servers.now_ms, Relaxed);
        self.mirror.forget();
        let (set, is_last_resort) = (servers.set, servers.is_last_resort);
        let servers = Arc::new(mirrored(&servers, &mut self.mirror));
        let policy = match is_last_resort {
            false => self.policy.for_servers(&servers),
            true => self.policy.for_last_resort(&servers),
        };
        self.sets.insert(set, (servers, policy));
    }

    fn ask(&mut self, asked: &Asked) -> Option<()> {
        self.given.now_ms.store(asked.now_ms, Relaxed);
        let (servers, policy) = self.sets.get(&asked.set)?;
        let request = request(asked, servers);
        let picked = match asked.named_nobody {
            false => policy.pick(&request),
            true => policy.named_nobody(&request),
        };
        let (was, would_be) = (asked.answer, picked.map(|picked| picked.index as u32));
        self.result.picks += 1;
        if was != would_be {
            self.result.differ += 1;
            let addr = |index: Option<u32>| Some(self.survey.name(servers.servers.get(index? as usize)?.id));
            self.result.first.get_or_insert_with(|| Difference {
                pick: self.result.picks,
                client: asked.client,
                held: held(servers),
                was: addr(was),
                would_be: addr(would_be),
            });
        }
        if was.is_some() {
            // Which pick a report means, the recording decides.
            self.epochs.give(self.answered, servers.backup, picked.and_then(|picked| picked.epoch));
            self.answered += 1;
        }
        Some(())
    }

    fn report(&self, report: &Reported) {
        let Some((servers, policy)) = self.sets.get(&report.set) else { return };
        let pick = PickNumber { number: report.pick, is_heard: report.is_heard };
        if let Some(epoch) = self.epochs.inside(pick, servers.backup) {
            policy.report(epoch, report.server, report.outcome);
        }
    }
}

/// A built-in policy.
fn made(name: &BuiltInName) -> Arc<dyn IBalancePolicy> {
    built_in::make(name).expect("it is a name of the table")
}

/// The first servers of a set, and the sessions that each held.
fn held(servers: &ServerSet) -> Vec<(String, u32)> {
    let first = servers.servers.iter().take(HELD_MAX);
    first.map(|server| (server.settings.addr.to_string(), server.live.sessions())).collect()
}
