//! The table of built-in policies: the name of each, the promise that is shown to people, and how to make one.
//!
//! Names, checks and listings follow from it, so another policy is one file and one entry.

use std::sync::Arc;

use super::ha::Ha;
use super::ip_hash::IpHash;
use super::least_sessions::LeastSessions;
use super::maglev::Maglev;
use super::p2c::P2c;
use super::random::Random;
use super::round_robin::RoundRobin;
use crate::policy::balance::IBalancePolicy;

/// A policy that needs no module, as it is listed.
#[derive(Clone, Copy, Debug)]
pub struct BuiltIn {
    /// The name in the file.
    pub name: &'static str,
    /// What it promises, in one line.
    pub promise: &'static str,
    /// True when the same client, asking again, may get another answer though nothing has changed.
    pub is_by_chance: bool,
    make: fn() -> Arc<dyn IBalancePolicy>,
}

const TABLE: [BuiltIn; 7] = [
    BuiltIn {
        name: "ha",
        promise: "always the first online server, until it drops",
        is_by_chance: false,
        make: || Arc::new(Ha),
    },
    BuiltIn {
        name: "round_robin",
        promise: "one server after the other, exactly by weight",
        is_by_chance: false,
        make: || Arc::<RoundRobin>::default(),
    },
    BuiltIn {
        name: "ip_hash",
        promise: "a client's IP decides: its hash modulo the number of online servers",
        is_by_chance: false,
        make: || Arc::new(IpHash),
    },
    BuiltIn {
        name: "least_sessions",
        promise: "the server with the fewest sessions for its weight",
        is_by_chance: false,
        make: || Arc::<LeastSessions>::default(),
    },
    BuiltIn {
        name: "random",
        promise: "by chance, in proportion to the weights",
        is_by_chance: true,
        make: || Arc::<Random>::default(),
    },
    BuiltIn {
        name: "p2c",
        promise: "two at random, the better by sessions and connect time for its weight",
        is_by_chance: true,
        make: || Arc::<P2c>::default(),
    },
    BuiltIn {
        name: "maglev",
        promise: "a client's IP decides; a server that goes moves hardly anybody but its own clients",
        is_by_chance: false,
        make: || Arc::<Maglev>::default(),
    },
];

/// The names of the policies that need no module, in the order in which they are listed.
pub const BUILT_IN: [&str; TABLE.len()] = {
    let mut names = [""; TABLE.len()];
    let mut index = 0;
    while index < names.len() {
        names[index] = TABLE[index].name;
        index += 1;
    }
    names
};

/// The policies that need no module, with their promises, in the order in which they are listed.
pub fn describe() -> &'static [BuiltIn] {
    const { &TABLE }
}

/// Makes a policy that needs no module, prepared for no servers; `None` for a name that is not in [`BUILT_IN`].
pub fn make(name: &str) -> Option<Arc<dyn IBalancePolicy>> {
    TABLE.iter().find(|built_in| built_in.name == name).map(|built_in| (built_in.make)())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_policy_is_made_under_its_own_name() {
        for BuiltIn { name, promise, .. } in describe() {
            assert_eq!(make(name).unwrap().name(), *name);
            assert!(!promise.is_empty() && !promise.contains('\n'));
        }
        assert!(make("wasm:ha").is_none() && make("").is_none());
    }
}
