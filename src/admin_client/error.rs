//! Why a running proxy has not done what it was asked for.

use std::io;
use std::time::Duration;

use super::address::AdminAddr;
use crate::base::failure;

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody answers there.
    #[error("{addr}: cannot connect: {}; expected the admin port of a running goproxy", failure::worded(error))]
    Unreachable {
        /// Where.
        addr: AdminAddr,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// The proxy refuses it.
    #[error("{addr}: refused: {msg}{}", hint(*status))]
    Refused {
        /// Where.
        addr: AdminAddr,
        /// The status of the answer.
        status: u16,
        /// The code of the refusal.
        code: String,
        /// The proxy's words.
        msg: String,
        /// The mistakes of `proxy.json`, if they are why: `LINE:COLUMN: KEY: what is wrong`.
        mistakes: Vec<String>,
    },
    /// Somebody answers, but no goproxy.
    #[error("{addr}: this is not the admin port of a goproxy: {what}")]
    Foreign {
        /// Where.
        addr: AdminAddr,
        /// What shows it.
        what: String,
    },
    /// The connection broke.
    #[error("{addr}: the connection broke")]
    Broken {
        /// Where.
        addr: AdminAddr,
        /// Why.
        #[source]
        error: hyper::Error,
    },
    /// The proxy has ended an answer that goes on.
    #[error("{addr}: the proxy has ended the connection")]
    Ended {
        /// Where.
        addr: AdminAddr,
    },
    /// Nothing came in time.
    #[error("{addr}: no answer for {} s", after.as_secs())]
    Silent {
        /// Where.
        addr: AdminAddr,
        /// For how long.
        after: Duration,
    },
}

/// The code of the answer to a wrong token or none, or to one that is not enough.
const TOKEN_STATUSES: [u16; 2] = [401, 403];

fn hint(status: u16) -> &'static str {
    if TOKEN_STATUSES.contains(&status) { " (see --token)" } else { "" }
}

impl AskError {
    /// True when the same request may be granted in a while: the proxy is being restarted, or is full.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Broken { .. } | Self::Ended { .. } | Self::Silent { .. } => true,
            Self::Refused { status, .. } => *status == 503,
            Self::Foreign { .. } => false,
        }
    }
}
