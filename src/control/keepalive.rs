//! Heartbeats: a known server's goes straight to its group, the first one of a server is a change of the file.

use std::sync::atomic::Ordering::Relaxed;

use super::{Change, ChangeError, Control};
use crate::config::Edit;
use crate::events::{self, Event, ServerChange};
use crate::group::view::ServerView;
use crate::group::{Group, GroupId};
use crate::server::ServerAddr;
use crate::sources::heartbeat::{self, Heard, Keepalive};

/// Servers a group may hold that came by heartbeat or stand in the file when one registers.
pub const REGISTERED_MAX: usize = 4_096;

/// What came of a heartbeat.
#[derive(Debug)]
pub struct KeepaliveOutcome {
    /// The server.
    pub view: ServerView,
    /// The file was changed: the server is new, or has said something new of itself.
    pub is_news: bool,
}

impl Control {
    /// Takes a server's heartbeat: renews its lease, or registers it.
    ///
    /// The heartbeat of a known server touches no file and waits for nobody, unless it brings something new and the file
    /// has not been told of this server for a while.
    ///
    /// # Errors
    ///
    /// Group unknown, address refused, group full, or the file cannot be written.
    pub async fn keepalive(
        &self,
        group: &GroupId,
        server: &ServerAddr,
        keepalive: Keepalive,
    ) -> Result<KeepaliveOutcome, ChangeError> {
        let mut is_news = false;
        loop {
            let running = self.group_at(group)?;
            match heartbeat::hear(&running, server, &keepalive) {
                Heard::Renewed(view) => return Ok(KeepaliveOutcome { view: *view, is_news }),
                Heard::Later(view) => {
                    // Thousands of heartbeats may disagree; one event is enough until somebody has looked.
                    if !self.shared.has_unwritten.swap(true, Relaxed) {
                        let (group, addr) = (running.label().clone(), server.shared());
                        events::publish(Event::Server { group, addr, change: ServerChange::Unwritten });
                    }
                    return Ok(KeepaliveOutcome { view: *view, is_news: true });
                }
                Heard::News(said, edit) => {
                    self.write_said(&running, server, &said, edit).await?;
                    let view = running.server(server).ok_or_else(|| not_found(group, server))?;
                    return Ok(KeepaliveOutcome { view, is_news: true });
                }
                Heard::Stranger if is_news => return Err(not_found(group, server)),
                Heard::Stranger => {
                    let change = self.registration(&running, server, &keepalive).await?;
                    self.change(change).await?;
                    is_news = true;
                }
            }
        }
    }

    /// The change that registers a server nobody has heard of.
    async fn registration(
        &self,
        group: &Group,
        server: &ServerAddr,
        keepalive: &Keepalive,
    ) -> Result<Change, ChangeError> {
        let registration = heartbeat::registration(&self.shared.running, server, keepalive)
            .await
            .map_err(|why| ChangeError::ServerRefused { server: server.clone(), why })?;
        let id = group.id();
        // Spares the disk; the limit is kept where the file is edited.
        if group.view().servers_total >= REGISTERED_MAX {
            // Servers with passing addresses would fill the group for ever: the one that is gone longest makes room.
            let gone = group.longest_gone();
            let gone = gone.ok_or(ChangeError::TooManyServers { group: id.clone(), max: REGISTERED_MAX })?;
            self.remove_server(id, &gone, None).await?;
        }
        let edit = Edit::AddServer { group: id.clone(), server: registration.server };
        Ok(Change { edit, addresses: registration.addresses })
    }
}

fn not_found(group: &GroupId, server: &ServerAddr) -> ChangeError {
    ChangeError::ServerNotFound { group: group.clone(), server: server.clone() }
}
