//! Which server each session is at, and how evenly that is.

use std::collections::HashMap;

use super::survey::Survey;
use crate::lab::figures::{Samples, evenness};
use crate::policy::recorded::Servers;
use crate::server::ServerId;

/// How often sessions are counted. What comes in the first tenth is not: servers are empty then.
const SAMPLES: u64 = 2_000;

/// How often they are kept for a picture.
const SERIES: u64 = 200;

/// Sessions at servers over the time of a recording.
#[derive(Debug)]
pub(super) struct Books {
    first_ms: u64,
    lasted_ms: u64,
    /// Samples that were due so far.
    due: u64,
    /// The place of a server in the lists below.
    places: HashMap<ServerId, usize>,
    held: Vec<u32>,
    /// Sessions that came to each.
    pub(super) served: Vec<u64>,
    /// Those that are shown now, with their weights. Backups are not: they are to be idle.
    shown: Vec<(usize, u16)>,
    pub(super) busiest: Samples,
    pub(super) jain: Samples,
    pub(super) cov: Samples,
    pub(super) series: Vec<Vec<u32>>,
}

impl Books {
    pub(super) fn new(survey: &Survey) -> Self {
        let places: HashMap<ServerId, usize> =
            survey.servers.iter().enumerate().map(|(place, (id, _))| (*id, place)).collect();
        let count = places.len();
        Self {
            first_ms: survey.first_ms,
            lasted_ms: survey.lasted_ms,
            due: 0,
            places,
            held: vec![0; count],
            served: vec![0; count],
            shown: Vec::new(),
            busiest: Samples::default(),
            jain: Samples::default(),
            cov: Samples::default(),
            series: Vec::new(),
        }
    }

    /// The policy is shown these servers.
    pub(super) fn show(&mut self, servers: &Servers) {
        if !servers.is_backup && !servers.is_last_resort {
            let shown =
                servers.servers.iter().filter_map(|server| Some((*self.places.get(&server.id)?, server.weight)));
            self.shown = shown.collect();
        }
    }

    /// It is this time: what is due before is counted.
    pub(super) fn until(&mut self, now_ms: u64) {
        if self.lasted_ms == 0 {
            return;
        }
        let reached =
            (now_ms.saturating_sub(self.first_ms) as u128 * u128::from(SAMPLES) / u128::from(self.lasted_ms)) as u64;
        while self.due < reached.min(SAMPLES) {
            self.due += 1;
            if self.due > SAMPLES / 10 {
                let held = self.shown.iter().map(|(place, weight)| (self.held[*place], (*weight).max(1)));
                if let Some(evenness) = evenness(held) {
                    self.busiest.add(evenness.busiest);
                    self.jain.add(evenness.jain);
                    self.cov.add(evenness.cov);
                }
            }
            if self.due.is_multiple_of(SAMPLES / SERIES) {
                self.series.push(self.held.clone());
            }
        }
    }

    /// A session comes to a server. Answers how many that has.
    pub(super) fn come(&mut self, id: ServerId) -> u32 {
        let Some(&place) = self.places.get(&id) else { return 0 };
        self.held[place] += 1;
        self.served[place] += 1;
        self.held[place]
    }

    /// A session leaves it. Answers how many it has left.
    pub(super) fn leave(&mut self, id: ServerId) -> u32 {
        let Some(&place) = self.places.get(&id) else { return 0 };
        self.held[place] = self.held[place].saturating_sub(1);
        self.held[place]
    }

    /// Sessions that a server has.
    pub(super) fn held(&self, id: ServerId) -> u32 {
        self.places.get(&id).map_or(0, |place| self.held[*place])
    }
}
