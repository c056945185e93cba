//! The PROXY header that tells a server whom we speak for.

use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

use super::record::SessionRecord;
use super::stream::{canonical, own_addr};
use crate::group::GroupSettings;
use crate::net::proxy_header::{self, Ends, Secured};
use crate::server::SendProxy;

/// The header of this version for a server of the session, whose client has this socket, and may have spoken TLS to us.
#[cold]
pub(super) fn header_for(
    version: SendProxy,
    record: &SessionRecord,
    client: BorrowedFd<'_>,
    secured: Option<&Secured>,
) -> Option<Box<[u8]>> {
    let settings = &record.group().snapshot().settings;
    let told = record.client_facts().and_then(|client_facts| client_facts.destination);
    let ends = told
        .or_else(|| connected_to(client, settings))
        .map(|destination| Ends { source: record.client(), destination });
    let header = proxy_header::write(version, ends, settings.proxy_unique_id.then_some(record.id()))?;
    Some(secured.map_or_else(|| Box::from(&*header), |secured| secured.told_in(&header)))
}

/// The address that a client has connected to. Where the group listens on several, only the socket knows.
fn connected_to(client: BorrowedFd<'_>, settings: &GroupSettings) -> Option<SocketAddr> {
    let mut listens = settings.listen.iter();
    match (listens.next(), listens.next()) {
        (Some(addr), None) if !addr.ip().is_unspecified() => Some(canonical(addr)),
        _ => own_addr(client),
    }
}
