//! What a simulation has shown, as JSON and for the table.

use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use super::books::Books;
use super::moves::Change;
use super::sessions::{client, stream};
use crate::group::Group;
use crate::lab::figures::Quantiles;
use crate::policy::follow::Spread;

/// Picks that are timed.
const TIMED: u32 = 20_000;

/// How one policy did. As JSON, everything but `cost` is the same in every run.
#[derive(Clone, Debug, Serialize)]
pub struct Simulated {
    /// What it is called.
    pub policy: String,
    /// The hash of a module's file.
    pub sha256: Option<String>,
    /// Sessions that came after the warm-up.
    pub sessions: u64,
    /// Of these, those that got a server.
    pub served: u64,
    /// Of these, those that no server would take.
    pub refused: u64,
    /// Of these, those for which every server that was tried failed.
    pub failed: u64,
    /// Picks of servers that were not reached.
    pub failed_picks: u64,
    /// Sessions that ended because their server did.
    pub broken: u64,
    /// Calls of a module that failed. After the first, its fallback answers.
    pub faults: u64,
    /// Picks that its fallback answered.
    pub fallbacks: u64,
    /// How the last fault was.
    pub last_fault: Option<String>,
    /// The fullest server as a multiple of the mean, by weight, over time.
    pub busiest_over_mean: Spread,
    /// Jain's index, the mean over time.
    pub jain: f64,
    /// The deviation between servers as a part of the mean, the mean over time.
    pub cov: f64,
    /// Sessions of all servers together.
    pub held: Held,
    /// The part of the sessions that each server got.
    pub share: Vec<f64>,
    /// True when servers can do only so much at a time, so that the times below say something.
    pub has_limits: bool,
    /// How long sessions waited until a server began with them.
    pub wait_ms: Quantiles,
    /// How long they took from their arrival.
    pub response_ms: Quantiles,
    /// The servers that got more work than they can do: then times say nothing.
    pub overloaded: Vec<String>,
    /// What the events did.
    pub changes: Vec<Change>,
    /// Sessions of a client that had come before.
    pub returns: u64,
    /// Of these, those that got another server although the one before was there.
    pub sticky_breaks: u64,
    /// Sessions of each server, at 200 moments.
    pub series: Vec<Vec<u32>>,
    /// Sessions of each server at the end.
    pub at_end: Vec<u32>,
    /// What a pick costs on this machine.
    pub cost: Cost,
}

/// Sessions of all servers together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Held {
    /// On average.
    pub mean: f64,
    /// The mean square of the distance from that.
    pub variance: f64,
}

/// What a pick costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Cost {
    /// Of processor time.
    pub ns_per_pick: f64,
}

/// What servers are called.
pub(super) fn name(index: usize) -> String {
    format!("s{}", index + 1)
}

impl Simulated {
    pub(super) fn new(name: &str, sha256: Option<String>, books: &Books, changes: Vec<Change>) -> Self {
        let served: u64 = books.served.iter().sum();
        let busiest = &books.busiest;
        Self {
            policy: name.to_owned(),
            sha256,
            sessions: books.sessions,
            served,
            refused: books.refused,
            failed: books.failed,
            failed_picks: books.failed_picks,
            broken: books.broken,
            faults: 0,
            fallbacks: 0,
            last_fault: None,
            busiest_over_mean: busiest.spread(),
            jain: books.jain.mean(),
            cov: books.cov.mean(),
            held: Held { mean: books.held.mean(), variance: books.held.variance() },
            share: books.served.iter().map(|count| *count as f64 / served.max(1) as f64).collect(),
            has_limits: books.has_limits,
            wait_ms: books.waits.quantiles(),
            response_ms: books.responses.quantiles(),
            overloaded: books.overloaded().into_iter().map(self::name).collect(),
            changes,
            returns: books.returns,
            sticky_breaks: books.sticky_breaks,
            series: books.series.clone(),
            at_end: books.at_end.clone(),
            cost: Cost::default(),
        }
    }
}

/// Times picks of a copy of the policy, on the servers as they are.
pub(super) fn cost(group: &Group) -> Cost {
    let snapshot = group.snapshot();
    let Ok(copy) = snapshot.rehearsal() else { return Cost::default() };
    let mut random = stream(0, "cost");
    let processor_ns = || {
        let now = clock_gettime(ClockId::ThreadCPUTime);
        now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
    };
    let began = processor_ns();
    for number in 0..TIMED {
        // The place is given back at once.
        let _ = copy.pick(client(number), &[], super::run::END_MS, random.draw());
    }
    Cost { ns_per_pick: (processor_ns() - began) as f64 / f64::from(TIMED) }
}
