//! What is said to a server to see whether it works: one conversation for each kind of check.
//!
//! A conversation has until its deadline and reads 16 KiB of an answer at most. It passes with the last word that the
//! protocol asks for before the end, or fails with the reason, for people. Connecting and ending are left to `attempt`.

mod exchange;
mod http;
mod mysql;
mod postgresql;
mod redis;
mod talk;

pub(super) use talk::{Failure, Talk};

use crate::group::check::{CheckKind, CheckSettings};
use crate::server::ServerAddr;

/// Holds the conversation that `settings` ask for with the server of this address. The last word when it passes.
pub(super) async fn hold(
    talk: &mut Talk<'_>,
    settings: &CheckSettings,
    addr: &ServerAddr,
) -> Result<&'static [u8], Failure> {
    match settings.kind {
        // The connect has shown it, or the handshake.
        CheckKind::Tcp | CheckKind::Tls => Ok(b""),
        CheckKind::Exchange => exchange::hold(talk, settings).await,
        CheckKind::Http => http::hold(talk, settings, addr).await,
        CheckKind::Redis => redis::hold(talk, settings).await,
        CheckKind::Postgresql => postgresql::hold(talk, settings).await,
        CheckKind::Mysql => mysql::hold(talk, settings).await,
    }
}

#[cfg(test)]
mod tests;
