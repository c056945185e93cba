//! Word for our own listener, where a connection leads there.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use super::Context;
use crate::data::session::connect::Step;
use crate::data::session::passage::{Passage, PassageGuard};
use crate::data::session::stream::{canonical, own_addr};

/// Leaves word for our own listener, to which this connection to `to` leads, of the groups that it has come through.
pub(super) fn leave_word(
    step: &Step,
    to: SocketAddr,
    before: Option<&Arc<Passage>>,
    context: Context<'_>,
) -> Option<Box<PassageGuard>> {
    let (Step::Connected(server, _) | Step::Connecting(server, _)) = step else { return None };
    let passage = Passage::new(context.record.group(), before.map(Arc::clone));
    let own = own_addr(server.as_fd())?;
    Some(Box::new(context.passages.insert(own, reached(to, own), passage)))
}

/// Where a connect to this address leads, from `own`: to no address in particular is to this machine.
fn reached(to: SocketAddr, own: SocketAddr) -> SocketAddr {
    let to = canonical(to);
    match to.ip() {
        ip if !ip.is_unspecified() => to,
        // The source is known first, and is the destination as well.
        IpAddr::V4(_) => SocketAddr::new(own.ip(), to.port()),
        IpAddr::V6(_) => SocketAddr::new(Ipv6Addr::LOCALHOST.into(), to.port()),
    }
}
