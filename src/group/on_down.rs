//! What becomes of the sessions of a server that goes.
//!
//! The group decides when they are to end, and says so once, by an event. What keeps new sessions away without a word about those that run
//! (an operator who drains, a suspicion, a full server, a name without an address) ends none.

use super::offline::Offline;

/// What becomes of sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fate {
    /// They go on.
    #[default]
    Keep,
    /// They end.
    Close,
}

impl Fate {
    /// The word in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Close => "close",
        }
    }
}

/// Why a server has gone, as far as its sessions are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Checks find it down.
    Check,
    /// Its lease has run out.
    Lease,
    /// An operator works on it.
    Maint,
    /// It is no longer in its group.
    Removed,
}

impl Loss {
    /// The word in the file and in events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Lease => "lease",
            Self::Maint => "maint",
            Self::Removed => "removed",
        }
    }
}

/// What becomes of the sessions of a server that goes, by the cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OnDown {
    /// When checks find it down.
    pub check: Fate,
    /// When its lease runs out.
    pub lease: Fate,
    /// When an operator sets it to maint.
    pub maint: Fate,
    /// When it is taken out of the group.
    pub removed: Fate,
}

impl OnDown {
    /// The same for each cause.
    pub fn all(fate: Fate) -> Self {
        Self { check: fate, lease: fate, maint: fate, removed: fate }
    }

    /// True when the sessions end.
    pub(super) fn closes(self, loss: Loss) -> bool {
        let fate = match loss {
            Loss::Check => self.check,
            Loss::Lease => self.lease,
            Loss::Maint => self.maint,
            Loss::Removed => self.removed,
        };
        fate == Fate::Close
    }
}

impl Offline {
    /// The same as far as sessions are concerned; `None` for what is no reason to end any.
    pub(super) fn loss(&self) -> Option<Loss> {
        match self {
            Self::Removed | Self::NotOfName => Some(Loss::Removed),
            Self::Maintained => Some(Loss::Maint),
            Self::Silent | Self::Unanswered(_) => Some(Loss::Lease),
            Self::Down(_) => Some(Loss::Check),
            Self::Drained | Self::Expanded(_) | Self::Unresolved(_) => None,
            Self::Suspect(_) | Self::Ejected(..) | Self::Full(_) => None,
        }
    }
}
