//! What comes before a server is looked for: is the client let in, and what has it said?
//!
//! Most clients are opened at once, with the bytes that are there, which are the first ones for the server. One that has to
//! send a PROXY header is kept until it has done so, which is the business of `header`.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rustix::io::Errno;
use rustix::net::RecvFlags;

use super::failed::FailedConnect;
use super::passage::Passage;
use super::record::SessionRecord;
use super::service::SessionGuard;
use super::stream::{own_addr, reset_on_close};
use crate::base::clock;
use crate::counters::EndReason;
use crate::events::{self, Event, GroupChange};
use crate::group::Snapshot;
use crate::limits::Refusal;
use crate::net::proxy_header::Secured;

/// Bytes of the client's that are taken before a server is found. Enough for a request, and little enough that
/// thousands of clients may wait for a server that does not answer.
pub(super) const FIRST_READ_MAX: usize = 16 << 10;

/// How often to say that a group leads back to itself.
const SAY_EVERY_MS: u64 = 10_000;

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

    pub(super) fn failed(server: Arc<str>, error: io::Error) -> Self {
        #[cfg(feature = "tls")]
        if crate::tls::TlsFailure::behind(&error).is_some() {
            return Self { reason: EndReason::ServerTlsFailed, error: Some(FailedConnect::of(server, error)) };
        }
        Self { reason: EndReason::ConnectFailed, error: Some(FailedConnect::of(server, error)) }
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
    /// What the client has sent by now, without a PROXY header.
    pub(super) first_bytes: &'a [u8],
    /// The client has finished already.
    pub(super) has_finished: bool,
    /// The TLS that it speaks to us, if it does.
    pub(super) secured: Option<Box<Secured>>,
}

/// Gives a connection that was just accepted its place, or closes it with a reset. Answers what it has come through, when
/// it is a connection of our own.
///
/// # Errors
///
/// The group or the process holds as many sessions as it may, or the client has come through this group already.
#[inline]
pub(super) fn give_place(
    client: &OwnedFd,
    guard: &SessionGuard,
    snapshot: &Snapshot,
) -> Result<Option<Arc<Passage>>, NotConnected> {
    if let Some(limit) = guard.exceeded(snapshot) {
        reset_on_close(client);
        return Err(turned_away(guard, Refusal::Over(limit)));
    }
    let passage = guard.passages().take(guard.record().peer(), || own_addr(client.as_fd()));
    if let Some(passage) = &passage
        && passage.is_through(guard.record().group())
    {
        return Err(comes_round(guard.record()));
    }
    Ok(passage)
}

/// Lets in the client, whose address is known by now, or not: its networks, its sessions, and every rate.
///
/// # Errors
///
/// It is denied, or over a limit. Its connection is to be reset, so that nothing of it stays in the kernel.
#[inline]
pub(super) fn let_in(guard: &SessionGuard, snapshot: &Snapshot) -> Result<(), NotConnected> {
    let record = guard.record();
    guard.admit(record.client().ip(), snapshot).map_err(|refusal| turned_away(guard, refusal))?;
    // Who has to shake hands is told of with a place for that.
    #[cfg(feature = "tls")]
    if snapshot.tls.is_some() {
        return Ok(());
    }
    record.tell_connected();
    Ok(())
}

/// The same for a group with routes, where nothing is told of the client before its hello is known.
///
/// # Errors
///
/// As [`let_in`].
pub(super) fn let_in_to_peek(guard: &SessionGuard, snapshot: &Snapshot) -> Result<(), NotConnected> {
    let record = guard.record();
    guard.admit(record.client().ip(), snapshot).map_err(|refusal| turned_away(guard, refusal))?;
    record.set_peeked_at();
    Ok(())
}

pub(super) fn turned_away(guard: &SessionGuard, refusal: Refusal) -> NotConnected {
    match refusal {
        Refusal::Denied => NotConnected::because(EndReason::Denied),
        Refusal::Over(limit) => {
            guard.record().set_limit(limit);
            NotConnected::because(EndReason::Limit)
        }
    }
}

/// The client has come through this group already. Says so once in a while, not once per client.
pub(super) fn comes_round(record: &SessionRecord) -> NotConnected {
    static SAY_AGAIN_MS: AtomicU64 = AtomicU64::new(0);
    let now_ms = clock::coarse_ms();
    if SAY_AGAIN_MS.fetch_update(Relaxed, Relaxed, |at| (now_ms >= at).then_some(now_ms + SAY_EVERY_MS)).is_ok() {
        let group = record.group().label().clone();
        events::publish_soon(Event::Group { group, change: GroupChange::Loops });
    }
    NotConnected::because(EndReason::Loop)
}

/// Opens a client that has to send no PROXY header, with what it has sent by now.
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
    let (first_bytes, has_finished) = match read_first(client, scratch)? {
        Some(first_bytes) => (first_bytes, first_bytes.is_empty()),
        None => (&[][..], false),
    };
    Ok(Opened { client: record.peer(), passage, first_bytes, has_finished, secured: None })
}

/// Reads what the client has sent by now: nothing at its end, `None` when there is nothing yet.
///
/// # Errors
///
/// The client was reset.
pub(super) fn read_first<'a>(client: &OwnedFd, scratch: &'a mut [u8]) -> Result<Option<&'a [u8]>, NotConnected> {
    let first_bytes = &mut scratch[..FIRST_READ_MAX];
    match rustix::net::recv(client, &mut *first_bytes, RecvFlags::empty()) {
        Ok((read, _)) => Ok(Some(&first_bytes[..read])),
        Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        Err(error) => Err(client_reset(error.into())),
    }
}

pub(super) fn client_reset(error: io::Error) -> NotConnected {
    NotConnected { reason: EndReason::ClientReset, error: Some(error) }
}
