//! `random`: by chance, in proportion to the weights.
//!
//! Chance comes with the request: the numbers are those of splitmix64 seeded with it, so a replayed
//! request gets the same answer. A closed server is drawn again, up to 15 times; then one draw among all
//! open servers decides, weighted too.

use std::sync::Arc;

use super::alias::Weighted;
use super::choose::{fair_open, probe};
use crate::base::random::SplitMix64;
use crate::policy::balance::{IBalancePolicy, PickRequest, Picked, RehearsalError, ServerSet};

/// A weighted draw.
#[derive(Debug, Default)]
pub(super) struct Random {
    weighted: Weighted,
}

impl IBalancePolicy for Random {
    fn name(&self) -> &str {
        "random"
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

impl Random {
    fn choose(&self, request: &PickRequest<'_>) -> Option<usize> {
        let mut draws = SplitMix64::new(request.random);
        probe(request, draws.by_ref().map_while(|random| self.weighted.draw(random)))
            .or_else(|| fair_open(request, &mut draws))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::testing::{PickIndex, assert_shares, counts, ids, prepared, request, set};

    #[test]
    fn clients_spread_in_proportion_to_the_weights() {
        let weights = [1, 2, 3, 10];
        let set = set(&weights);
        let policy = prepared("random", &set);
        let picks = (0..100_000).filter_map(|random| policy.pick_index(&PickRequest { random, ..request(&set) }));
        assert_shares(&counts(4, picks), &weights);
    }

    #[test]
    fn the_share_of_closed_servers_goes_to_the_open_ones_by_weight_even_when_they_are_few() {
        // The open servers have 6 of 806: nearly every pick uses up its redraws.
        let set = set(&[1, 200, 2, 200, 200, 3, 200]);
        let policy = prepared("random", &set);
        let tried = ids(&set, [1, 3, 4, 6]);
        let request = PickRequest { tried: &tried, ..request(&set) };
        let picks = (0..60_000).filter_map(|random| policy.pick_index(&PickRequest { random, ..request }));
        assert_shares(&counts(7, picks), &[1, 0, 2, 0, 0, 3, 0]);
    }

    #[test]
    fn a_replayed_request_gets_the_same_answer() {
        let set = set(&[1, 5, 9]);
        for random in [0, 1, u64::MAX, 0x1234_5678_9abc_def0] {
            let request = PickRequest { random, ..request(&set) };
            assert_eq!(prepared("random", &set).pick_index(&request), prepared("random", &set).pick_index(&request));
        }
    }
}
