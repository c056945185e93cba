//! Why a server gets no clients. [`Member::offline`](super::member::Member::offline) decides; the wording for lists,
//! log and explanations is here.

use std::fmt;
use std::sync::Arc;

use crate::server::Outage;

/// Why a server gets no clients. Only the first that applies is shown, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Offline {
    /// It is no longer in the group.
    Removed,
    /// An operator drains it.
    Drained,
    /// An operator works on it.
    Maintained,
    /// Its lease has run out.
    Silent,
    /// Its lease has run out and is kept, and the last connect failed.
    Unanswered(Arc<Outage>),
    /// Checks failed, or have not begun: this says which.
    Down(Arc<str>),
    /// It is ejected for so long, in milliseconds, for this reason.
    Ejected(u64, String),
    /// It stands for so many addresses of its name, each of which is a server of its own.
    Expanded(usize),
    /// Its name does not resolve to it.
    NotOfName,
    /// There is no address for its name, for this reason.
    Unresolved(Arc<str>),
    /// The last connect failed.
    Suspect(Arc<Outage>),
    /// It holds this many sessions, as many as it may.
    Full(u32),
}

impl Offline {
    /// False for a reason that does not hide the server from policies: ejection, suspicion and the number of sessions change
    /// at any moment, so each pick looks for itself.
    pub(super) fn hides(&self) -> bool {
        !matches!(self, Self::Ejected(..) | Self::Suspect(_) | Self::Full(_))
    }

    /// True when an operator wants the server out.
    pub(super) fn is_by_operator(&self) -> bool {
        matches!(self, Self::Removed | Self::Drained | Self::Maintained)
    }

    /// Since when it holds, in milliseconds since 1970, where it has a time of its own: policies are not told of a suspect.
    pub(super) fn since_ms(&self) -> Option<u64> {
        match self {
            Self::Suspect(outage) | Self::Unanswered(outage) => Some(outage.since_ms()),
            _ => None,
        }
    }
}

impl fmt::Display for Offline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Removed => f.write_str("taken out of the group"),
            Self::Drained => f.write_str("drained by an operator"),
            Self::Maintained => f.write_str("in maintenance"),
            Self::Silent => f.write_str("no heartbeat within heartbeat_timeout"),
            Self::Unanswered(outage) => write!(f, "no heartbeat within heartbeat_timeout, and no answer: {outage}"),
            Self::Down(why) => f.write_str(why),
            Self::Ejected(left_ms, why) => write!(f, "ejected for {}s: {why}", left_ms.div_ceil(1_000)),
            Self::Suspect(outage) => outage.fmt(f),
            Self::Expanded(1) => f.write_str("its address is a server of its own"),
            Self::Expanded(count) => write!(f, "each of its {count} addresses is a server of its own"),
            Self::NotOfName => f.write_str("its name does not resolve to this address"),
            Self::Unresolved(why) => write!(f, "its name is not resolved: {why}"),
            Self::Full(max) => write!(f, "holds max_sessions = {max} sessions"),
        }
    }
}
