//! The TLS handshake of a client. A server is looked for when it is over, and not before: scanners would cost servers a
//! connection each.
//!
//! Where `starttls` says so, the client may ask for it in the clear first, which is granted. Its servers hear nothing of that.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::asking::{Asked, Reply, answer};
use super::header::time_text;
use super::opening::{FIRST_READ_MAX, NotConnected, Opened, client_reset};
use super::passage::Passage;
use super::relay::Socket;
use super::service::SessionGuard;
use super::stream::Stream;
use super::waiting::{Awaited, WaitingPlace};
use crate::base::clock;
use crate::counters::{EndReason, GroupCounters, TlsResult, TlsSide};
use crate::group::{GroupSettings, Starttls};
use crate::tls::{Acceptor, TlsFailure};

/// A client whose handshake is not over.
#[derive(Debug)]
pub(super) struct Handshake {
    client: SocketAddr,
    passage: Option<Arc<Passage>>,
    timeout: Duration,
    until_ms: u64,
    _place: WaitingPlace,
    /// When it began, on the precise clock.
    started_us: u64,
    /// Until TLS begins, where the client may ask for it.
    before: Option<Before>,
}

/// A client that may ask for TLS in the clear.
#[derive(Debug)]
struct Before {
    received: Vec<u8>,
    asked: Asked,
    acceptor: Arc<Acceptor>,
}

/// Begins the handshake of a client with what it has sent by now.
///
/// # Errors
///
/// The client has ended already, too many others are waited for, or no random numbers are to be had.
pub(super) fn begin(
    client: &mut Stream,
    opened: Opened<'_>,
    acceptor: &Arc<Acceptor>,
    settings: &GroupSettings,
    guard: &SessionGuard,
    now_ms: u64,
) -> Result<Box<Handshake>, NotConnected> {
    let place = WaitingPlace::take(guard, Awaited::Handshake).inspect_err(|_| client.reset_on_close())?;
    guard.record().tell_connected();
    let Opened { client: addr, passage, first_bytes, has_finished, .. } = opened;
    if has_finished {
        return Err(NotConnected::because(EndReason::ClientClosed));
    }
    let received = first_bytes.to_vec();
    let before = match settings.starttls {
        Starttls::None => {
            start(client, acceptor, received)?;
            None
        }
        Starttls::Postgresql => Some(Before { received, asked: Asked::default(), acceptor: Arc::clone(acceptor) }),
    };
    let timeout = acceptor.handshake_timeout();
    let until_ms = now_ms + clock::as_ms(timeout);
    let started_us = clock::precise_us();
    Ok(Box::new(Handshake { client: addr, passage, timeout, until_ms, _place: place, started_us, before }))
}

/// Makes a client's connection one of TLS, of which this was read already.
fn start(client: &mut Stream, acceptor: &Acceptor, received: Vec<u8>) -> Result<(), NotConnected> {
    let connection = acceptor.accept().map_err(|error| failed(TlsFailure(error).into()))?;
    client.start_tls(connection, received);
    Ok(())
}

impl Before {
    /// Answers what the client asks for. True once TLS has begun.
    ///
    /// # Errors
    ///
    /// It goes on before it was answered, or asks again; it has ended or been reset.
    fn advance(&mut self, client: &mut Stream, scratch: &mut [u8]) -> Result<bool, NotConnected> {
        loop {
            let is_first = self.received.is_empty();
            match self.asked.read(&self.received).map_err(|error| failed(io::Error::other(error)))? {
                // Whatever it is, TLS says what is wrong with it.
                Reply::Nothing if self.asked.tls || !is_first => {
                    start(client, &self.acceptor, std::mem::take(&mut self.received))?;
                    return Ok(true);
                }
                Reply::Answer(byte) => {
                    self.received.clear();
                    answer(client.as_fd(), byte)?;
                    continue;
                }
                Reply::Nothing | Reply::Wait => {}
            }
            if !client.is_readable() {
                return Ok(false);
            }
            match client.recv(&mut scratch[..FIRST_READ_MAX]) {
                Ok(0) if is_first => return Err(NotConnected::because(EndReason::ClientClosed)),
                Ok(0) => return Err(closed_early()),
                Ok(read) => self.received.extend_from_slice(&scratch[..read]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => client.read_blocked(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(client_reset(error)),
            }
        }
    }
}

fn closed_early() -> NotConnected {
    failed(io::Error::other("TLS: the client has closed before the handshake was over"))
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
        if let Some(before) = &mut self.before {
            if !before.advance(client, scratch)? {
                return self.wait(client, now_ms);
            }
            self.before = None;
        }
        let tls = client.as_tls().expect("its handshake has begun");
        match tls.shake_hands() {
            Ok(true) => {}
            Ok(false) => return self.wait(client, now_ms),
            // A probe that looks whether somebody listens.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && !tls.has_received() => {
                return Err(NotConnected::because(EndReason::ClientClosed));
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(closed_early());
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

impl Handshake {
    /// There must be more to come, if there is time for it.
    fn wait<T>(&self, client: &mut Stream, now_ms: u64) -> Result<Option<T>, NotConnected> {
        if now_ms < self.until_ms {
            return Ok(None);
        }
        client.reset_on_close();
        let error = format!("TLS: no handshake within {}", time_text(self.timeout));
        Err(NotConnected { reason: EndReason::HandshakeTimeout, error: Some(io::Error::other(error)) })
    }
}

fn failed(error: io::Error) -> NotConnected {
    NotConnected { reason: EndReason::TlsFailed, error: Some(error) }
}
