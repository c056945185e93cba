//! What an upgrade has to do with changes: who asks for one, and that nothing changes while it is under way.
//!
//! From before the new process reads the file until it serves, or does not, changes wait: so both know the same file, and
//! no change is lost. If the new process takes over, they are refused, and whoever asked for them asks the new one.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use tokio::sync::{mpsc, oneshot};

/// Who waits for the outcome of an upgrade.
pub type UpgradeReply = oneshot::Sender<Result<Upgraded, UpgradeError>>;

/// Upgrades that were asked for over HTTP.
pub(crate) type UpgradeRequests = mpsc::Receiver<UpgradeReply>;

/// The process that has taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgraded {
    /// Its id.
    pub pid: u32,
    /// The version of its program.
    pub version: String,
    /// Sessions that stay with the process before it.
    pub sessions_left: u64,
}

/// Why no other process has taken over. This one goes on as if nothing had been asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpgradeError {
    /// It was not begun.
    #[error("{0}")]
    Refused(String),
    /// The new process did not get as far as to serve.
    #[error("{step}: {error}; this process goes on serving")]
    Failed {
        /// What was to be done.
        step: &'static str,
        /// Why that failed.
        error: String,
    },
}

/// What the runner is told to hold changes.
#[derive(Debug)]
pub(super) struct Holding {
    pub(super) held: oneshot::Sender<io::Result<Vec<(SocketAddr, OwnedFd)>>>,
    /// The addresses that the new process does not want; an error when it does not take over.
    pub(super) release: oneshot::Receiver<Vec<SocketAddr>>,
}

/// Changes wait until this is dropped, or until [`Control::leave`](super::Control::leave).
#[derive(Debug)]
pub(crate) struct Hold {
    pub(super) release: oneshot::Sender<Vec<SocketAddr>>,
    /// Duplicates of the sockets of all groups.
    pub(crate) sockets: Vec<(SocketAddr, OwnedFd)>,
}
