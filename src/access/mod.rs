//! The access log: one line for each session that is over, on stderr or in a file.
//!
//! A target is one such log as it is configured, with its open file. Data threads only put a reference to the target of
//! their group beside what they tell of a session; lines are made and written by the log thread, which alone opens the
//! file again when it has been renamed. What a full disk does not take is lost and counted: nobody waits for it.
//!
//! How lines look is the log's business, which group has which target that of `control`.

mod code;
mod settings;
mod target;

use std::sync::{Arc, Mutex, PoisonError};

pub use code::{CODES, Case, Circumstances, termination_code};
pub use settings::{AccessChoice, AccessFormat, AccessPath, AccessPrefix, AccessSettings};
pub use target::{AccessTarget, Lost, dropped_total};

/// What the access log says of a session and nobody else does.
#[derive(Clone, Debug)]
pub struct AccessFacts {
    /// The log of the session's group.
    pub target: Arc<AccessTarget>,
    /// What the termination code depends on besides the reason.
    pub circumstances: Circumstances,
    /// The server that was tried last, where none was reached.
    pub tried: Option<Arc<str>>,
    /// Another server was taken than the first that was tried.
    pub is_redispatched: bool,
    /// From the accept until the last failed connect was over.
    pub failed_ms: u32,
    /// Sessions of the process, this one included.
    pub process_sessions: u64,
    /// Sessions of the group, this one included.
    pub group_sessions: u64,
    /// Sessions of the server, this one included; 0 when none was reached.
    pub server_sessions: u32,
}

/// The logs that some group has. Guards the list, which changes with the configuration.
static LIVE: Mutex<Vec<Arc<AccessTarget>>> = Mutex::new(Vec::new());

/// From now on these are the logs that are opened again when somebody says so.
pub fn set_live(targets: Vec<Arc<AccessTarget>>) {
    *LIVE.lock().unwrap_or_else(PoisonError::into_inner) = targets;
}

/// The logs that some group has.
pub fn live() -> Vec<Arc<AccessTarget>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner).clone()
}
