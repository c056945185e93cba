//! Who says that a server exists, and until when.
//!
//! A server is in its group while a claim gives it a place, and may be online while a claim is live. What keeps a
//! server from being picked is a verdict; see [`offline`](super::offline).

use std::mem::discriminant;
use std::net::SocketAddr;

use super::lease::Lease;
use crate::server::ServerSettings;

/// A server that has just registered itself.
#[derive(Clone, Debug)]
pub struct Registration {
    /// What it sent.
    pub server: ServerSettings,
    /// The addresses of its name; empty when they are unknown, or when it is an IP.
    pub addresses: Vec<SocketAddr>,
}

/// Who says that a server exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The file, because its owner wrote the server there.
    File,
    /// The file, because the server once registered itself. Keeps the server's place, weight and state until somebody
    /// removes it, but does not bring it online.
    Remembered,
    /// The server itself, until its lease runs out.
    Heartbeat(Lease),
    /// A name that the file expands, while it resolves to the server's address.
    Resolved,
    /// The file, because its owner wrote settings there for one address of a name. Keeps its place while the name does
    /// not resolve to it.
    OneOfName,
    /// A source that exists only in tests.
    #[cfg(test)]
    Discovered,
}

/// What a claim is worth now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// Nothing.
    Over,
    /// The server keeps its place in the list.
    Place,
    /// The server exists now.
    Live,
}

impl Claim {
    /// The one place that says what each kind of claim is worth.
    pub(super) fn standing(&self) -> Standing {
        match self {
            Self::File => Standing::Live,
            Self::Remembered | Self::OneOfName => Standing::Place,
            Self::Resolved => Standing::Live,
            Self::Heartbeat(lease) if lease.is_live() => Standing::Live,
            Self::Heartbeat(_) => Standing::Over,
            #[cfg(test)]
            Self::Discovered => Standing::Live,
        }
    }
}

/// The claims to one server, one of each kind at most.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Claims(Vec<Claim>);

impl Claims {
    /// The most that any of the claims is worth.
    pub(super) fn standing(&self) -> Standing {
        self.0.iter().map(Claim::standing).max().unwrap_or(Standing::Over)
    }

    /// Adds a claim, or replaces the one of its kind.
    pub(super) fn set(&mut self, claim: Claim) {
        match self.0.iter_mut().find(|known| discriminant(*known) == discriminant(&claim)) {
            Some(known) => *known = claim,
            None => self.0.push(claim),
        }
    }

    /// Takes back the claim of this kind. True when there was one.
    pub(super) fn withdraw(&mut self, claim: &Claim) -> bool {
        let before = self.0.len();
        self.0.retain(|known| discriminant(known) != discriminant(claim));
        self.0.len() < before
    }

    pub(super) fn withdraw_lease(&mut self) {
        self.0.retain(|claim| !matches!(claim, Claim::Heartbeat(_)));
    }

    /// True when the file names the server, whether its owner wrote it or it registered itself.
    pub(super) fn is_in_file(&self) -> bool {
        self.0.iter().any(|claim| matches!(claim, Claim::File | Claim::Remembered | Claim::OneOfName))
    }

    pub(super) fn is_remembered(&self) -> bool {
        self.0.contains(&Claim::Remembered)
    }

    pub(super) fn lease(&self) -> Option<&Lease> {
        self.0.iter().find_map(|claim| match claim {
            Claim::Heartbeat(lease) => Some(lease),
            _ => None,
        })
    }

    pub(super) fn lease_mut(&mut self) -> Option<&mut Lease> {
        self.0.iter_mut().find_map(|claim| match claim {
            Claim::Heartbeat(lease) => Some(lease),
            _ => None,
        })
    }
}
