//! Accepts one group's clients.
//!
//! Every data thread has a listening socket of its own on the group's port (`SO_REUSEPORT`), so a client
//! stays on the thread that accepted it. The sockets are bound before anything is told that the group is
//! open, and closed together: closing one alone would reset the clients queued on it.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rustix::io::Errno;
use rustix::net::SocketFlags;

use crate::base::clock;
use crate::events::{self, Event, GroupChange};
use crate::group::Group;

/// How often to say so.
const SAY_EVERY_MS: u64 = 10_000;

/// One group's listening socket on one data thread.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) socket: OwnedFd,
    pub(crate) group: Arc<Group>,
}

/// What accepting came to.
#[derive(Debug)]
pub(crate) enum Accepted {
    Client(OwnedFd, SocketAddr),
    /// Nobody is waiting.
    Nobody,
    /// No descriptor or memory is left for more. Trying again at once would spin.
    Exhausted,
}

impl Listener {
    /// Accepts the next client.
    pub(crate) fn accept(&self) -> Accepted {
        loop {
            match rustix::net::acceptfrom_with(&self.socket, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok((client, addr)) => {
                    let Some(addr) = addr.and_then(|addr| SocketAddr::try_from(addr).ok()) else { continue };
                    // A dual-stack listener shows IPv4 clients in IPv6 form; policies and logs want the real one.
                    return Accepted::Client(client, SocketAddr::new(addr.ip().to_canonical(), addr.port()));
                }
                Err(Errno::AGAIN) => return Accepted::Nobody,
                Err(error @ (Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)) => {
                    say_exhausted(&self.group, error);
                    return Accepted::Exhausted;
                }
                // The client went away while it was queued, or the network said something about it (accept(2)).
                Err(_) => {}
            }
        }
    }
}

/// Says so once in a while, not once per client.
fn say_exhausted(group: &Group, error: Errno) {
    static SAY_AGAIN_MS: AtomicU64 = AtomicU64::new(0);
    let now_ms = clock::coarse_ms();
    if SAY_AGAIN_MS.fetch_update(Relaxed, Relaxed, |at| (now_ms >= at).then_some(now_ms + SAY_EVERY_MS)).is_ok() {
        let change = GroupChange::Exhausted { error: std::io::Error::from(error).to_string().into() };
        events::publish_soon(Event::Group { group: group.label().clone(), change });
    }
}
