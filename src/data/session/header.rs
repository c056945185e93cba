//! The PROXY header of a client: who has to send one, and waiting for it.
//!
//! Whether a client has to send one is decided by its address alone and never by its bytes. Mostly the header comes in
//! one piece with what the client says, and costs no read of its own: what is behind it are the first bytes for the
//! server. A client that has sent a part of it is kept, with these bytes. Such a client has proven nothing and costs a
//! place and a descriptor, so time and number are bounded.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use super::opening::{FIRST_READ_MAX, NotConnected, Opened, client_reset, read_first};
use super::passage::Passage;
use super::record::SessionRecord;
use super::relay::Socket;
use super::service::SessionGuard;
use super::stream::{Stream, reset_on_close};
use super::waiting::{Awaited, WaitingPlace};
use crate::base::clock;
use crate::counters::{EndReason, HeaderResult};
use crate::events::ClientFacts;
use crate::group::GroupSettings;
use crate::net::proxy_header::{self, Flaw, Header, Read, shown};

/// Why a client is refused for its header.
#[derive(Debug, thiserror::Error)]
enum HeaderError {
    #[error("PROXY header: {0}")]
    Malformed(Flaw),
    #[error("PROXY header: incomplete after {after} ({bytes} bytes)", after = time_text(*timeout))]
    Late { timeout: Duration, bytes: usize },
}

/// A client that has not sent all of its header.
#[derive(Debug)]
pub(super) struct Opening {
    passage: Option<Arc<Passage>>,
    received: Vec<u8>,
    timeout: Duration,
    until_ms: u64,
    _place: WaitingPlace,
}

/// What has become of a client that has to send a header.
#[derive(Debug)]
pub(super) enum Begun<'a> {
    /// Its header is there.
    Opened(Opened<'a>),
    /// There must be more to come.
    Waits(Box<Opening>),
}

/// How long a client at this address may take for its header; `None` when it has to send none.
#[inline]
pub(super) fn expected_of(ip: IpAddr, settings: &GroupSettings) -> Option<Duration> {
    let accept_proxy = settings.accept_proxy.as_ref()?;
    accept_proxy.expects(ip).then_some(accept_proxy.timeout)
}

/// Reads what the client has sent by now, which has to begin with a header.
///
/// # Errors
///
/// It does not, the client has ended or been reset, or too many others are waited for.
pub(super) fn begin<'a>(
    client: &OwnedFd,
    timeout: Duration,
    passage: Option<Arc<Passage>>,
    guard: &SessionGuard,
    scratch: &'a mut [u8],
    now_ms: u64,
) -> Result<Begun<'a>, NotConnected> {
    let received = match read_first(client, scratch)? {
        Some([]) => return Err(NotConnected::because(EndReason::ClientClosed)),
        Some(received) => received,
        None => &[],
    };
    let record = guard.record();
    let length = take_header(received, record).inspect_err(|_| reset_on_close(client))?;
    if let Some(length) = length {
        let (client, first_bytes) = (record.client(), &received[length..]);
        return Ok(Begun::Opened(Opened { client, passage, first_bytes, has_finished: false, secured: None }));
    }
    let place = WaitingPlace::take(guard, Awaited::Header).inspect_err(|_| reset_on_close(client))?;
    let until_ms = now_ms + clock::as_ms(timeout);
    Ok(Begun::Waits(Box::new(Opening { passage, received: received.to_vec(), timeout, until_ms, _place: place })))
}

impl Opening {
    /// Until when the client may take.
    pub(super) fn until_ms(&self) -> u64 {
        self.until_ms
    }

    /// Reads what has come. `None` while the header is incomplete.
    ///
    /// # Errors
    ///
    /// The client has sent something else, has ended or been reset before, or has taken too long.
    pub(super) fn advance(
        &mut self,
        client: &mut Stream,
        record: &SessionRecord,
        scratch: &mut [u8],
        now_ms: u64,
    ) -> Result<Option<Opened<'_>>, NotConnected> {
        while client.is_readable() {
            // Never empty: an incomplete header is shorter.
            let room = FIRST_READ_MAX - self.received.len();
            match client.recv(&mut scratch[..room]) {
                Ok(0) => return Err(NotConnected::because(EndReason::ClientClosed)),
                Ok(read) => self.received.extend_from_slice(&scratch[..read]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    client.read_blocked();
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(client_reset(error)),
            }
            let length = take_header(&self.received, record).inspect_err(|_| client.reset_on_close())?;
            if let Some(length) = length {
                let (passage, first_bytes) = (self.passage.take(), &self.received[length..]);
                // An end that has come as well is found by the relay.
                return Ok(Some(Opened {
                    client: record.client(),
                    passage,
                    first_bytes,
                    has_finished: false,
                    secured: None,
                }));
            }
        }
        if now_ms >= self.until_ms {
            client.reset_on_close();
            let error = HeaderError::Late { timeout: self.timeout, bytes: self.received.len() };
            return Err(NotConnected { reason: EndReason::HeaderTimeout, error: Some(io::Error::other(error)) });
        }
        Ok(None)
    }
}

/// Reads the header and tells the record whom the session serves. The length of the header; `None` while it is incomplete.
fn take_header(received: &[u8], record: &SessionRecord) -> Result<Option<usize>, NotConnected> {
    let header = match proxy_header::read(received) {
        Read::Complete(header) => header,
        Read::Incomplete => return Ok(None),
        Read::Malformed(flaw) => {
            let error = io::Error::other(HeaderError::Malformed(flaw));
            return Err(NotConnected { reason: EndReason::BadHeader, error: Some(error) });
        }
    };
    let Header { length, ends, is_local, authority, unique_id } = header;
    let result = match ends {
        Some(_) => HeaderResult::Accepted,
        None if is_local => HeaderResult::Local,
        None => HeaderResult::Unknown,
    };
    record.group().counters.header_ended(result);
    let text = |bytes: Option<&[u8]>| bytes.map(|bytes| shown(bytes).into());
    record.set_client_facts(ClientFacts {
        via: record.peer(),
        source: ends.map(|ends| ends.source),
        destination: ends.map(|ends| ends.destination),
        is_local,
        authority: text(authority),
        unique_id: text(unique_id),
        routed: None,
    });
    Ok(Some(length))
}

/// A time as people write it in the file.
pub(super) fn time_text(time: Duration) -> String {
    match clock::as_ms(time) {
        ms if ms.is_multiple_of(1_000) => format!("{}s", ms / 1_000),
        ms => format!("{ms}ms"),
    }
}

#[cfg(test)]
mod tests;
