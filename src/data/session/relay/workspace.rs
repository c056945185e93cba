//! What the sessions of one thread share, and how they take turns.

use std::io;

use super::pipe::PipePool;
use crate::base::clock;
use crate::data::poll::Reactor;
use crate::net::Windows;

/// Bytes of the scratch buffer that all sessions of a thread share.
pub(crate) const SCRATCH_SIZE: usize = 256 << 10;

/// What the sessions of one thread share.
#[derive(Debug)]
pub(crate) struct Workspace {
    pub(crate) reactor: Reactor,
    /// The coarse clock when the thread last looked at it: after each wait, and after whatever took long.
    pub(crate) now_ms: u64,
    pub(in super::super) scratch: Box<[u8]>,
    pub(super) pipes: PipePool,
    pub(in super::super) windows: Windows,
}

impl Workspace {
    /// # Errors
    ///
    /// No descriptor is left for the reactor.
    pub(crate) fn new() -> io::Result<Self> {
        let scratch = vec![0; SCRATCH_SIZE].into_boxed_slice();
        let (reactor, now_ms) = (Reactor::new()?, clock::coarse_ms());
        Ok(Self { reactor, now_ms, scratch, pipes: PipePool::default(), windows: Windows::default() })
    }

    /// Gives back the descriptor that asking for windows takes, until somebody asks again.
    pub(crate) fn forget_windows(&mut self) {
        self.windows = Windows::default();
    }
}

/// Which of the two ends of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

/// Why nothing more is moved for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pause {
    /// All that could be moved was: an event will tell when there is more.
    UntilEvent,
    /// More can be moved at once, when the other sessions of the thread have had their turn.
    ForOthers,
}

impl Side {
    pub(super) fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}
