//! `p2c`: of two servers drawn at random, the better one. Nearly as even as asking all of them, at the
//! price of two looks, and many proxies that do so do not rush at the same server (Mitzenmacher, "The
//! power of two choices in randomized load balancing", 2001).
//!
//! Two different servers are drawn in proportion to their weights; the better one has the smaller
//! `(sessions + 1) ÷ weight`, times the smoothed connect time where that tells something; the first drawn among equals.
//! Connect times tell nothing while one of the two is not known, and when they differ by less than [`NOISE_US`] or by less
//! than a factor of [`NOISE_FACTOR`]: on one machine one connect takes 10 µs and the next 80 µs, and whoever took that
//! for a difference would starve one of two identical servers.
//!
//! A connect time is only ever measured by picking the server, so one that was slow once could stay so for
//! good. Therefore what was measured fades with time, and one pick in [`UNCOMPARED`] takes the first drawn as it is.

use std::sync::Arc;

use super::alias::Weighted;
use super::choose::{PROBES, fair_open, probe};
use crate::base::random::SplitMix64;
use crate::policy::balance::{IBalancePolicy, PickRequest, Picked, RehearsalError, ServerSet};
use crate::server::Server;

/// One pick in so many is not compared with a second server.
const UNCOMPARED: u64 = 64;

/// Connect times that differ by less than this, in microseconds, are taken for equal.
const NOISE_US: u32 = 1_000;

/// And so are those that differ by less than this factor.
const NOISE_FACTOR: u64 = 2;

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

    fn rehearsal(&self) -> Result<Arc<dyn IBalancePolicy>, RehearsalError> {
        Ok(Arc::new(Self { weighted: self.weighted.clone() }))
    }

    fn pick(&self, request: &PickRequest<'_>) -> Option<Picked> {
        self.choose(request).map(Picked::new)
    }
}

impl P2c {
    fn choose(&self, request: &PickRequest<'_>) -> Option<usize> {
        let mut draws = SplitMix64::new(request.random);
        let is_compared = !draws.draw().is_multiple_of(UNCOMPARED);
        let mut drawn = draws.clone().map_while(|random| self.weighted.draw(random));
        let Some(first) = probe(request, drawn.by_ref()) else {
            return fair_open(request, &mut draws);
        };
        if is_compared
            && let Some(second) = probe(request, drawn.take(PROBES).filter(|&index| index != first))
            && is_better(&request.servers.servers[second], &request.servers.servers[first], request.now_ms)
        {
            return Some(second);
        }
        Some(first)
    }
}

/// True when `one` has less to do for its weight, and answers faster, than `other`.
fn is_better(one: &Server, other: &Server, now_ms: u64) -> bool {
    let times = [one, other].map(|server| server.live.recent_connect_latency_us(now_ms));
    let [time, other_time] = if is_noise(times) { [1, 1] } else { times };
    let load = |server: &Server, time: u32| (u128::from(server.live.sessions()) + 1) * u128::from(time);
    load(one, time) * u128::from(other.settings.weight) < load(other, other_time) * u128::from(one.settings.weight)
}

/// True when these connect times say nothing about which server is faster.
fn is_noise([one, other]: [u32; 2]) -> bool {
    let (fast, slow) = (one.min(other), one.max(other));
    fast == 0 || slow - fast < NOISE_US || u64::from(slow) < u64::from(fast) * NOISE_FACTOR
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::clock;
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
        set.servers[0].live.connected(1_000, clock::coarse_ms());
        set.servers[1].live.connected(10_000, clock::coarse_ms());
        let picks = picks(&set, 64_000);
        // One in 128: half of the picks that are not compared draw the slow one.
        assert!((300..700).contains(&picks[1]), "{picks:?}");
    }

    #[test]
    fn a_server_of_unknown_connect_time_is_judged_by_its_sessions_alone() {
        let set = set(&[1, 1]);
        set.servers[0].live.connected(1_000_000, clock::coarse_ms());
        assert_shares(&picks(&set, 64_000), &[1, 1]);
        set.servers[1].live.try_acquire(0);
        let picks = picks(&set, 64_000);
        assert!(picks[0] > 60 * picks[1], "{picks:?}");
    }

    #[test]
    fn equal_servers_are_picked_equally() {
        assert_shares(&picks(&set(&[1; 10]), 100_000), &[1; 10]);
    }

    /// So many sessions come, each after a connect of 10 or 80 µs, and stay, if they are held. How many each server got.
    fn simulate(weights: &[u32], sessions: usize, is_held: bool, seed: u64) -> Vec<usize> {
        let (set, mut random) = (set(weights), fastrand::Rng::with_seed(seed));
        let policy = prepared("p2c", &set);
        let picks = (0..sessions).map(|_| {
            let index = policy.pick_index(&PickRequest { random: random.u64(..), ..request(&set) }).unwrap();
            let live = &set.servers[index].live;
            live.connected(if random.bool() { 10 } else { 80 }, clock::coarse_ms());
            if is_held {
                live.try_acquire(0);
            }
            index
        });
        counts(weights.len(), picks.collect::<Vec<_>>())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn identical_servers_get_even_shares_of_sessions_that_stay(servers in 2_usize..=8, seed: u64) {
            let shares = simulate(&vec![1; servers], 50 * servers, true, seed);
            // Seldom a server is drawn so rarely that it falls five or six behind.
            prop_assert!(shares.iter().all(|share| share.abs_diff(50) <= 8), "{:?}", shares);
        }

        #[test]
        fn identical_servers_get_even_shares_while_they_are_idle(servers in 2_usize..=8, seed: u64) {
            assert_shares(&simulate(&vec![1; servers], 2_000 * servers, false, seed), &vec![1; servers]);
        }

        #[test]
        fn sessions_that_stay_follow_the_weights(seed: u64) {
            let shares = simulate(&[6, 2], 40, true, seed);
            prop_assert!(shares[0].abs_diff(30) <= 2, "{:?}", shares);
        }
    }

    #[test]
    fn what_was_measured_fades_with_time() {
        let set = set(&[1, 1]);
        set.servers[0].live.connected(100, clock::coarse_ms());
        set.servers[1].live.connected(50_000, clock::coarse_ms());
        let policy = prepared("p2c", &set);
        let shares_after = |after_ms: u64| {
            let now_ms = clock::coarse_ms() + after_ms;
            let pick = |random| policy.pick_index(&PickRequest { random, now_ms, ..request(&set) });
            counts(2, (0..64_000).filter_map(pick))
        };
        assert!(shares_after(0)[1] < 1_000);
        assert_shares(&shares_after(60_000), &[1, 1]);
    }
}
