//! What those ask who end the sessions of servers that have gone, or wait for their end.

use std::sync::Arc;

use super::Group;
use super::on_down::Loss;
use crate::events::{self, Event, ServerChange};
use crate::server::{Live, ServerAddr};

impl Group {
    /// True while the sessions of this server are to end: it has gone, for a cause for which `on_down` closes them, or it is
    /// not in the group.
    pub fn has_lost(&self, addr: &ServerAddr) -> bool {
        let mut members = self.members();
        members.member(addr).is_none_or(|(member, common)| member.is_lost(common))
    }

    /// Has the sessions of a server go on when it is taken out of the group, or follow `on_down` again.
    pub fn set_keeps_sessions(&self, addr: &ServerAddr, keeps_sessions: bool) {
        let mut members = self.members();
        for addr in members.with_expansion(addr) {
            if let Some((member, _)) = members.member(&addr) {
                member.set_keeps_sessions(keeps_sessions);
            }
        }
    }

    /// The server at this address, and those that its name is expanded to.
    pub fn with_expansion(&self, addr: &ServerAddr) -> Vec<ServerAddr> {
        self.members().with_expansion(addr)
    }

    /// Has the sessions end of servers that an operator has taken out of the group.
    pub fn close_sessions_of(&self, addrs: &[ServerAddr]) {
        for addr in addrs {
            let change = ServerChange::Lost { cause: Loss::Removed.as_str() };
            events::publish(Event::Server { group: self.label().clone(), addr: addr.shared(), change });
        }
    }

    /// The live figures of a server.
    pub fn live(&self, addr: &ServerAddr) -> Option<Arc<Live>> {
        self.members().server_at(addr).map(|server| Arc::clone(&server.live))
    }

    /// Those of a server, and of those that its name is expanded to; none when there is no such server.
    pub fn lives(&self, addr: &ServerAddr) -> Vec<Arc<Live>> {
        let members = self.members();
        let addrs = members.with_expansion(addr);
        addrs.iter().filter_map(|addr| Some(Arc::clone(&members.server_at(addr)?.live))).collect()
    }
}
