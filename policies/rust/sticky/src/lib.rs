//! `sticky`: a client's IP stays with its server, whatever other servers come and go.
//!
//! Hashing keeps no state and so moves clients when servers change. This policy remembers: a client that was here in
//! the last `ttl_seconds` gets the same server while it is available, and moves for good when it is not. A client
//! that is not known goes where a hash of its IP says; so a table that was lost, with a restart or a fault, costs
//! only the clients that servers had come or gone for since. Weights are ignored.
//!
//! The table has a bound: with `entries_max` clients, the one that was away for longest is forgotten. A lookup is
//! a few steps down two ordered maps, which nobody can make slow by choosing addresses, as with a hash table.
//!
//! What is decided stands here, in plain Rust with plain tests; `guest.rs` ties it to `wit/balance.wit`.

#[cfg(target_family = "wasm")]
mod guest;

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

/// How many clients a table may be told to hold: what fits the memory a policy has by default.
pub const ENTRIES_MAX: usize = 50_000;

/// What may be set.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Params {
    /// How long a client that stays away is remembered.
    pub ttl_seconds: u32,
    /// How many clients are remembered.
    pub entries_max: usize,
}

impl Default for Params {
    fn default() -> Self {
        Self { ttl_seconds: 1800, entries_max: 10_000 }
    }
}

impl Params {
    /// Reads the parameters; the text of an error is for the operator, who sees it as it is.
    pub fn parse(json: &str) -> Result<Self, String> {
        let params: Self = serde_json::from_str(json).map_err(|error| format!("params: {error}"))?;
        if params.ttl_seconds == 0 {
            return Err("params: ttl_seconds is 0; expected 1 or more".to_owned());
        }
        if !(1..=ENTRIES_MAX).contains(&params.entries_max) {
            return Err(format!("params: entries_max is {}; expected 1 to {ENTRIES_MAX}", params.entries_max));
        }
        Ok(params)
    }
}

/// Which client is with which server, and the servers to choose from.
pub struct Sticky {
    params: Params,
    /// The ids of the available servers, in the order of the list.
    available: Vec<u32>,
    /// The same, in their own order, to be found quickly.
    available_by_id: Vec<u32>,
    entries: BTreeMap<u128, Entry>,
    /// When each client was last here, longest ago first.
    by_use: BTreeSet<(u64, u128)>,
}

struct Entry {
    server: u32,
    used_nanos: u64,
}

impl Sticky {
    /// A table that remembers nobody yet.
    pub fn new(params: Params) -> Self {
        Self { params, available: vec![], available_by_id: vec![], entries: BTreeMap::new(), by_use: BTreeSet::new() }
    }

    /// Takes the ids of the available servers. Who is with a server that is not among them stays in the table: it
    /// may be back before the client is.
    pub fn set_servers(&mut self, available: Vec<u32>) {
        self.available_by_id.clone_from(&available);
        self.available_by_id.sort_unstable();
        self.available = available;
    }

    /// The client's server when it has one that will do, and another, from now on its own, when not.
    pub fn pick(&mut self, client: u128, now_nanos: u64, is_tried: impl Fn(u32) -> bool) -> Option<u32> {
        self.forget_expired(now_nanos);
        let will_do = |id| self.available_by_id.binary_search(&id).is_ok() && !is_tried(id);
        let server = match self.entries.get(&client) {
            Some(entry) if !self.is_expired(entry.used_nanos, now_nanos) && will_do(entry.server) => entry.server,
            _ => self.choose(client, is_tried)?,
        };
        self.remember(client, server, now_nanos);
        Some(server)
    }

    /// Where the hash says, or the next in the list that has not failed this client: once round at most.
    fn choose(&self, client: u128, is_tried: impl Fn(u32) -> bool) -> Option<u32> {
        let count = self.available.len();
        let start = hash(client).checked_rem(count as u64)? as usize;
        (0..count).map(|step| self.available[(start + step) % count]).find(|&id| !is_tried(id))
    }

    fn remember(&mut self, client: u128, server: u32, now_nanos: u64) {
        if let Some(before) = self.entries.insert(client, Entry { server, used_nanos: now_nanos }) {
            self.by_use.remove(&(before.used_nanos, client));
        } else if self.entries.len() > self.params.entries_max
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            self.entries.remove(&oldest);
        }
        self.by_use.insert((now_nanos, client));
    }

    /// Forgets at most two per pick: more than come in, and never enough to make one client wait for the others.
    fn forget_expired(&mut self, now_nanos: u64) {
        for _ in 0..2 {
            match self.by_use.first() {
                Some(&(used_nanos, client)) if self.is_expired(used_nanos, now_nanos) => {
                    self.by_use.pop_first();
                    self.entries.remove(&client);
                }
                _ => return,
            }
        }
    }

    fn is_expired(&self, used_nanos: u64, now_nanos: u64) -> bool {
        now_nanos.saturating_sub(used_nanos) > u64::from(self.params.ttl_seconds) * 1_000_000_000
    }
}

/// Spreads an address over 64 bits with the steps of splitmix64, once for each half.
fn hash(client: u128) -> u64 {
    let mix = |mut x: u64| {
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    };
    mix(mix(client as u64) ^ (client >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn sticky(params: &str, servers: std::ops::Range<u32>) -> Sticky {
        let mut sticky = Sticky::new(Params::parse(params).unwrap());
        sticky.set_servers(servers.collect());
        sticky
    }

    fn picks(sticky: &mut Sticky, now_nanos: u64) -> Vec<u32> {
        (0..1000).map(|client| sticky.pick(client, now_nanos, |_| false).unwrap()).collect()
    }

    #[test]
    fn a_client_stays_while_other_servers_come_and_go() {
        let mut sticky = sticky("{}", 0..10);
        let before = picks(&mut sticky, 0);

        sticky.set_servers((0..25).collect());
        assert_eq!(picks(&mut sticky, 1), before);

        sticky.set_servers((1..25).collect());
        let after = picks(&mut sticky, 2);
        assert!(before.iter().zip(&after).all(|(before, after)| *before == 0 || before == after));
        assert!(!after.contains(&0));
    }

    #[test]
    fn a_client_whose_server_was_away_stays_with_the_new_one() {
        let mut sticky = sticky("{}", 0..2);
        let first = sticky.pick(7, 0, |_| false).unwrap();
        let second = sticky.pick(7, 1, |id| id == first).unwrap();
        assert_ne!(first, second);
        assert_eq!(sticky.pick(7, 2, |_| false), Some(second));
    }

    #[test]
    fn a_client_is_forgotten_after_its_time() {
        let mut sticky = sticky(r#"{"ttl_seconds": 60}"#, 0..10);
        picks(&mut sticky, 0);
        assert_eq!(sticky.entries.len(), 1000);
        for step in 0..600 {
            sticky.pick(5000, 61 * SECOND + step, |_| false);
        }
        assert_eq!(sticky.entries.len(), 1);
        assert_eq!(sticky.by_use.len(), 1);
    }

    #[test]
    fn a_client_that_comes_back_too_late_is_a_new_one_even_when_many_expire_at_once() {
        let mut old = sticky(r#"{"ttl_seconds": 60}"#, 0..10);
        picks(&mut old, 0);
        old.set_servers((0..25).collect());
        // Only two are forgotten at each pick; this one is far from its turn.
        let back: Vec<_> = (900..1000).map(|client| old.pick(client, 61 * SECOND, |_| false)).collect();
        let mut new = sticky("{}", 0..25);
        assert_eq!(back, (900..1000).map(|client| new.pick(client, 0, |_| false)).collect::<Vec<_>>());
    }

    #[test]
    fn the_table_keeps_to_its_bound_and_forgets_who_was_away_for_longest() {
        let mut sticky = sticky(r#"{"entries_max": 100}"#, 0..10);
        for client in 0..100_000_u32 {
            sticky.pick(1, u64::from(client) * 2, |_| false);
            sticky.pick(u128::from(client) + 1000, u64::from(client) * 2 + 1, |_| false);
        }
        assert_eq!(sticky.entries.len(), 100);
        assert_eq!(sticky.by_use.len(), 100);
        assert!(sticky.entries.contains_key(&1));
    }

    #[test]
    fn a_lost_table_sends_clients_where_they_were() {
        assert_eq!(picks(&mut sticky("{}", 0..10), 0), picks(&mut sticky("{}", 0..10), 99 * SECOND));
    }

    #[test]
    fn new_clients_are_spread_over_all_servers() {
        let mut count = [0; 10];
        let mut sticky = sticky("{}", 0..10);
        for client in 0..100_000 {
            count[sticky.pick(client, 0, |_| false).unwrap() as usize] += 1;
        }
        assert!(count.iter().all(|count| (9_500..10_500).contains(count)), "{count:?}");
    }

    #[test]
    fn none_is_the_answer_when_nobody_is_left() {
        assert_eq!(sticky("{}", 0..0).pick(1, 0, |_| false), None);
        assert_eq!(sticky("{}", 0..10_000).pick(1, 0, |_| true), None);
    }

    #[test]
    fn parameters_out_of_range_are_refused_with_the_range() {
        assert_eq!(Params::parse(r#"{"ttl_seconds": 0}"#).unwrap_err(), "params: ttl_seconds is 0; expected 1 or more");
        assert_eq!(
            Params::parse(r#"{"entries_max": 50001}"#).unwrap_err(),
            "params: entries_max is 50001; expected 1 to 50000"
        );
        assert!(Params::parse(r#"{"ttl": 5}"#).unwrap_err().starts_with("params: unknown field `ttl`, expected"));
    }
}
