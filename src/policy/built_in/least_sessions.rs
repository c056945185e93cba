//! `least_sessions`: the server with the fewest sessions for its weight, for sessions whose lengths differ.
//!
//! Every server is looked at (5 to 10 µs for each thousand), except that one without any session
//! ends the search. Among equals it goes by turns, in the weighted order of `round_robin`: an idle
//! group spreads its clients as that does, instead of sending them all to the first server.

use std::sync::Arc;

use super::order::Turns;
use crate::policy::balance::{IBalancePolicy, PickRequest, Picked, RehearsalError, ServerSet};

/// The fewest sessions per weight.
#[derive(Debug, Default)]
pub(super) struct LeastSessions {
    turns: Turns,
}

impl IBalancePolicy for LeastSessions {
    fn name(&self) -> &str {
        "least_sessions"
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

impl LeastSessions {
    fn choose(&self, request: &PickRequest<'_>) -> Option<usize> {
        let start = self.turns.take().unwrap_or(0).min(request.len());
        let mut best: Option<(usize, u64, u64)> = None;
        for index in (start..request.len()).chain(0..start) {
            let server = &request.servers.servers[index];
            let (sessions, weight) = (u64::from(server.live.sessions()), u64::from(server.settings.weight));
            let is_better = best.is_none_or(|(_, least, of_weight)| sessions * of_weight < least * weight);
            if is_better && request.is_open(index) {
                best = Some((index, sessions, weight));
                if sessions == 0 {
                    break;
                }
            }
        }
        best.map(|(index, _, _)| index)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::policy::testing::{PickIndex, counts, prepared, request, set};

    #[test]
    fn an_idle_group_spreads_its_clients_by_weight() {
        let set = set(&[1, 1, 2]);
        let policy = prepared("least_sessions", &set);
        let picks = (0..400).filter_map(|_| policy.pick_index(&request(&set)));
        assert_eq!(counts(3, picks), [100, 100, 200]);
    }

    #[test]
    fn sessions_that_stay_fill_the_servers_in_proportion_to_their_weights() {
        let weights = [1, 2, 4, 13];
        let set = set(&weights);
        let policy = prepared("least_sessions", &set);
        for _ in 0..20 * 50 {
            let index = policy.pick_index(&request(&set)).unwrap();
            set.servers[index].live.try_acquire(0);
        }
        let sessions: Vec<u32> = set.servers.iter().map(|server| server.live.sessions()).collect();
        for (sessions, weight) in sessions.iter().zip(weights) {
            assert!(sessions.abs_diff(50 * weight) <= weight, "{sessions} for weight {weight}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn no_other_server_has_fewer_sessions_for_its_weight(
            servers in proptest::collection::vec((1_u32..=256, 0_u32..2_000), 1..30),
        ) {
            let set = set(&servers.iter().map(|server| server.0).collect::<Vec<_>>());
            for (server, &(_, sessions)) in set.servers.iter().zip(&servers) {
                (0..sessions).for_each(|_| assert!(server.live.try_acquire(0)));
            }
            let picked = prepared("least_sessions", &set).pick_index(&request(&set)).unwrap();
            let load = |index: usize| f64::from(servers[index].1) / f64::from(servers[index].0);
            prop_assert!((0..servers.len()).all(|index| load(picked) <= load(index)));
        }
    }
}
