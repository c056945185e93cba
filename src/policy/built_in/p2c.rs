//! `p2c`: of two servers drawn at random, the better one. Nearly as even as asking all of them, at the
//! price of two looks, and many proxies that do so do not rush at the same server (Mitzenmacher, "The
//! power of two choices in randomized load balancing", 2001).
//!
//! Two different servers are drawn in proportion to their weights; the better one has the smaller
//! `(sessions + 1) × smoothed connect time / weight`, the first drawn among equals. While the connect time
//! of either is not known it is left out for both: a new server is judged by its sessions alone, so it
//! neither waits for a first client nor is flooded by everyone.
//!
//! A connect time is only ever measured by picking the server, so one that was slow once could stay so for
//! good. Therefore one pick in [`UNCOMPARED`] takes the first drawn as it is.

use std::sync::Arc;

use super::alias::Weighted;
use super::choose::{PROBES, fair_open, probe};
use super::hash::Draws;
use crate::policy::balance::{IBalancePolicy, PickRequest, Picked, ServerSet};
use crate::server::Server;

/// One pick in so many is not compared with a second server.
const UNCOMPARED: u64 = 64;

/// The better of two.
#[derive(Debug, Default)]
pub(super) struct P2c {
    weighted: Weighted,
}

impl IBalancePolicy for P2c {
    fn name(&self) -> &str {
        "p2c"
    }

    fn for_servers(&self, servers: &Arc<ServerSet>) -> Arc<dyn IBalancePolicy> {
        Arc::new(Self { weighted: Weighted::new(servers) })
    }

    fn rehearsal(&self) -> Result<Arc<dyn IBalancePolicy>, String> {
        Ok(Arc::new(Self { weighted: self.weighted.clone() }))
    }

    fn pick(&self, request: &PickRequest<'_>) -> Option<Picked> {
        self.choose(request).map(Picked::new)
    }
}

impl P2c {
    fn choose(&self, request: &PickRequest<'_>) -> Option<usize> {
        let mut draws = Draws::new(request.random);
        let is_compared = !draws.draw().is_multiple_of(UNCOMPARED);
        let mut drawn = draws.clone().map_while(|random| self.weighted.draw(random));
        let Some(first) = probe(request, drawn.by_ref()) else {
            return fair_open(request, &mut draws);
        };
        if is_compared
            && let Some(second) = probe(request, drawn.take(PROBES).filter(|&index| index != first))
            && is_better(&request.servers.servers[second], &request.servers.servers[first])
        {
            return Some(second);
        }
        Some(first)
    }
}

/// True when `one` has less to do for its weight, and answers faster, than `other`.
fn is_better(one: &Server, other: &Server) -> bool {
    let times = match (one.live.connect_latency_us(), other.live.connect_latency_us()) {
        (0, _) | (_, 0) => (1, 1),
        known => known,
    };
    let load = |server: &Server, time: u32| (u128::from(server.live.sessions()) + 1) * u128::from(time);
    load(one, times.0) * u128::from(other.settings.weight) < load(other, times.1) * u128::from(one.settings.weight)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::testing::{PickIndex, assert_shares, counts, prepared, request, set};

    fn picks(set: &Arc<ServerSet>, times: u64) -> Vec<usize> {
        let policy = prepared("p2c", set);
        let picks = (0..times).filter_map(|random| policy.pick_index(&PickRequest { random, ..request(set) }));
        counts(set.servers.len(), picks)
    }

    #[test]
    fn sessions_that_stay_fill_the_servers_in_proportion_to_their_weights() {
        let set = set(&[1, 2, 1, 4, 2]);
        let policy = prepared("p2c", &set);
        for random in 0..10_000 {
            let index = policy.pick_index(&PickRequest { random, ..request(&set) }).unwrap();
            set.servers[index].live.try_acquire(0);
        }
        let sessions: Vec<usize> = set.servers.iter().map(|server| server.live.sessions() as usize).collect();
        assert_shares(&sessions, &[1, 2, 1, 4, 2]);
    }

    #[test]
    fn the_server_that_connects_faster_is_preferred_and_the_slow_one_still_tried_now_and_then() {
        let set = set(&[1, 1]);
        set.servers[0].live.connected(100);
        set.servers[1].live.connected(1_000);
        let picks = picks(&set, 64_000);
        // One in 128: half of the picks that are not compared draw the slow one.
        assert!((300..700).contains(&picks[1]), "{picks:?}");
    }

    #[test]
    fn a_server_of_unknown_connect_time_is_judged_by_its_sessions_alone() {
        let set = set(&[1, 1]);
        set.servers[0].live.connected(1_000_000);
        assert_shares(&picks(&set, 64_000), &[1, 1]);
        set.servers[1].live.try_acquire(0);
        let picks = picks(&set, 64_000);
        assert!(picks[0] > 60 * picks[1], "{picks:?}");
    }

    #[test]
    fn equal_servers_are_picked_equally() {
        assert_shares(&picks(&set(&[1; 10]), 100_000), &[1; 10]);
    }
}
