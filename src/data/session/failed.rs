//! How the search for a server has failed: with which server, and why.

use std::io;
use std::sync::Arc;

use crate::base::failure::worded;

/// What became of the last server that was tried.
#[derive(Debug, thiserror::Error)]
#[error("{}", worded(.error))]
pub(super) struct FailedConnect {
    /// `host:port`.
    pub(super) server: Arc<str>,
    error: io::Error,
}

impl FailedConnect {
    /// An error of the same kind that carries this one, and the server.
    pub(super) fn of(server: Arc<str>, error: io::Error) -> io::Error {
        io::Error::new(error.kind(), Self { server, error })
    }
}
