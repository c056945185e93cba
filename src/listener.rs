//! Accepts one group's clients.
//!
//! Every data thread has a listening socket of its own on the group's port (`SO_REUSEPORT`), so a client
//! stays on the thread that accepted it. The sockets are bound before anything is told that the group is
//! open, and closed together: closing one alone would reset the clients queued on it.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};
use tokio::io::Interest;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::group::Group;
use crate::session::{ProxySessionService, TcpProxySession, Workspace, watch};

/// Clients accepted per wake-up before the sessions of this thread get a turn.
const ACCEPTS_PER_WAKE: usize = 64;

/// Connections the kernel may hold for us; `net.core.somaxconn` may say less.
const BACKLOG: i32 = 4096;

/// How often to say so.
const SAY_EVERY_MS: u64 = 10_000;

/// What the listeners and sessions of one data thread share.
#[derive(Debug)]
pub(crate) struct DataThread {
    /// Which of the data threads this is: the shard of the service.
    pub(crate) index: usize,
    pub(crate) service: Arc<ProxySessionService>,
    pub(crate) workspace: Rc<Workspace>,
}

/// Binds `threads` sockets to `addr` and listens on them.
///
/// `SO_REUSEPORT` would let a second process take half of the clients without an error, so an exclusive bind
/// is tried first, unless the port is known to be ours already.
///
/// # Errors
///
/// Whatever the system says: the address is in use, not ours, or needs a privilege.
pub(crate) fn bind(addr: SocketAddr, threads: usize, is_ours: bool) -> io::Result<Vec<OwnedFd>> {
    if !is_ours {
        let probe = socket(addr)?;
        rustix::net::bind(&probe, &addr)?;
        rustix::net::listen(&probe, 1)?;
    }
    (0..threads)
        .map(|_| {
            let socket = socket(addr)?;
            sockopt::set_socket_reuseport(&socket, true)?;
            // Accepted sockets inherit it, which saves a call for each.
            sockopt::set_tcp_nodelay(&socket, true)?;
            rustix::net::bind(&socket, &addr)?;
            rustix::net::listen(&socket, BACKLOG)?;
            Ok(socket)
        })
        .collect()
}

fn socket(addr: SocketAddr) -> io::Result<OwnedFd> {
    let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    // Connections of an earlier run that linger in TIME_WAIT do not keep the port.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    Ok(socket)
}

/// Accepts clients until `closing`, then those that the kernel has queued already, and closes the socket.
pub(crate) async fn serve(socket: OwnedFd, group: Arc<Group>, thread: Rc<DataThread>, closing: CancellationToken) {
    let listener = match watch(socket, Interest::READABLE) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(group = group.port(), error = %error, "cannot watch the listener");
            return;
        }
    };
    while !closing.is_cancelled() {
        let mut guard = tokio::select! {
            biased;
            () = closing.cancelled() => break,
            ready = listener.readable() => match ready {
                Ok(guard) => guard,
                Err(_runtime_is_going) => return,
            },
        };
        match accept_some(listener.get_ref(), &group, &thread) {
            Accepted::Some => {}
            Accepted::All => guard.clear_ready(),
            // Readiness is kept: clearing it would leave the listener deaf, going on at once would spin. A session
            // that ends gives descriptors back; the scan says so too, in case somebody else did. Neither may come
            // before the order to close, which its thread waits for.
            Accepted::Exhausted => {
                closing.run_until_cancelled(thread.workspace.freed.notified()).await;
            }
        }
        tokio::task::yield_now().await;
    }
    // No more than can have been queued: under a flood of clients there would be no end of it.
    for _ in 0..=BACKLOG as usize / ACCEPTS_PER_WAKE {
        match accept_some(listener.get_ref(), &group, &thread) {
            Accepted::Some => tokio::task::yield_now().await,
            Accepted::All | Accepted::Exhausted => break,
        }
    }
}

enum Accepted {
    /// More may be waiting.
    Some,
    /// Nobody is waiting.
    All,
    /// No descriptor or memory is left for more.
    Exhausted,
}

fn accept_some(listener: &OwnedFd, group: &Arc<Group>, thread: &Rc<DataThread>) -> Accepted {
    for _ in 0..ACCEPTS_PER_WAKE {
        match rustix::net::acceptfrom_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            Ok((client, addr)) => {
                let Some(addr) = addr.and_then(|addr| SocketAddr::try_from(addr).ok()) else { continue };
                // A dual-stack listener shows IPv4 clients in IPv6 form; policies and logs want the real one.
                let addr = SocketAddr::new(addr.ip().to_canonical(), addr.port());
                let guard = thread.service.register(thread.index, addr, group);
                let session = TcpProxySession::new(client, guard, Rc::clone(&thread.workspace));
                tokio::task::spawn_local(session.run());
            }
            Err(Errno::AGAIN) => return Accepted::All,
            Err(error @ (Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)) => {
                say_exhausted(group.port(), error);
                return Accepted::Exhausted;
            }
            // The client went away while it was queued, or the network said something about it (accept(2)).
            Err(_) => {}
        }
    }
    Accepted::Some
}

/// Says so once in a while, not once per client.
fn say_exhausted(group: u16, error: Errno) {
    static SAY_AGAIN_MS: AtomicU64 = AtomicU64::new(0);
    let now_ms = clock::coarse_ms();
    if SAY_AGAIN_MS.fetch_update(Relaxed, Relaxed, |at| (now_ms >= at).then_some(now_ms + SAY_EVERY_MS)).is_ok() {
        tracing::warn!(group, error = %io::Error::from(error), "cannot accept clients for a moment");
    }
}
