//! Which server each session is at, and how evenly that is.

use std::collections::HashMap;

use super::evenness::{Samples, evenness};
use crate::policy::recorded::Servers;
use crate::server::ServerId;

/// Moments that are remembered. Of more, the older half is forgotten: with one a second, it is the last day that counts.
const MOMENTS_MAX: usize = 86_400;

/// Sessions at servers.
#[derive(Clone, Debug, Default)]
pub struct Books {
    /// The place of a server in the lists below: servers in the order in which they came.
    places: HashMap<ServerId, usize>,
    ids: Vec<ServerId>,
    held: Vec<u32>,
    /// Sessions that came to each.
    served: Vec<u64>,
    /// Those that were shown as backups, or tried as a last resort, only.
    is_spare: Vec<bool>,
    /// Those that are shown now, with their weights. Backups are not: they are to be idle.
    shown: Vec<(usize, u16)>,
    /// The fullest server as a multiple of the mean, by weight.
    pub busiest: Samples,
    /// Jain's index.
    pub jain: Samples,
    /// The deviation between servers as a part of the mean.
    pub cov: Samples,
}

impl Books {
    /// The policy is shown these servers.
    pub fn show(&mut self, servers: &Servers) {
        let places: Vec<(usize, u16)> =
            servers.servers.iter().map(|server| (self.place(server.id), server.weight.max(1))).collect();
        if !servers.is_backup && !servers.is_last_resort {
            places.iter().for_each(|(place, _)| self.is_spare[*place] = false);
            self.shown = places;
        }
    }

    /// Takes down how evenly sessions lie now.
    pub fn sample(&mut self) {
        let held = self.shown.iter().map(|(place, weight)| (self.held[*place], *weight));
        if let Some(evenness) = evenness(held) {
            for (samples, value) in
                [(&mut self.busiest, evenness.busiest), (&mut self.jain, evenness.jain), (&mut self.cov, evenness.cov)]
            {
                samples.add(value);
                samples.forget_beyond(MOMENTS_MAX);
            }
        }
    }

    /// Servers in the order in which they came, which is that of the next two.
    pub fn servers(&self) -> &[ServerId] {
        &self.ids
    }

    /// Sessions at each server now.
    pub fn all_held(&self) -> &[u32] {
        &self.held
    }

    /// The part of all sessions that came to each server.
    pub fn shares(&self) -> Vec<f64> {
        let total: u64 = self.served.iter().sum();
        self.served.iter().map(|served| *served as f64 / total.max(1) as f64).collect()
    }

    /// The smallest of these parts; backups are to be idle, and do not count.
    pub fn smallest_share(&self) -> Option<f64> {
        let shares = self.shares().into_iter().zip(&self.is_spare);
        shares.filter(|(_, is_spare)| !**is_spare).map(|(share, _)| share).min_by(f64::total_cmp)
    }

    /// A session comes to a server. Answers how many that has.
    pub(super) fn come(&mut self, id: ServerId) -> u32 {
        let place = self.place(id);
        self.held[place] += 1;
        self.served[place] += 1;
        self.held[place]
    }

    /// A session leaves it. Answers how many it has left.
    pub(super) fn leave(&mut self, id: ServerId) -> u32 {
        let place = self.place(id);
        self.held[place] = self.held[place].saturating_sub(1);
        self.held[place]
    }

    /// Sessions that a server has.
    pub fn held(&self, id: ServerId) -> u32 {
        self.places.get(&id).map_or(0, |place| self.held[*place])
    }

    fn place(&mut self, id: ServerId) -> usize {
        let next = self.held.len();
        let place = *self.places.entry(id).or_insert(next);
        if place == next {
            self.ids.push(id);
            self.held.push(0);
            self.served.push(0);
            self.is_spare.push(true);
        }
        place
    }
}
