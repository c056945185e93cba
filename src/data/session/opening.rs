//! What comes before a server is looked for: is the client let in, who is it, and what has it said?
//!
//! Most clients are opened at once, with the bytes that are there. One whose group expects a [`Preface`] is kept
//! until it has sent that; how long that may take and how many bytes it may have is bounded, as such a client costs
//! a place and a descriptor and has proven nothing. Whatever is read here and is no part of the preface are the first
//! bytes for the server.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rustix::io::Errno;
use rustix::net::RecvFlags;

use super::passage::Passage;
use super::record::SessionRecord;
use super::relay::Socket;
use super::service::SessionGuard;
use super::stream::Stream;
use crate::base::clock;
use crate::counters::EndReason;
use crate::events::{self, Event, GroupChange};
use crate::group::GroupSettings;

/// Bytes of the client's that are taken before a server is found. Enough for a request, and little enough that
/// thousands of clients may wait for a server that does not answer.
pub(super) const FIRST_READ_MAX: usize = 16 << 10;

/// How often to say that a group leads back to itself.
const SAY_EVERY_MS: u64 = 10_000;

/// How long a client may take for its preface.
const PREFACE_TIMEOUT_MS: u64 = 5_000;

/// Why a client has no server.
#[derive(Debug)]
pub(super) struct NotConnected {
    pub(super) reason: EndReason,
    pub(super) error: Option<io::Error>,
}

impl NotConnected {
    pub(super) fn because(reason: EndReason) -> Self {
        Self { reason, error: None }
    }

    pub(super) fn out_of_descriptors(error: io::Error) -> Self {
        Self { reason: EndReason::Limit, error: Some(error) }
    }
}

/// A client for which a server may be looked for.
#[derive(Debug)]
pub(super) struct Opened<'a> {
    /// The address that the policy is shown.
    pub(super) client: SocketAddr,
    /// The groups that it has come through, when it is a connection of our own.
    pub(super) passage: Option<Arc<Passage>>,
    /// Bytes of ours that the server gets before the client's.
    pub(super) prefix: Vec<u8>,
    /// What the client has sent by now, besides a preface.
    pub(super) first_bytes: &'a [u8],
    /// The client has finished already.
    pub(super) has_finished: bool,
}

/// What a client has to say before a server is looked for. There is none yet but that of the tests.
#[derive(Debug)]
pub(super) enum Preface {
    #[cfg(test)]
    Line(tests::Line),
}

/// What the bytes that have come mean as a preface.
#[derive(Debug)]
#[cfg_attr(not(test), expect(dead_code, reason = "there is no preface yet"))]
pub(super) enum Verdict {
    /// There must be more to come.
    Incomplete,
    /// The preface is the first `length` bytes.
    Complete { length: usize, client: SocketAddr, prefix: Vec<u8> },
    /// It can never be one.
    Malformed(EndReason),
}

/// A client that has not sent all of its preface.
#[derive(Debug)]
pub(super) struct Opening {
    preface: Preface,
    passage: Option<Arc<Passage>>,
    received: Vec<u8>,
    until_ms: u64,
}

/// Lets the client in, or not. Answers what it has come through, when it is a connection of our own.
///
/// # Errors
///
/// The group or the process holds as many sessions as it may, or the client has come through this group already.
pub(super) fn admit(guard: &SessionGuard, settings: &GroupSettings) -> Result<Option<Arc<Passage>>, NotConnected> {
    if guard.is_over_limit(settings) {
        return Err(NotConnected::because(EndReason::Limit));
    }
    let passage = guard.passages().of(guard.record().client());
    if let Some(passage) = &passage
        && passage.is_through(guard.record().group())
    {
        say_loop(guard.record());
        return Err(NotConnected::because(EndReason::Loop));
    }
    Ok(passage)
}

/// Says so once in a while, not once per client.
fn say_loop(record: &SessionRecord) {
    static SAY_AGAIN_MS: AtomicU64 = AtomicU64::new(0);
    let now_ms = clock::coarse_ms();
    if SAY_AGAIN_MS.fetch_update(Relaxed, Relaxed, |at| (now_ms >= at).then_some(now_ms + SAY_EVERY_MS)).is_ok() {
        let group = record.group().label().clone();
        events::publish_soon(Event::Group { group, change: GroupChange::Loops });
    }
}

/// Opens a client that has to say nothing beforehand, with what it has sent by now.
///
/// # Errors
///
/// The client was reset.
pub(super) fn open_at_once<'a>(
    client: &OwnedFd,
    passage: Option<Arc<Passage>>,
    record: &SessionRecord,
    scratch: &'a mut [u8],
) -> Result<Opened<'a>, NotConnected> {
    let first_bytes = &mut scratch[..FIRST_READ_MAX];
    let (read, has_finished) = match rustix::net::recv(client, &mut *first_bytes, RecvFlags::empty()) {
        Ok((read, _)) => (read, read == 0),
        Err(Errno::AGAIN | Errno::INTR) => (0, false),
        Err(error) => return Err(client_reset(error.into())),
    };
    let client = record.client();
    Ok(Opened { client, passage, prefix: Vec::new(), first_bytes: &first_bytes[..read], has_finished })
}

impl Opening {
    pub(super) fn new(preface: Preface, passage: Option<Arc<Passage>>, now_ms: u64) -> Self {
        Self { preface, passage, received: Vec::new(), until_ms: now_ms + PREFACE_TIMEOUT_MS }
    }

    /// Until when the client may take.
    pub(super) fn until_ms(&self) -> u64 {
        self.until_ms
    }

    /// Reads what has come. `None` while the preface is incomplete.
    ///
    /// # Errors
    ///
    /// The client has sent something else, has ended or been reset before, or has taken too long.
    pub(super) fn advance(
        &mut self,
        client: &mut Stream,
        scratch: &mut [u8],
        now_ms: u64,
    ) -> Result<Option<Opened<'_>>, NotConnected> {
        while client.is_readable() {
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
            match self.preface.verdict(&self.received) {
                Verdict::Complete { length, client, prefix } => {
                    let (passage, first_bytes) = (self.passage.take(), &self.received[length..]);
                    // An end that has come as well is found by the relay.
                    return Ok(Some(Opened { client, passage, prefix, first_bytes, has_finished: false }));
                }
                Verdict::Incomplete if self.received.len() < self.preface.length_max() => {}
                Verdict::Incomplete => return Err(NotConnected::because(self.preface.reason_if_none())),
                Verdict::Malformed(reason) => return Err(NotConnected::because(reason)),
            }
        }
        if now_ms >= self.until_ms {
            return Err(NotConnected::because(self.preface.reason_if_none()));
        }
        Ok(None)
    }
}

fn client_reset(error: io::Error) -> NotConnected {
    NotConnected { reason: EndReason::ClientReset, error: Some(error) }
}

#[cfg(not(test))]
impl Preface {
    fn verdict(&self, _received: &[u8]) -> Verdict {
        match *self {}
    }

    fn length_max(&self) -> usize {
        match *self {}
    }

    fn reason_if_none(&self) -> EndReason {
        match *self {}
    }
}

#[cfg(test)]
mod tests;
