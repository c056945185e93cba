//! What stands in for TLS in a build without it. Nothing of it can exist.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A certificate with its key; there is none.
#[derive(Debug, PartialEq, Eq)]
pub enum Pair {}

impl Pair {
    /// What it is called.
    pub fn name(&self) -> &str {
        match *self {}
    }

    /// True when a handshake with it takes long.
    pub fn is_slow(&self) -> bool {
        match *self {}
    }

    /// Until when it is valid, since 1970.
    pub fn not_after(&self) -> Duration {
        match *self {}
    }
}

/// Whose signatures are trusted; nobody's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authorities {}

impl Authorities {
    /// Fails.
    ///
    /// # Errors
    ///
    /// This build has no TLS.
    pub fn read(_: &Path) -> Result<Self, String> {
        Err("this build has no TLS".to_owned())
    }

    /// Fails.
    ///
    /// # Errors
    ///
    /// This build has no TLS.
    pub fn of_system() -> Result<Self, String> {
        Err("this build has no TLS".to_owned())
    }
}

/// Which certificates are not valid any more; nobody knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revocations {}

impl Revocations {
    /// Fails.
    ///
    /// # Errors
    ///
    /// This build has no TLS.
    pub fn read(_: &Path) -> Result<Self, String> {
        Err("this build has no TLS".to_owned())
    }
}

/// Fails.
///
/// # Errors
///
/// This build has no TLS.
pub fn load_pair(_: &Path, _: Option<&Path>, _: &[Arc<Pair>]) -> Result<Arc<Pair>, String> {
    Err("this build has no TLS".to_owned())
}
