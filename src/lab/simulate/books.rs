//! What is written down while a simulation runs.

use super::sessions::Session;
use super::station::Station;
use crate::config::Scenario;
use crate::lab::figures::Times;
use crate::policy::follow::{Samples, evenness};
use crate::server::State;

/// Nobody: a client that has not been served yet.
const NOBODY: u32 = u32::MAX;

/// What is written down. Sessions that come before the warm-up is over are served and not counted.
#[derive(Debug)]
pub(super) struct Books {
    pub(super) warm_up_ns: u64,
    pub(super) until_ns: u64,
    /// Sessions that came.
    pub(super) sessions: u64,
    /// Of these, those that no server would take.
    pub(super) refused: u64,
    /// Of these, those for which every server that was tried failed.
    pub(super) failed: u64,
    /// Picks of servers that were not reached, from the very beginning.
    pub(super) failed_picks: u64,
    /// Sessions that ended because their server did, from the very beginning.
    pub(super) broken: u64,
    /// Sessions of a client that had come before.
    pub(super) returns: u64,
    /// Of these, those that got another server although the one before was there.
    pub(super) sticky_breaks: u64,
    /// Sessions that each server got.
    pub(super) served: Vec<u64>,
    /// Work that each server got, in nanoseconds.
    pub(super) work_ns: Vec<f64>,
    pub(super) busiest: Samples,
    pub(super) jain: Samples,
    pub(super) cov: Samples,
    /// Sessions of all servers together.
    pub(super) held: Samples,
    pub(super) waits: Times,
    pub(super) responses: Times,
    /// Sessions of each server at the end, and now and then before.
    pub(super) series: Vec<Vec<u32>>,
    pub(super) at_end: Vec<u32>,
    /// The server that each client had last.
    last: Vec<u32>,
    /// True when sessions wait for each other.
    pub(super) has_limits: bool,
    /// How much each server can do, in nanoseconds of work per nanosecond.
    pub(super) capacity: Vec<f64>,
}

impl Books {
    pub(super) fn new(scenario: &Scenario, servers: usize) -> Self {
        let until_ns = scenario.until.as_nanos() as u64;
        Self {
            warm_up_ns: scenario.warm_up.map_or(until_ns / 10, |warm_up| warm_up.as_nanos() as u64),
            until_ns,
            sessions: 0,
            refused: 0,
            failed: 0,
            failed_picks: 0,
            broken: 0,
            returns: 0,
            sticky_breaks: 0,
            served: vec![0; servers],
            work_ns: vec![0.0; servers],
            busiest: Samples::default(),
            jain: Samples::default(),
            cov: Samples::default(),
            held: Samples::default(),
            waits: Times::default(),
            responses: Times::default(),
            series: Vec::new(),
            at_end: Vec::new(),
            last: vec![NOBODY; scenario.clients.count as usize],
            has_limits: false,
            capacity: Vec::new(),
        }
    }

    pub(super) fn add_servers(&mut self, servers: usize) {
        self.served.resize(servers, 0);
        self.work_ns.resize(servers, 0.0);
    }

    fn counts(&self, session: &Session) -> bool {
        session.at_ns >= self.warm_up_ns
    }

    pub(super) fn came(&mut self, session: &Session) {
        self.sessions += u64::from(self.counts(session));
    }

    /// Nobody would take it, or everybody failed that was tried.
    pub(super) fn not_served(&mut self, session: &Session, is_refused: bool) {
        let counts = u64::from(self.counts(session));
        *(if is_refused { &mut self.refused } else { &mut self.failed }) += counts;
    }

    pub(super) fn served(&mut self, session: &Session, server: usize, stations: &[Station]) {
        let last = std::mem::replace(&mut self.last[session.client as usize], server as u32);
        if !self.counts(session) {
            return;
        }
        self.served[server] += 1;
        self.work_ns[server] += session.work_ns as f64;
        if last != NOBODY {
            self.returns += 1;
            self.sticky_breaks += u64::from(last != server as u32 && is_there(&stations[last as usize]));
        }
    }

    /// A server begins with it.
    pub(super) fn begins(&mut self, session: &Session, now_ns: u64) {
        if self.counts(session) {
            self.waits.add(now_ns - session.at_ns);
        }
    }

    pub(super) fn ended(&mut self, session: &Session, now_ns: u64) {
        if self.counts(session) {
            self.responses.add(now_ns - session.at_ns);
        }
    }

    /// Counts the sessions of all servers.
    pub(super) fn sample(&mut self, stations: &[Station]) {
        let there = stations.iter().filter(|station| is_there(station) && !station.settings.backup);
        let held = there.map(|station| (station.held, station.settings.weight));
        if let Some(evenness) = evenness(held) {
            self.busiest.add(evenness.busiest);
            self.jain.add(evenness.jain);
            self.cov.add(evenness.cov);
        }
        self.held.add(stations.iter().map(|station| f64::from(station.held)).sum());
    }

    /// Keeps the sessions of all servers for a picture.
    pub(super) fn keep(&mut self, stations: &[Station]) {
        self.series.push(stations.iter().map(|station| station.held).collect());
    }

    pub(super) fn end(&mut self, stations: &[Station]) {
        self.at_end = stations.iter().map(|station| station.held).collect();
        self.has_limits = stations.iter().any(Station::has_limits);
        let capacity = |station: &Station| match station.has_limits() {
            true => station.speed * f64::from(station.places),
            false => f64::INFINITY,
        };
        self.capacity = stations.iter().map(capacity).collect();
    }

    /// The servers that got more work than they can do.
    pub(super) fn overloaded(&self) -> Vec<usize> {
        let time_ns = (self.until_ns - self.warm_up_ns) as f64;
        let servers = self.work_ns.iter().zip(&self.capacity).enumerate();
        servers.filter(|(_, (work, capacity))| **work > time_ns * **capacity).map(|(index, _)| index).collect()
    }
}

/// True when a server may be picked.
fn is_there(station: &Station) -> bool {
    station.is_up && station.settings.state == State::Ready
}
