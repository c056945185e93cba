//! What speaks for or against a server, and what sessions make of it.

use std::time::Duration;

/// Facts of which each has a bit.
pub(super) mod flag {
    /// The last connect failed.
    pub(in crate::server) const SUSPECT: u8 = 1;
    /// No connect has succeeded so far.
    pub(in crate::server) const UNTRIED: u8 = 2;
    /// A connect to one of the addresses may connect a socket to itself.
    pub(in crate::server) const MAY_MEET_ITSELF: u8 = 4;
    /// One of the addresses is this machine's own.
    pub(in crate::server) const IS_HERE: u8 = 8;
    /// It is kept out for a while, as it failed too many sessions.
    pub(in crate::server) const EJECTED: u8 = 16;
    /// Its sessions' faults are counted.
    pub(in crate::server) const IS_JUDGED: u8 = 32;
    /// It has had a fault since its last good session.
    pub(in crate::server) const HAS_FAULTS: u8 = 64;
    /// Somebody has waited for the end of its last session.
    pub(in crate::server) const AWAITED: u8 = 128;
}

/// Servers that a pick passes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avoided(u8);

impl Avoided {
    /// Those that are suspect, and those that are ejected.
    pub const DOUBTFUL: Self = Self(flag::SUSPECT | flag::EJECTED);
    /// Those that are suspect.
    pub const SUSPECT: Self = Self(flag::SUSPECT);
    /// Those that are ejected.
    pub const EJECTED: Self = Self(flag::EJECTED);
    /// None.
    pub const NONE: Self = Self(0);

    /// The facts that speak against a server.
    pub(super) fn flags(self) -> u8 {
        self.0
    }

    /// As a number that can be kept.
    pub fn bits(self) -> u8 {
        self.0
    }

    /// The one of this number; other bits count for nothing.
    pub fn from_bits(bits: u8) -> Self {
        Self(bits & Self::DOUBTFUL.0)
    }
}

/// What a connect that succeeded has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// It is the first that ever succeeded.
    pub is_first: bool,
    /// For how long the server had been suspect; `None` when it was not.
    pub suspect_for: Option<Duration>,
}

/// What a session does whose connect is slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// The server has answered others since the connect began, so only this connect is lost: TCP tries again by itself.
    Wait,
    /// As `Wait`, and this session is one of the few that find out whether the server answers at all; it tells
    /// [`Live::stop_waiting`](super::Live::stop_waiting) when its connect is over.
    FindOut {
        /// Nobody has had an answer for so long that the server is suspect from now on.
        is_suspect_now: bool,
    },
    /// Enough others find out: better take another server.
    Leave,
}
