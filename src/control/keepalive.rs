//! Heartbeats: a known server's goes straight to its group, the first one of a server is a change of the file.

use super::{Change, ChangeError, Control};
use crate::config::Edit;
use crate::group::view::ServerView;
use crate::group::{Group, GroupId};
use crate::server::ServerAddr;
use crate::sources::heartbeat::{self, Heard, Keepalive};

/// Servers a group may hold that came by heartbeat or stand in the file when one registers.
pub const REGISTERED_MAX: usize = 4_096;

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
    ) -> Result<ServerView, ChangeError> {
        let mut is_registered = false;
        loop {
            let running = self.group_at(group)?;
            match heartbeat::hear(&running, server, &keepalive) {
                Heard::Renewed(view) => return Ok(*view),
                Heard::Later(view) => {
                    self.shared.said_later.notify_one();
                    return Ok(*view);
                }
                Heard::News(said, edit) => {
                    self.write_said(&running, server, &said, edit).await?;
                    return running.server(server).ok_or_else(|| not_found(group, server));
                }
                Heard::Stranger if is_registered => return Err(not_found(group, server)),
                Heard::Stranger => {
                    let change = self.registration(&running, server, &keepalive).await?;
                    self.change(change).await?;
                    is_registered = true;
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
            self.remove_server(id, &gone).await?;
        }
        let edit = Edit::AddServer { group: id.clone(), server: registration.server };
        Ok(Change { edit, addresses: registration.addresses })
    }
}

fn not_found(group: &GroupId, server: &ServerAddr) -> ChangeError {
    ChangeError::ServerNotFound { group: group.clone(), server: server.clone() }
}
