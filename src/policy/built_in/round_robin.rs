//! `round_robin`: one server after the other, then from the start again; a server of weight 3 has three
//! turns in a round, spread out.
//!
//! A pick takes a turn from one shared counter, so over any whole rounds each server gets exactly its
//! share, however many threads pick. The turn of a closed server passes to the next in the order, which
//! is then over for that one too: the rest stay in step instead of the neighbour serving twice.

use std::iter;
use std::sync::Arc;

use super::choose::{fair_open, probe};
use super::order::Turns;
use crate::base::random::SplitMix64;
use crate::policy::balance::{IBalancePolicy, PickRequest, Picked, RehearsalError, ServerSet};

/// The servers in turn.
#[derive(Debug, Default)]
pub(super) struct RoundRobin {
    turns: Turns,
}

impl IBalancePolicy for RoundRobin {
    fn name(&self) -> &str {
        "round_robin"
    }

    fn for_servers(&self, servers: &Arc<ServerSet>) -> Arc<dyn IBalancePolicy> {
        Arc::new(Self { turns: self.turns.for_servers(servers) })
    }

    fn rehearsal(&self) -> Result<Arc<dyn IBalancePolicy>, RehearsalError> {
        Ok(Arc::new(Self { turns: self.turns.rehearsal() }))
    }

    fn pick(&self, request: &PickRequest<'_>) -> Option<Picked> {
        self.choose(request).map(Picked::new)
    }
}

impl RoundRobin {
    fn choose(&self, request: &PickRequest<'_>) -> Option<usize> {
        probe(request, iter::from_fn(|| self.turns.take()))
            .or_else(|| fair_open(request, &mut SplitMix64::new(request.random)))
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::policy::testing::{PickIndex, counts, ids, prepared, request, set};

    #[test]
    fn servers_are_picked_in_order_and_again() {
        let set = set(&[1, 1, 1]);
        let policy = prepared("round_robin", &set);
        let picks: Vec<_> = (0..6).filter_map(|_| policy.pick_index(&request(&set))).collect();
        assert_eq!(picks, [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn four_threads_picking_at_once_give_every_server_exactly_its_weight() {
        let set = set(&[4, 2, 6, 10, 2]);
        let policy = prepared("round_robin", &set);
        const ROUNDS: usize = 1_000;
        let picks: Vec<usize> = thread::scope(|scope| {
            // A round has 12 turns; each thread takes 3 of every round, in whatever order they run.
            let pick = || (0..3 * ROUNDS).map(|_| policy.pick_index(&request(&set)).unwrap()).collect::<Vec<_>>();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(pick)).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(counts(5, picks), [2, 1, 3, 5, 1].map(|weight| weight * ROUNDS));
    }

    #[test]
    fn a_change_of_servers_goes_on_where_the_old_set_was_and_both_share_the_counter() {
        let (three, four) = (set(&[1; 3]), set(&[1; 4]));
        let old = prepared("round_robin", &three);
        assert_eq!(old.pick_index(&request(&three)), Some(0));
        let new = old.for_servers(&four);
        assert_eq!(new.pick_index(&request(&four)), Some(1));
        assert_eq!(old.pick_index(&request(&three)), Some(2));
        assert_eq!(new.pick_index(&request(&four)), Some(3));
    }

    #[test]
    fn a_closed_server_s_turns_are_shared_by_all_others() {
        let set = set(&[1; 5]);
        let policy = prepared("round_robin", &set);
        let tried = ids(&set, [1]);
        let request = PickRequest { tried: &tried, ..request(&set) };
        let picks = (0..4_000).filter_map(|_| policy.pick_index(&request));
        assert_eq!(counts(5, picks), [1_000, 0, 1_000, 1_000, 1_000]);
    }
}
