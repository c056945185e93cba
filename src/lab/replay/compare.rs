//! Another policy, asked what the recorded one was asked. How is the business of [`follow`](crate::policy::follow).

use std::path::Path;

use serde::Serialize;

use super::notes::{Notes, Problem, ReplayError};
use super::repeat::{Difference, HELD_MAX};
use super::survey::Survey;
use crate::lab::subject::Subject;
use crate::policy::follow::{Differing, Following, Spread};
use crate::policy::recorded::Note;

/// What a module draws before its first pick follows from this.
const SEED: u64 = 1;

/// How often sessions are counted. What comes in the first tenth is not: servers are empty then.
const SAMPLES: u64 = 2_000;

/// How often they are kept for a picture.
const SERIES: u64 = 200;

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
    /// The smallest of these, backups left out; `None` without servers.
    pub smallest_share: Option<f64>,
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
        let mut policies = vec![follow(path, survey, None)?];
        for subject in subjects {
            policies.push(follow(path, survey, Some(subject))?);
        }
        let servers = survey.servers.iter().map(|(_, addr)| addr.clone()).collect();
        Ok(Comparison { servers, policies })
    };
    run().map_err(|problem: Problem| problem.of(path))
}

/// Follows the recorded answers, or those of a policy.
fn follow(path: &Path, survey: &Survey, subject: Option<&Subject>) -> Result<Compared, Problem> {
    let (mut following, module) = match subject {
        None => (Following::given(), None),
        Some(subject) => {
            let (policy, module) = subject.make(SEED)?;
            (Following::of(policy), module)
        }
    };
    let (mut notes, mut moments, mut answered) = (Notes::open(path)?, Moments::default(), 0);
    while let Some(note) = notes.next()? {
        match note {
            Note::Servers(servers) => following.prepare(&servers),
            Note::Gone(set) => following.forget(set),
            Note::Facts(changes) => changes.iter().for_each(|(id, facts)| following.learn(*id, *facts)),
            Note::Pick(asked) => {
                moments.reach(asked.now_ms, survey, &mut following);
                let pick = asked.answer.map(|_| answered);
                following.ask(&asked, pick).ok_or_else(|| notes.damaged())?;
                answered += u64::from(pick.is_some());
                if let Some(pick) = pick.filter(|pick| survey.abandoned.contains(pick)) {
                    following.leave(pick, None);
                }
            }
            Note::Report(report) => following.report(&report),
            Note::About(_) | Note::Module(..) | Note::Instance(..) | Note::RanOut(_) | Note::End(_) => {}
        }
    }
    moments.reach(survey.first_ms + survey.lasted_ms, survey, &mut following);
    let (counts, books) = (following.counts(), following.books());
    Ok(Compared {
        policy: subject.map_or_else(|| survey.about.policy.clone(), |subject| subject.name.clone()),
        sha256: subject.and_then(Subject::sha256),
        sessions: counts.sessions,
        differ: counts.differ,
        first: following.first().map(|first| difference(first, survey)),
        nobody: counts.nobody + following.nowhere(),
        busiest_over_mean: books.busiest.spread(),
        jain: books.jain.mean(),
        cov: books.cov.mean(),
        share: books.shares(),
        smallest_share: books.smallest_share(),
        is_measured: !books.busiest.is_empty(),
        faults: module.as_ref().map_or(0, |module| module.counters().faults_total()),
        last_fault: module.as_ref().and_then(|module| module.last_fault()),
        series: moments.series,
    })
}

fn difference(first: &Differing, survey: &Survey) -> Difference {
    let held = first.held.iter().take(HELD_MAX).map(|(id, sessions)| (survey.name(*id), *sessions));
    Difference {
        pick: first.pick,
        client: first.client,
        held: held.collect(),
        was: Some(survey.name(first.was)),
        would_be: first.would_be.map(|id| survey.name(id)),
    }
}

/// The moments of a recording at which sessions are counted.
#[derive(Default)]
struct Moments {
    /// Those that were reached.
    reached: u64,
    series: Vec<Vec<u32>>,
}

impl Moments {
    /// It is this time: what is due before is counted.
    fn reach(&mut self, now_ms: u64, survey: &Survey, following: &mut Following) {
        let since_ms = u128::from(now_ms.saturating_sub(survey.first_ms));
        let Some(reached) = (since_ms * u128::from(SAMPLES)).checked_div(survey.lasted_ms.into()) else { return };
        let reached = u64::try_from(reached).unwrap_or(SAMPLES).min(SAMPLES);
        while self.reached < reached {
            self.reached += 1;
            if self.reached > SAMPLES / 10 {
                following.books_mut().sample();
            }
            if self.reached.is_multiple_of(SAMPLES / SERIES) {
                self.series.push(following.books().all_held().to_vec());
            }
        }
    }
}
