//! `maglev`: consistent hashing of the client's IP. A server that goes moves its own clients and hardly
//! anybody else; each server's share is even to about one part in a hundred.
//!
//! As in Eisenbud et al., "Maglev: a fast and reliable software network load balancer", 2016, section
//! 3.4: a table of a prime number of slots, and for each server its own permutation of them, from the hash
//! of its address. The servers take turns, in the order of their addresses, and at each turn take the first
//! slot of their permutation that is free. A client's slot is its hash modulo the number of slots. The order
//! of the list plays no part, so all nodes that know the same servers and weights agree.
//!
//! Weights: after a first turn for everyone the turns follow the smooth weighted order, so a server of
//! weight 2 has twice the slots. The size of the table depends on the number of servers alone and in a
//! few large steps, because another size moves everybody: that happens when a group grows past 655 or 2,621
//! servers, or shrinks back. Past 10,000 servers there are fewer than 100 slots for each and shares get less
//! even; those past the 65,536th in the list are nobody's first choice.
//!
//! The clients of a closed server go where the next numbers of splitmix64, seeded with their hash, find an
//! open one, by weight; nobody else moves. See `ip_hash` for the last resort.

use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::choose::by_client;
use super::order::Order;
use crate::policy::balance::{IBalancePolicy, PickRequest, Picked, RehearsalError, ServerSet};

/// Numbers of slots, all prime: the first with 100 for each server is taken, or the last.
const SLOTS: [usize; 3] = [65_537, 262_147, 1_000_003];

/// The seeds that turn an address into the start and the step of its permutation.
const SEEDS: [u64; 2] = [u64::from_be_bytes(*b"maglev/0"), u64::from_be_bytes(*b"maglev/1")];

/// A table from the client's hash to a server.
#[derive(Debug, Default)]
pub(super) struct Maglev {
    /// The index of each slot's server; empty without servers. 16 bits suffice and keep half of it out of the
    /// caches' way.
    table: Vec<u16>,
}

impl IBalancePolicy for Maglev {
    fn name(&self) -> &str {
        "maglev"
    }

    fn for_servers(&self, servers: &Arc<ServerSet>) -> Arc<dyn IBalancePolicy> {
        Arc::new(Self { table: fill(servers) })
    }

    fn rehearsal(&self) -> Result<Arc<dyn IBalancePolicy>, RehearsalError> {
        Ok(Arc::new(Self { table: self.table.clone() }))
    }

    fn pick(&self, request: &PickRequest<'_>) -> Option<Picked> {
        self.choose(request).map(Picked::new)
    }
}

impl Maglev {
    fn choose(&self, request: &PickRequest<'_>) -> Option<usize> {
        let slots = self.table.len().max(1) as u64;
        by_client(request, |hash| self.table.get((hash % slots) as usize).map_or(usize::MAX, |&index| index as usize))
    }
}

/// The walk of one server through all slots in its own order.
struct Walk {
    index: u16,
    at: usize,
    step: usize,
}

fn fill(servers: &ServerSet) -> Vec<u16> {
    let count = servers.servers.len();
    if count == 0 {
        return Vec::new();
    }
    let slots = SLOTS.into_iter().find(|&slots| slots >= 100 * count).unwrap_or(SLOTS[SLOTS.len() - 1]);
    let mut walks = walks(servers, slots);
    let order = Order::new(walks.iter().map(|walk| u32::from(servers.servers[walk.index as usize].settings.weight)));
    let weighted = (0..).filter_map(|turn| order.at(turn));

    let mut table = vec![0; slots];
    let mut taken = vec![0_u64; slots.div_ceil(64)];
    for turn in (0..walks.len()).chain(weighted).take(slots) {
        let walk = &mut walks[turn];
        // The step and the prime size have no common divisor, so the walk comes by every slot, and one is
        // free: there are only as many turns as slots.
        while taken[walk.at / 64] & (1 << (walk.at % 64)) != 0 {
            walk.advance(slots);
        }
        taken[walk.at / 64] |= 1 << (walk.at % 64);
        table[walk.at] = walk.index;
    }
    table
}

/// A walk for each server, in the order of their addresses.
fn walks(servers: &ServerSet, slots: usize) -> Vec<Walk> {
    let mut by_address: Vec<(&str, u16)> =
        servers.servers.iter().map(|server| server.settings.addr.as_str()).zip(0..=u16::MAX).collect();
    by_address.sort_unstable();
    let walk = |(address, index): (&str, u16)| {
        let [start, step] = SEEDS.map(|seed| xxh3_64_with_seed(address.as_bytes(), seed));
        Walk { index, at: (start % slots as u64) as usize, step: (step % (slots as u64 - 1)) as usize + 1 }
    };
    by_address.into_iter().map(walk).collect()
}

impl Walk {
    fn advance(&mut self, slots: usize) {
        self.at += self.step;
        if self.at >= slots {
            self.at -= slots;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::testing::{PickIndex, assert_shares, client, counts, ids, prepared, request, set, set_of};

    /// The address that each slot leads to, so that tables of different sets can be compared.
    fn addresses(servers: &ServerSet) -> Vec<&str> {
        fill(servers).into_iter().map(|index| servers.servers[index as usize].settings.addr.as_str()).collect()
    }

    fn is_prime(number: usize) -> bool {
        (2..).take_while(|divisor| divisor * divisor <= number).all(|divisor| !number.is_multiple_of(divisor))
    }

    #[test]
    fn every_size_is_prime_so_that_a_walk_meets_every_slot() {
        assert!(SLOTS.into_iter().all(is_prime));
    }

    #[test]
    fn slots_are_shared_exactly_by_weight_but_for_the_last_turns() {
        let weights = [1, 2, 3, 10, 256];
        let servers = set(&weights);
        let slots = counts(weights.len(), fill(&servers).into_iter().map(|index| index as usize));
        for (slots, weight) in slots.iter().zip(weights) {
            let share = f64::from(weight) / 272.0 * 65_537.0;
            assert!((*slots as f64 - share).abs() < 6.0, "{slots} slots for {share}");
        }
    }

    #[test]
    fn every_server_has_a_slot_however_small_its_weight() {
        let weights: Vec<u32> = (0..655).map(|index| if index == 0 { 1 } else { 256 }).collect();
        assert!(fill(&set(&weights)).contains(&0));
    }

    #[test]
    fn a_server_that_goes_moves_its_own_clients_and_at_most_one_in_a_hundred_of_the_others() {
        for (count, weight_max) in [(2, 1), (10, 1), (100, 1), (10, 5), (50, 256)] {
            let weights: Vec<u32> = (0..count).map(|index| 1 + (index * 37 + 3) % weight_max).collect();
            let with = set(&weights);
            let without = set_of(with.servers.iter().skip(1).cloned());
            let gone = with.servers[0].settings.addr.as_str();
            let (before, after) = (addresses(&with), addresses(&without));
            let stayed: Vec<_> = before.iter().zip(&after).filter(|(before, _)| **before != gone).collect();
            let moved = stayed.iter().filter(|(before, after)| before != after).count();
            assert!(moved * 100 <= stayed.len(), "{moved} of {} moved with weights {weights:?}", stayed.len());
        }
    }

    #[test]
    fn the_order_of_the_list_plays_no_part() {
        let servers = set(&[1, 2, 3, 1, 5]);
        let reversed = set_of(servers.servers.iter().rev().cloned());
        assert_eq!(addresses(&servers), addresses(&reversed));
    }

    #[test]
    fn every_version_sends_a_client_to_the_same_server() {
        let set = set(&[1; 10]);
        let policy = prepared("maglev", &set);
        let picks = ["10.0.0.7:1", "192.168.1.1:1", "[2001:db8::7]:1", "[::1]:1"].map(|client| {
            policy.pick_index(&PickRequest { client: client.parse().unwrap(), ..request(&set) }).unwrap()
        });
        assert_eq!(picks, [6, 9, 6, 1]);
    }

    #[test]
    fn the_clients_of_a_closed_server_spread_by_weight_and_nobody_else_moves() {
        let set = set(&[1, 2, 3, 2]);
        let policy = prepared("maglev", &set);
        let tried = ids(&set, [2]);
        let mut moved = Vec::new();
        for n in 0..50_000 {
            let all_open = PickRequest { client: client(n), ..request(&set) };
            let one_closed = PickRequest { tried: &tried, ..all_open };
            match policy.pick_index(&all_open).unwrap() {
                2 => moved.push(policy.pick_index(&one_closed).unwrap()),
                other => assert_eq!(policy.pick_index(&one_closed), Some(other)),
            }
        }
        assert_shares(&counts(4, moved), &[1, 2, 0, 2]);
    }
}
