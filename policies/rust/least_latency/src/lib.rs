//! `least_latency`: the server that connects fastest for the sessions it has.
//!
//! Each available server costs its smoothed connect time × (sessions + 1); the cheapest gets the client. Connect times
//! come from the sessions themselves: the proxy says through the interface `feedback` what became of each pick.
//!
//! - A server that nobody has met counts as the fastest known one, so that it is met; its sessions keep it from
//!   being met by everybody at once.
//! - A server that fails to connect counts ten times as slow from then on, 10 s at most.
//! - One pick in 32 goes to the servers by turns, so that one that was slow or failing is measured again. A failing
//!   server is forgiven with the first connection that comes about. A faster connection counts half, a slower one an
//!   eighth: to be slow is soon forgotten, and one slow answer among fast ones does little.
//!
//! A pick looks at every server, with one question to the proxy for all of them. Weights are ignored.
//!
//! What is decided stands here, in plain Rust with plain tests; `guest.rs` ties it to `wit/balance.wit`.

#[cfg(target_family = "wasm")]
mod guest;

use std::collections::BTreeMap;

/// One pick in so many goes to the servers by turns.
const EXPLORE_EVERY: u32 = 32;

/// What a server that nobody has met is thought to take, when nobody has met any.
const MICROS_DEFAULT: u32 = 1_000;

/// No server counts as slower than this, so that it can be forgiven.
const MICROS_MAX: u32 = 10_000_000;

/// The servers and what is known of them.
#[derive(Default)]
pub struct LeastLatency {
    /// In the order of the list, which is the one that session counts come in.
    servers: Vec<Server>,
    /// Where each id stands in `servers`.
    places: BTreeMap<u32, usize>,
    /// Where the next look begins, so that servers which cost the same take turns.
    start: usize,
    /// Whose turn it is to be explored.
    explored: usize,
    picks: u32,
}

struct Server {
    id: u32,
    is_available: bool,
    /// 0 when nobody has met it.
    micros: u32,
    has_failed: bool,
}

impl LeastLatency {
    /// Takes the whole list of ids, each with whether it is available. What is known of a server stays known;
    /// `measured` is asked about the others, and answers 0 when it knows no better.
    pub fn set_servers(&mut self, servers: impl Iterator<Item = (u32, bool)>, measured: impl Fn(u32) -> u32) {
        let servers: Vec<_> = servers
            .map(|(id, is_available)| match self.places.get(&id).map(|&place| &self.servers[place]) {
                Some(known) => Server { is_available, ..*known },
                None => Server { id, is_available, micros: measured(id).min(MICROS_MAX), has_failed: false },
            })
            .collect();
        self.places = servers.iter().enumerate().map(|(place, server)| (server.id, place)).collect();
        self.servers = servers;
    }

    /// The cheapest server, by its `sessions`, which stand in the order of the list.
    pub fn pick(&mut self, sessions: &[u32], is_tried: impl Fn(u32) -> bool) -> Option<u32> {
        self.picks = self.picks.wrapping_add(1);
        if self.picks.is_multiple_of(EXPLORE_EVERY)
            && let Some(id) = self.explore(&is_tried)
        {
            return Some(id);
        }
        self.cheapest(sessions, is_tried)
    }

    /// A connection came about, `micros` after it was begun.
    pub fn connected(&mut self, id: u32, micros: u32) {
        if let Some(server) = self.server(id) {
            let micros = micros.clamp(1, MICROS_MAX);
            server.micros = match server.micros {
                0 => micros,
                _ if server.has_failed => micros,
                known if micros < known => known.midpoint(micros),
                known => known + (micros - known) / 8,
            };
            server.has_failed = false;
        }
    }

    /// A connection did not come about.
    pub fn failed(&mut self, id: u32) {
        if let Some(server) = self.server(id) {
            server.micros = server.micros.max(MICROS_DEFAULT).saturating_mul(10).min(MICROS_MAX);
            server.has_failed = true;
        }
    }

    fn server(&mut self, id: u32) -> Option<&mut Server> {
        self.places.get(&id).map(|&place| &mut self.servers[place])
    }

    /// The next one by turns: once round at most.
    fn explore(&mut self, is_tried: impl Fn(u32) -> bool) -> Option<u32> {
        let count = self.servers.len();
        let place = (1..=count).map(|step| (self.explored + step) % count).find(|&place| {
            let server = &self.servers[place];
            server.is_available && !is_tried(server.id)
        })?;
        self.explored = place;
        Some(self.servers[place].id)
    }

    fn cheapest(&mut self, sessions: &[u32], is_tried: impl Fn(u32) -> bool) -> Option<u32> {
        let unknown_micros = self
            .servers
            .iter()
            .filter(|server| server.is_available && server.micros > 0)
            .map(|server| server.micros)
            .min()
            .unwrap_or(MICROS_DEFAULT);
        self.start = if self.start + 1 < self.servers.len() { self.start + 1 } else { 0 };

        let mut best = None;
        let mut best_cost = u64::MAX;
        for place in (self.start..self.servers.len()).chain(0..self.start) {
            let server = &self.servers[place];
            if !server.is_available {
                continue;
            }
            let micros = if server.micros == 0 { unknown_micros } else { server.micros };
            let sessions = sessions.get(place).copied().unwrap_or(0);
            let cost = u64::from(micros) * (u64::from(sessions) + 1);
            // The proxy is asked about the best ones only: a handful of questions, not one for each server.
            if cost < best_cost && !is_tried(server.id) {
                best_cost = cost;
                best = Some(server.id);
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(count: u32) -> LeastLatency {
        let mut policy = LeastLatency::default();
        policy.set_servers((0..count).map(|id| (id, true)), |_| 0);
        policy
    }

    /// How many of 3,200 clients each of three servers gets, connecting in `micros`; `None` fails.
    fn shares(policy: &mut LeastLatency, micros: [Option<u32>; 3]) -> [u32; 3] {
        let mut shares = [0; 3];
        for _ in 0..3200 {
            let id = policy.pick(&[0; 3], |_| false).unwrap();
            shares[id as usize] += 1;
            match micros[id as usize] {
                Some(micros) => policy.connected(id, micros),
                None => policy.failed(id),
            }
        }
        shares
    }

    #[test]
    fn the_fastest_server_gets_nearly_all_clients_and_each_is_measured_again() {
        let [a, b, c] = shares(&mut policy(3), [Some(900), Some(200), Some(40_000)]);
        assert!(b > 3000, "{b}");
        assert!(a > 30 && c > 30, "{a} {c}");
    }

    #[test]
    fn a_server_that_was_slow_or_failing_comes_back() {
        let mut policy = policy(3);
        let [_, _, slow] = shares(&mut policy, [None, Some(200), Some(40_000)]);
        assert!(slow < 60, "{slow}");
        let [failed, _, slow] = shares(&mut policy, [Some(100), Some(20_000), Some(100)]);
        assert!(failed > 500 && slow > 30, "{failed} {slow}");
    }

    #[test]
    fn sessions_count_as_much_as_time() {
        let mut policy = policy(2);
        policy.connected(0, 100);
        policy.connected(1, 300);
        assert_eq!(policy.pick(&[1, 0], |_| false), Some(0));
        assert_eq!(policy.pick(&[3, 0], |_| false), Some(1));
    }

    #[test]
    fn servers_that_cost_the_same_take_turns() {
        let mut policy = policy(4);
        let mut picks: Vec<_> = (0..4).map(|_| policy.pick(&[0; 4], |_| false).unwrap()).collect();
        picks.sort();
        assert_eq!(picks, [0, 1, 2, 3]);
    }

    #[test]
    fn what_is_known_survives_a_change_of_the_list() {
        let mut policy = policy(3);
        policy.connected(2, 50);
        policy.connected(1, 900);
        policy.set_servers([(1, true), (9, false), (2, true)].into_iter(), |_| 1);
        assert_eq!(policy.pick(&[0; 3], |_| false), Some(2));
    }

    #[test]
    fn neither_unavailable_nor_tried_servers_are_answered() {
        let mut policy = policy(0);
        policy.set_servers((0..10).map(|id| (id, id != 3)), |_| 5);
        for _ in 0..1000 {
            let id = policy.pick(&[0; 10], |id| id > 4).unwrap();
            assert!(id != 3 && id <= 4, "{id}");
        }
    }

    #[test]
    fn none_is_the_answer_when_nobody_is_left() {
        for count in [0, 1, 10, 10_000] {
            let mut policy = policy(count);
            for _ in 0..EXPLORE_EVERY {
                assert_eq!(policy.pick(&vec![0; count as usize], |_| true), None);
            }
        }
    }

    #[test]
    fn news_of_a_server_that_has_gone_is_ignored() {
        let mut policy = policy(1);
        policy.connected(77, 5);
        policy.failed(77);
        assert_eq!(policy.pick(&[0], |_| false), Some(0));
    }
}
