//! `zone_first`: servers of the own zone first, by turns; the others when none of those is left.
//!
//! A server's zone is its label `zone`. Which zone is the own one comes with the parameters: `{"zone": "a"}`. While
//! one server of it is available and has not failed this client, no other zone sees a client. Weights are ignored.
//!
//! What is decided stands here, in plain Rust with plain tests; `guest.rs` ties it to `wit/balance.wit`.

#[cfg(target_family = "wasm")]
mod guest;

use serde::Deserialize;

/// What may be set.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The zone whose servers come first.
    pub zone: String,
}

impl Params {
    /// Reads the parameters; the text of an error is for the operator, who sees it as it is.
    pub fn parse(json: &str) -> Result<Self, String> {
        let params: Self =
            serde_json::from_str(json).map_err(|error| format!("params: {error}; expected {{\"zone\": \"NAME\"}}"))?;
        if params.zone.is_empty() {
            return Err("params: zone is empty; expected the label that the servers of this zone have".to_owned());
        }
        Ok(params)
    }
}

/// The available servers, the own zone's apart from the others'.
#[derive(Default)]
pub struct ZoneFirst {
    own: Turns,
    others: Turns,
}

impl ZoneFirst {
    /// Takes the available servers, each with whether it is in the own zone.
    pub fn set_servers(&mut self, available: impl Iterator<Item = (u32, bool)>) {
        let (own, others): (Vec<_>, Vec<_>) = available.partition(|(_, is_own)| *is_own);
        self.own.set(own);
        self.others.set(others);
    }

    /// Whether a client would be sent to another zone now.
    pub fn spills(&self) -> bool {
        self.own.servers.is_empty() && !self.others.servers.is_empty()
    }

    /// The next server that `is_tried` says nothing against.
    pub fn pick(&mut self, is_tried: impl Fn(u32) -> bool) -> Option<u32> {
        self.own.next(&is_tried).or_else(|| self.others.next(&is_tried))
    }
}

/// Servers by turns. The turn stays where it is when the servers change.
#[derive(Default)]
struct Turns {
    servers: Vec<u32>,
    next: usize,
}

impl Turns {
    fn set(&mut self, servers: Vec<(u32, bool)>) {
        self.servers = servers.into_iter().map(|(id, _)| id).collect();
    }

    /// Goes once round at most.
    fn next(&mut self, is_tried: impl Fn(u32) -> bool) -> Option<u32> {
        for _ in 0..self.servers.len() {
            self.next = if self.next + 1 < self.servers.len() { self.next + 1 } else { 0 };
            let server = self.servers[self.next];
            if !is_tried(server) {
                return Some(server);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zones(servers: &[(u32, bool)]) -> ZoneFirst {
        let mut zones = ZoneFirst::default();
        zones.set_servers(servers.iter().copied());
        zones
    }

    #[test]
    fn the_own_zone_gets_every_client_while_it_has_a_server() {
        let mut zones = zones(&[(1, true), (2, false), (3, true), (4, false)]);
        let mut picks: Vec<_> = (0..100).map(|_| zones.pick(|_| false).unwrap()).collect();
        picks.sort();
        assert_eq!(picks, [[1; 50], [3; 50]].concat());
    }

    #[test]
    fn clients_spill_over_evenly_when_the_own_zone_has_none_left() {
        let mut zones = zones(&[(2, false), (4, false)]);
        assert!(zones.spills());
        let picks: Vec<_> = (0..4).map(|_| zones.pick(|_| false).unwrap()).collect();
        assert_eq!(picks.iter().filter(|&&id| id == 2).count(), 2);
    }

    #[test]
    fn a_client_that_the_own_zone_failed_is_served_by_another_zone() {
        let mut zones = zones(&[(1, true), (2, false), (3, true)]);
        assert_eq!(zones.pick(|id| id == 1), Some(3));
        assert_eq!(zones.pick(|id| id != 2), Some(2));
        assert_eq!(zones.pick(|_| true), None);
    }

    #[test]
    fn a_list_that_has_become_shorter_is_no_trouble() {
        let mut zones = zones(&[(1, true), (2, true), (3, true)]);
        zones.pick(|_| false);
        zones.pick(|_| false);
        zones.set_servers([(7, true)].into_iter());
        assert_eq!(zones.pick(|_| false), Some(7));
        zones.set_servers(std::iter::empty());
        assert_eq!(zones.pick(|_| false), None);
    }

    #[test]
    fn ten_thousand_servers_that_were_all_tried_end_in_none() {
        let servers: Vec<_> = (0..10_000).map(|id| (id, id % 3 == 0)).collect();
        assert_eq!(zones(&servers).pick(|_| true), None);
    }

    #[test]
    fn a_missing_zone_is_named_in_the_error() {
        assert_eq!(
            Params::parse("{}").unwrap_err(),
            "params: missing field `zone` at line 1 column 2; expected {\"zone\": \"NAME\"}"
        );
        assert!(Params::parse(r#"{"zone": ""}"#).unwrap_err().contains("zone is empty"));
        assert!(Params::parse(r#"{"zon": "a"}"#).unwrap_err().contains("unknown field `zon`"));
        assert_eq!(Params::parse(r#"{"zone": "a"}"#).unwrap().zone, "a");
    }
}
