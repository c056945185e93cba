//! What a client of PostgreSQL asks for in the clear before its TLS hello, and what it is answered.
//!
//! Whether such clients are expected is the group's business (`starttls`). What comes after the answer is left to whoever
//! waits for the hello.

use std::os::fd::BorrowedFd;

use rustix::net::SendFlags;

use super::opening::{NotConnected, client_reset};
use crate::net::postgresql::{self, Request};

/// Why a client is refused for what it asks.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    #[error("SSLRequest: more came before it was answered")]
    TooMuch,
    #[error("SSLRequest: asked for again")]
    Again,
}

/// What a client has asked for before its hello, and has been answered.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asked {
    /// TLS, which it was granted.
    pub(super) tls: bool,
    /// Encryption by Kerberos, which it was refused.
    gss: bool,
}

/// What is to be done about the bytes of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// It is to get this byte; what it has sent is done with.
    Answer(u8),
    /// There must be more to come.
    Wait,
    /// They ask for nothing.
    Nothing,
}

impl Asked {
    /// Looks at what a client has sent since it was answered last.
    ///
    /// # Errors
    ///
    /// It has gone on before it was answered, or asks again.
    pub(super) fn read(&mut self, received: &[u8]) -> Result<Reply, AskError> {
        if self.tls {
            return Ok(Reply::Nothing);
        }
        match postgresql::read(received) {
            Request::Incomplete => Ok(Reply::Wait),
            Request::TooMuch => Err(AskError::TooMuch),
            Request::Gss if self.gss => Err(AskError::Again),
            Request::Gss => {
                self.gss = true;
                Ok(Reply::Answer(postgresql::REFUSED))
            }
            Request::Tls => {
                self.tls = true;
                Ok(Reply::Answer(postgresql::GRANTED))
            }
            Request::None => Ok(Reply::Nothing),
        }
    }
}

/// Sends one byte to a client that has had nothing yet, so that there is room for it.
///
/// # Errors
///
/// The client was reset.
pub(super) fn answer(client: BorrowedFd<'_>, byte: u8) -> Result<(), NotConnected> {
    let sent = rustix::net::send(client, &[byte], SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
    sent.map(drop).map_err(|error| client_reset(error.into()))
}
