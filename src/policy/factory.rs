//! The only place that turns a configured name into a policy.
//!
//! One table, `TABLE`, holds what is known of the built-in policies: the name, the promise that is shown
//! to people, and how to make one. Names, checks and listings follow from it, so another policy is one
//! file and one entry.

use std::fmt;
use std::sync::Arc;

use super::IBalancePolicy;
use super::ha::Ha;
use super::ip_hash::IpHash;
use super::least_sessions::LeastSessions;
use super::maglev::Maglev;
use super::p2c::P2c;
use super::random::Random;
use super::round_robin::RoundRobin;

/// A policy that needs no module, as it is listed.
#[derive(Clone, Copy, Debug)]
pub struct BuiltIn {
    /// The name in the file.
    pub name: &'static str,
    /// What it promises, in one line.
    pub promise: &'static str,
    make: fn() -> Arc<dyn IBalancePolicy>,
}

const TABLE: [BuiltIn; 7] = [
    BuiltIn { name: "ha", promise: "always the first online server, until it drops", make: || Arc::new(Ha) },
    BuiltIn {
        name: "round_robin",
        promise: "one server after the other, exactly by weight",
        make: || Arc::<RoundRobin>::default(),
    },
    BuiltIn {
        name: "ip_hash",
        promise: "a client's IP decides: its hash modulo the number of online servers",
        make: || Arc::new(IpHash),
    },
    BuiltIn {
        name: "least_sessions",
        promise: "the server with the fewest sessions for its weight",
        make: || Arc::<LeastSessions>::default(),
    },
    BuiltIn { name: "random", promise: "by chance, in proportion to the weights", make: || Arc::<Random>::default() },
    BuiltIn {
        name: "p2c",
        promise: "two at random, the better by sessions and connect time for its weight",
        make: || Arc::<P2c>::default(),
    },
    BuiltIn {
        name: "maglev",
        promise: "a client's IP decides; a server that goes moves hardly anybody but its own clients",
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

/// A policy as configured: a name that the factory knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicySpec {
    name: Arc<str>,
}

/// A name the factory does not know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown policy \"{name}\"; expected {}", BUILT_IN.join(", "))]
pub struct UnknownPolicy {
    /// The name as given, cut to 64 characters.
    pub name: String,
}

impl PolicySpec {
    /// Checks `name` against what the factory can make.
    ///
    /// # Errors
    ///
    /// [`UnknownPolicy`] for any name that is not in [`BUILT_IN`].
    pub fn parse(name: &str) -> Result<Self, UnknownPolicy> {
        if BUILT_IN.contains(&name) {
            Ok(Self { name: name.into() })
        } else {
            Err(UnknownPolicy { name: name.chars().take(64).collect() })
        }
    }

    /// The configured name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same name, shared: for log records.
    pub fn shared_name(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }
}

impl Default for PolicySpec {
    fn default() -> Self {
        Self { name: "round_robin".into() }
    }
}

impl fmt::Display for PolicySpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Makes the policy that `spec` names, prepared for no servers.
pub fn make(spec: &PolicySpec) -> Arc<dyn IBalancePolicy> {
    let built_in =
        TABLE.iter().find(|built_in| built_in.name == spec.name()).expect("a spec holds a name of the table");
    (built_in.make)()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_policy_is_read_and_made_under_its_own_name() {
        for BuiltIn { name, promise, .. } in describe() {
            let spec = PolicySpec::parse(name).unwrap();
            assert_eq!((spec.name(), make(&spec).name()), (*name, *name));
            assert!(!promise.is_empty() && !promise.contains('\n'));
        }
        assert_eq!(make(&PolicySpec::default()).name(), "round_robin");
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_names_that_are_known_and_a_bounded_echo() {
        let error = PolicySpec::parse("round_robbin").unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown policy \"round_robbin\"; expected ha, round_robin, ip_hash, least_sessions, random, p2c, maglev"
        );
        assert_eq!(PolicySpec::parse(&"ä".repeat(1_000)).unwrap_err().name.chars().count(), 64);
        for name in ["", "HA", " ha", "round-robin"] {
            assert!(PolicySpec::parse(name).is_err(), "{name}");
        }
    }
}
