//! The TLS handshake of a client. A server is looked for when it is over, and not before: scanners would cost servers a
//! connection each.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::header::time_text;
use super::opening::{FIRST_READ_MAX, NotConnected, Opened, client_reset};
use super::passage::Passage;
use super::relay::Socket;
use super::stream::Stream;
use crate::base::clock;
use crate::counters::{EndReason, GroupCounters, TlsResult, TlsSide};
use crate::tls::{Acceptor, TlsFailure};

/// A client whose handshake is not over.
#[derive(Debug)]
pub(super) struct Handshake {
    client: SocketAddr,
    passage: Option<Arc<Passage>>,
    timeout: Duration,
    until_ms: u64,
    /// When it began, on the precise clock.
    started_us: u64,
}

/// Begins the handshake of a client with what it has sent by now.
///
/// # Errors
///
/// The client has ended already, or no random numbers are to be had.
pub(super) fn begin(
    client: &mut Stream,
    opened: Opened<'_>,
    acceptor: &Acceptor,
    now_ms: u64,
) -> Result<Box<Handshake>, NotConnected> {
    let Opened { client: addr, passage, first_bytes, has_finished, .. } = opened;
    if has_finished {
        return Err(NotConnected::because(EndReason::ClientClosed));
    }
    let connection = acceptor.accept().map_err(|error| failed(TlsFailure(error).into()))?;
    client.start_tls(connection, first_bytes.to_vec());
    let timeout = acceptor.handshake_timeout();
    let until_ms = now_ms + clock::as_ms(timeout);
    Ok(Box::new(Handshake { client: addr, passage, timeout, until_ms, started_us: clock::precise_us() }))
}

impl Handshake {
    /// Until when it may take.
    pub(super) fn until_ms(&self) -> u64 {
        self.until_ms
    }

    /// Goes on with the handshake, and counts what has become of it. `None` while it is not over.
    ///
    /// # Errors
    ///
    /// As [`Handshake::shake`].
    pub(super) fn advance<'a>(
        &mut self,
        client: &mut Stream,
        counters: &GroupCounters,
        scratch: &'a mut [u8],
        now_ms: u64,
    ) -> Result<Option<Opened<'a>>, NotConnected> {
        let advanced = self.shake(client, scratch, now_ms);
        match &advanced {
            Ok(None) => {}
            Ok(Some(_)) => {
                let tls = client.as_tls().expect("its handshake is over");
                tls.count(counters.tls(TlsSide::Client), clock::precise_us().saturating_sub(self.started_us));
            }
            Err(end) if end.reason == EndReason::TlsFailed => counters.tls(TlsSide::Client).ended(TlsResult::Failed),
            Err(end) if end.reason == EndReason::HandshakeTimeout => {
                counters.tls(TlsSide::Client).ended(TlsResult::Timeout);
            }
            Err(_) => {}
        }
        advanced
    }

    /// The same without counting.
    ///
    /// # Errors
    ///
    /// It has failed or taken too long, or the client has ended or been reset.
    fn shake<'a>(
        &mut self,
        client: &mut Stream,
        scratch: &'a mut [u8],
        now_ms: u64,
    ) -> Result<Option<Opened<'a>>, NotConnected> {
        let tls = client.as_tls().expect("its handshake has begun");
        match tls.shake_hands() {
            Ok(true) => {}
            Ok(false) if now_ms < self.until_ms => return Ok(None),
            Ok(false) => {
                client.reset_on_close();
                let error = format!("TLS: no handshake within {}", time_text(self.timeout));
                return Err(NotConnected { reason: EndReason::HandshakeTimeout, error: Some(io::Error::other(error)) });
            }
            // A probe that looks whether somebody listens.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && !tls.has_received() => {
                return Err(NotConnected::because(EndReason::ClientClosed));
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(failed(io::Error::other("TLS: the client has closed before the handshake was over")));
            }
            Err(error) if TlsFailure::behind(&error).is_some() => {
                // Closing with unread bytes would reset the client, and it might lose the alert.
                client.discard_unread(&mut scratch[..FIRST_READ_MAX]);
                return Err(failed(error));
            }
            Err(error) => return Err(client_reset(error)),
        }
        let first_bytes = &mut scratch[..FIRST_READ_MAX];
        let (first_bytes, has_finished) = match tls.recv(first_bytes) {
            Ok(read) => (&first_bytes[..read], read == 0),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => (&first_bytes[..0], false),
            Err(error) if TlsFailure::behind(&error).is_some() => return Err(failed(error)),
            Err(error) => return Err(client_reset(error)),
        };
        let (passage, secured) = (self.passage.take(), Some(Box::new(tls.secured())));
        Ok(Some(Opened { client: self.client, passage, first_bytes, has_finished, secured }))
    }
}

fn failed(error: io::Error) -> NotConnected {
    NotConnected { reason: EndReason::TlsFailed, error: Some(error) }
}
