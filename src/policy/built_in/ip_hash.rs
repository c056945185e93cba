//! `ip_hash`: a client's IP decides, so it meets the same server for as long as the set stays the same.
//!
//! The server is `client hash % number of servers`, counted from 0 in the order of the set. The hash is
//! [`client_hash`](super::hash::client_hash); that and nothing else is hashed, so every node and every
//! version agree. Weights do not matter: modulo is the promise. When the set changes most clients move;
//! `maglev` avoids that.
//!
//! When that server is closed, the next numbers are those of splitmix64 seeded with the client's hash, up
//! to 15 of them, each again modulo the number of servers. When all these are closed too, it is the open
//! server whose address text has the greatest XXH3-64 with the client's hash as the seed.

use std::sync::Arc;

use super::choose::by_client;
use crate::policy::balance::{IBalancePolicy, PickRequest, Picked, RehearsalError, ServerSet};

/// The hash of the client's IP modulo the number of servers.
#[derive(Debug, Default)]
pub(super) struct IpHash;

impl IBalancePolicy for IpHash {
    fn name(&self) -> &str {
        "ip_hash"
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

impl IpHash {
    fn choose(&self, request: &PickRequest<'_>) -> Option<usize> {
        let count = request.len().max(1) as u64;
        by_client(request, |hash| (hash % count) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::testing::{PickIndex, assert_shares, client, counts, ids, request, set};

    #[test]
    fn every_version_sends_a_client_to_the_same_server() {
        let set = set(&[1; 10]);
        let picks = ["10.0.0.7:1", "192.168.1.1:1", "[2001:db8::7]:1", "[::1]:1"].map(|client| {
            IpHash.pick_index(&PickRequest { client: client.parse().unwrap(), ..request(&set) }).unwrap()
        });
        assert_eq!(picks, [5, 3, 6, 3]);
    }

    #[test]
    fn clients_spread_evenly_whatever_the_weights() {
        let set = set(&[256, 1, 1, 1, 1, 1, 1, 1]);
        let picks =
            (0..80_000).map(|n| IpHash.pick_index(&PickRequest { client: client(n), ..request(&set) }).unwrap());
        assert_shares(&counts(8, picks), &[1; 8]);
    }

    #[test]
    fn the_clients_of_a_closed_server_spread_over_all_others_and_nobody_else_moves() {
        let set = set(&[1; 8]);
        let tried = ids(&set, [3]);
        let mut moved = Vec::new();
        for n in 0..80_000 {
            let all_open = PickRequest { client: client(n), ..request(&set) };
            let one_closed = PickRequest { tried: &tried, ..all_open };
            match IpHash.pick_index(&all_open).unwrap() {
                3 => moved.push(IpHash.pick_index(&one_closed).unwrap()),
                other => assert_eq!(IpHash.pick_index(&one_closed), Some(other)),
            }
        }
        assert_shares(&counts(8, moved), &[1, 1, 1, 0, 1, 1, 1, 1]);
    }
}
