//! `ha`: everybody to the first server, and to the next while that one is closed.
//!
//! Weights do not matter. A server that returns to its place in the list gets new clients again.

use std::sync::Arc;

use crate::policy::balance::{IBalancePolicy, PickRequest, Picked, RehearsalError, ServerSet};

/// Always the first open server in order.
#[derive(Debug, Default)]
pub(super) struct Ha;

impl IBalancePolicy for Ha {
    fn name(&self) -> &str {
        "ha"
    }

    fn for_servers(&self, _servers: &Arc<ServerSet>) -> Arc<dyn IBalancePolicy> {
        Arc::new(Self)
    }

    fn rehearsal(&self) -> Result<Arc<dyn IBalancePolicy>, RehearsalError> {
        Ok(Arc::new(Self))
    }

    fn pick(&self, request: &PickRequest<'_>) -> Option<Picked> {
        self.choose(request).map(Picked::new)
    }
}

impl Ha {
    fn choose(&self, request: &PickRequest<'_>) -> Option<usize> {
        (0..request.len()).find(|&index| request.is_open(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::testing::{PickIndex, ids, request, set};

    #[test]
    fn everybody_goes_to_the_first_server_until_it_drops() {
        let set = set(&[1, 256, 1]);
        for random in 0..50 {
            assert_eq!(Ha.pick_index(&PickRequest { random, ..request(&set) }), Some(0));
        }
        let tried = ids(&set, [0, 1]);
        assert_eq!(Ha.pick_index(&PickRequest { tried: &tried, ..request(&set) }), Some(2));
    }
}
