//! What the frames of a running proxy add up to.
//!
//! The other side of [`crate::frames`], whose doc has the format. What is not known there or here is passed over, so that
//! a `top` of another version still shows what both know.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};

/// Everything as it is shown.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    /// In milliseconds since 1970; 0 before the first frame.
    pub(super) at_ms: u64,
    pub(super) process: Process,
    /// Sessions, rate, up, down.
    pub(super) totals: Row<4>,
    /// By their numbers, in which lists are ordered.
    pub(super) groups: BTreeMap<u32, Group>,
    pub(super) servers: BTreeMap<u32, Server>,
    pub(super) policies: Vec<Policy>,
}

/// Numbers; `None` for what cannot be told.
pub(super) type Row<const N: usize> = [Option<u64>; N];

/// A group with its numbers.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) facts: GroupFacts,
    /// Sessions, rate, up, down, refused.
    pub(super) row: Row<5>,
    /// Servers that are online, and all.
    pub(super) servers: (usize, usize),
}

/// A server with its numbers.
#[derive(Clone, Debug)]
pub(super) struct Server {
    pub(super) facts: ServerFacts,
    /// Sessions, rate, share, connect time, time of the last check.
    pub(super) row: Row<5>,
}

/// The process.
#[derive(Clone, Debug, Default, Serialize, serde::Deserialize)]
#[serde(default)]
pub(super) struct Process {
    pub(super) version: String,
    pub(super) started_ms: Option<u64>,
    pub(super) sessions_max: u64,
    pub(super) ready: bool,
    pub(super) generation: u64,
    pub(super) reload: Reload,
}

/// The last reload.
#[derive(Clone, Debug, Default, Serialize, serde::Deserialize)]
#[serde(default)]
pub(super) struct Reload {
    pub(super) ok: bool,
    pub(super) loaded_ms: u64,
    pub(super) error: Option<String>,
}

/// What changes rarely of a group.
#[derive(Clone, Debug, Default, Serialize, serde::Deserialize)]
#[serde(default)]
pub(super) struct GroupFacts {
    pub(super) group: String,
    pub(super) port: u16,
    pub(super) listen: String,
    pub(super) open: bool,
    pub(super) policy: String,
    pub(super) policy_state: String,
    pub(super) fallback: Option<String>,
    pub(super) fail_open: bool,
    pub(super) self_preservation: bool,
    pub(super) sessions_max: u64,
}

/// What changes rarely of a server.
#[derive(Clone, Debug, Default, Serialize, serde::Deserialize)]
#[serde(default)]
pub(super) struct ServerFacts {
    /// The number of its group.
    #[serde(skip_serializing)]
    pub(super) g: u32,
    pub(super) addr: String,
    pub(super) state: String,
    pub(super) online: bool,
    pub(super) suspect: bool,
    pub(super) cause: Option<String>,
    pub(super) since_ms: u64,
    pub(super) weight: u32,
    pub(super) backup: bool,
    pub(super) origin: String,
    pub(super) sessions_max: u64,
    pub(super) check: Option<Check>,
}

/// The last check of a server.
#[derive(Clone, Debug, Default, Serialize, serde::Deserialize)]
#[serde(default)]
pub(super) struct Check {
    pub(super) ok: bool,
    pub(super) kind: String,
    pub(super) error: Option<String>,
}

/// A policy.
#[derive(Clone, Debug, Default, Serialize, serde::Deserialize)]
#[serde(default)]
pub(super) struct Policy {
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) state: String,
    pub(super) version: Option<String>,
    pub(super) error: Option<String>,
    pub(super) groups: u64,
    pub(super) calls: Option<u64>,
    pub(super) faults: Option<u64>,
    pub(super) fallbacks: Option<u64>,
    pub(super) cost_ns: Option<u64>,
}

/// How a server is, worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    Offline,
    Suspect,
    Maint,
    Drain,
    Online,
}

/// A frame.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
struct Frame {
    t: u64,
    p: Numbers<4>,
    process: Option<Process>,
    groups: Vec<Numbered<GroupFacts>>,
    g: Vec<Numbers<6>>,
    servers: Vec<Numbered<ServerFacts>>,
    s: Vec<Numbers<6>>,
    policies: Option<Vec<Policy>>,
    gone: Gone,
}

#[derive(Debug, serde::Deserialize)]
struct Numbered<F> {
    i: u32,
    #[serde(flatten)]
    facts: F,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
struct Gone {
    groups: Vec<u32>,
    servers: Vec<u32>,
}

/// A row of numbers as it travels: without the zeros at its end.
#[derive(Clone, Copy, Debug)]
struct Numbers<const N: usize>(Row<N>);

impl<const N: usize> Default for Numbers<N> {
    fn default() -> Self {
        Self([Some(0); N])
    }
}

impl<'de, const N: usize> Deserialize<'de> for Numbers<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Numerals<const N: usize>;

        impl<'de, const N: usize> Visitor<'de> for Numerals<N> {
            type Value = Numbers<N>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of numbers")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut numbers = Numbers::default();
                let mut places = numbers.0.iter_mut();
                while let Some(number) = seq.next_element::<Option<u64>>()? {
                    if let Some(place) = places.next() {
                        *place = number;
                    }
                }
                Ok(numbers)
            }
        }

        deserializer.deserialize_seq(Numerals)
    }
}

impl Numbers<6> {
    /// The number of what the row is about, and the rest.
    fn split(self) -> (u32, Row<5>) {
        let [i, rest @ ..] = self.0;
        (i.and_then(|i| u32::try_from(i).ok()).unwrap_or(u32::MAX), rest)
    }
}

impl State {
    /// Takes a frame: `state` or `change`. False when it is none.
    pub(super) fn take(&mut self, event: &str, data: &str) -> bool {
        let is_full = match event {
            "state" => true,
            // What has changed of something that is not known.
            "change" if self.at_ms == 0 => return true,
            "change" => false,
            _ => return false,
        };
        // A list would be read as an object without names.
        if !data.starts_with('{') {
            return false;
        }
        let Ok(frame) = serde_json::from_str::<Frame>(data) else { return false };
        if is_full {
            *self = Self::default();
        }
        self.add(frame);
        true
    }

    fn add(&mut self, frame: Frame) {
        self.at_ms = frame.t.max(1);
        self.totals = frame.p.0;
        self.process = frame.process.unwrap_or_else(|| std::mem::take(&mut self.process));
        self.policies = frame.policies.unwrap_or_else(|| std::mem::take(&mut self.policies));
        let are_others = !(frame.servers.is_empty() && frame.gone.servers.is_empty() && frame.groups.is_empty());
        for Numbered { i, facts } in frame.groups {
            match self.groups.get_mut(&i) {
                Some(group) => group.facts = facts,
                None => _ = self.groups.insert(i, Group { facts, row: [Some(0); 5], servers: (0, 0) }),
            }
        }
        for Numbered { i, facts } in frame.servers {
            match self.servers.get_mut(&i) {
                Some(server) => server.facts = facts,
                None => _ = self.servers.insert(i, Server { facts, row: [Some(0); 5] }),
            }
        }
        for (i, row) in frame.g.into_iter().map(Numbers::split) {
            if let Some(group) = self.groups.get_mut(&i) {
                group.row = row;
            }
        }
        for (i, row) in frame.s.into_iter().map(Numbers::split) {
            if let Some(server) = self.servers.get_mut(&i) {
                server.row = row;
            }
        }
        frame.gone.groups.iter().for_each(|i| _ = self.groups.remove(i));
        frame.gone.servers.iter().for_each(|i| _ = self.servers.remove(i));
        if are_others {
            self.count();
        }
    }

    /// Counts the servers of each group.
    fn count(&mut self) {
        self.groups.values_mut().for_each(|group| group.servers = (0, 0));
        for server in self.servers.values() {
            if let Some(group) = self.groups.get_mut(&server.facts.g) {
                group.servers.0 += usize::from(server.facts.online);
                group.servers.1 += 1;
            }
        }
    }

    /// How many servers are online, and how many there are.
    pub(super) fn online(&self) -> (usize, usize) {
        self.groups.values().fold((0, 0), |sum, group| (sum.0 + group.servers.0, sum.1 + group.servers.1))
    }

    /// The name of a server's group.
    pub(super) fn group_of(&self, server: &Server) -> &str {
        self.groups.get(&server.facts.g).map_or("", |group| &group.facts.group)
    }
}

impl ServerFacts {
    pub(super) fn standing(&self) -> Standing {
        match self.state.as_str() {
            "maint" => Standing::Maint,
            "drain" => Standing::Drain,
            _ if !self.online => Standing::Offline,
            _ if self.suspect => Standing::Suspect,
            _ => Standing::Online,
        }
    }
}

impl Policy {
    pub(super) fn is_well(&self) -> bool {
        self.state.is_empty() || self.state == "loaded"
    }
}

impl GroupFacts {
    pub(super) fn is_policy_well(&self) -> bool {
        self.policy_state.is_empty() || self.policy_state == "loaded"
    }
}

impl Standing {
    /// In one word.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Offline => "offline",
            Self::Suspect => "suspect",
            Self::Maint => "maint",
            Self::Drain => "drain",
            Self::Online => "online",
        }
    }
}
