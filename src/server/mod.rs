//! One backend: its address, its settings, and what is known of it right now.
//!
//! A [`Server`] is immutable and shared by `Arc`; a changed weight or state makes a new one. What
//! changes by itself (sessions, suspicion, the addresses its name resolves to) is in [`Live`], which
//! the new one takes over, so counts survive every change of settings. Whether a server may be picked
//! is decided by its group, not here.

mod addr;
mod addresses;
mod downtime;
mod itself;
mod last_session;
mod live;
mod outage;
mod standing;
mod trouble;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

pub use addr::{ADDR_LEN_MAX, AddrError, ServerAddr};
pub use addresses::Addresses;
pub use live::{Facts, Live, LiveCarried, SLOW_CONNECT};
pub use outage::Outage;
pub use standing::{Avoided, Patience, Recovery};
pub use trouble::Ejection;

/// Smallest and largest weight a server may have, as in HAProxy; no traffic at all is `state: drain`.
pub const WEIGHT_RANGE: std::ops::RangeInclusive<u16> = 1..=256;

/// What an operator wants of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Gets new sessions.
    #[default]
    Ready,
    /// Gets no new sessions; those it has go on.
    Drain,
    /// As `Drain`, because somebody works on it.
    Maint,
}

impl State {
    /// The word used in the file, in the admin API and in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Drain => "drain",
            Self::Maint => "maint",
        }
    }

    /// Reads the word of [`State::as_str`]; `None` for any other.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Ready, Self::Drain, Self::Maint].into_iter().find(|state| state.as_str() == text)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a server came into its group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Written in `proxy.json` by its owner; stays until somebody takes it out.
    #[default]
    File,
    /// Registered itself; online for as long as its lease lasts.
    Heartbeat,
}

impl Origin {
    /// The word used in the file, in the admin API and in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Heartbeat => "heartbeat",
        }
    }
}

/// How a server is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServerCheck {
    /// As its group says.
    #[default]
    AsGroup,
    /// Never: it counts as one that passes.
    Never,
    /// As its group says, at this port.
    Port(Port),
}

/// A port. It needs no alignment, so that a server keeps to its cache lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port([u8; 2]);

impl Port {
    /// The port as a number.
    pub fn get(self) -> u16 {
        u16::from_ne_bytes(self.0)
    }
}

impl From<u16> for Port {
    fn from(port: u16) -> Self {
        Self(port.to_ne_bytes())
    }
}

/// Which header of the PROXY protocol a server gets in front of what the client sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SendProxy {
    /// None.
    #[default]
    None,
    /// The line of version 1.
    V1,
    /// The binary header of version 2.
    V2,
}

impl SendProxy {
    /// The word used in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::V1 => "v1",
            Self::V2 => "v2",
        }
    }
}

/// The settings of a server. Those that every session needs come first.
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct ServerSettings {
    /// Sessions at a time; 0 for no limit.
    pub max_sessions: u32,
    /// Used only when no other server may be picked.
    pub backup: bool,
    /// What an operator wants of it.
    pub state: State,
    /// How it came into the group.
    pub origin: Origin,
    /// Written by the proxy: it registered itself, and its lease had run out when the file was saved.
    pub silent: bool,
    /// Where it listens; its identity within the group.
    pub addr: ServerAddr,
    /// Share of new sessions, within [`WEIGHT_RANGE`].
    pub weight: u16,
    /// Stands for the addresses of its name, each of which is a server of its own.
    pub expand: bool,
    /// How it is checked, where its group has checks.
    pub check: ServerCheck,
    /// Which PROXY header it gets; `None` for that of its group.
    pub send_proxy: Option<SendProxy>,
    /// Free-form facts for policies and people: zone, rack, version.
    pub labels: BTreeMap<String, String>,
    /// Its name, if it has one. One pointer wide, so that a server keeps to its cache lines.
    pub name: Option<Arc<String>>,
}

impl ServerSettings {
    /// The settings of a server of which only the address is known.
    pub fn new(addr: ServerAddr, origin: Origin) -> Self {
        let (state, labels) = (State::Ready, BTreeMap::new());
        let (weight, backup, max_sessions, silent) = (1, false, 0, false);
        let check = ServerCheck::AsGroup;
        let (expand, send_proxy, name) = (false, None, None);
        Self { addr, weight, expand, check, send_proxy, backup, max_sessions, state, labels, origin, silent, name }
    }
}

/// The number of a server in its group: stable for as long as the server is in it, whatever else changes, and never an
/// index. Modules are told it as `server-id`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerId(pub u32);

/// One backend as sessions and policies see it. Fields are in the order in which sessions need them: with ten thousand
/// servers, the one that is picked is in no near cache.
#[derive(Debug)]
#[repr(C)]
pub struct Server {
    /// Its live figures; shared by every `Server` made for the same backend.
    pub live: Arc<Live>,
    /// Its number in the group.
    pub id: ServerId,
    /// Its settings.
    pub settings: ServerSettings,
}

impl Server {
    /// True while it holds as many sessions as it may.
    pub fn is_full(&self) -> bool {
        let max = self.settings.max_sessions;
        max > 0 && self.live.sessions() >= max
    }
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::*;

    /// With ten thousand servers, the one that is picked is in no near cache, and every further line has to be fetched.
    #[test]
    fn what_a_pick_needs_of_a_server_is_on_one_cache_line_with_its_count_of_references() {
        const COUNTS: usize = 2 * size_of::<usize>();
        let settings = offset_of!(Server, settings);
        let offsets = [offset_of!(Server, live), offset_of!(Server, id), settings + offset_of!(ServerSettings, backup)];
        assert!(offsets.iter().all(|offset| COUNTS + offset < 64), "{offsets:?}");
        // Allocations of this size begin at a line.
        assert_eq!((COUNTS + size_of::<Server>()).next_multiple_of(16), 128);
        assert_eq!(COUNTS + size_of::<Live>(), 64);
    }
}
