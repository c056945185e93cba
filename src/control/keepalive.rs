//! Heartbeats: a known server's lease is renewed at once, an unknown server is registered.

use std::collections::HashSet;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::{Change, ChangeError, Control, rules};
use crate::config::Edit;
use crate::group::Group;
use crate::group::view::ServerView;
use crate::server::{Origin, ServerAddr, ServerSettings, State};

/// Servers a group may hold that came by heartbeat or stand in the file when one registers.
pub const REGISTERED_MAX: usize = 4_096;

/// How long a registration waits for its name to resolve; after that it goes on being resolved beside.
const RESOLVE_WAIT: Duration = Duration::from_secs(1);

/// Names that are looked up at a time, so that those which hang leave threads for everything else.
const LOOKUPS_MAX: usize = 16;

/// A server's heartbeat.
#[derive(Clone, Debug, Default)]
pub struct Keepalive {
    /// A changed weight is persisted.
    pub weight: Option<u32>,
    /// A changed state is persisted.
    pub state: Option<State>,
    /// Kept as the label `zone`; a changed one is persisted.
    pub zone: Option<String>,
    /// The server's own idea of its load, 0 to 100; kept in memory only.
    pub load: Option<u32>,
}

impl Control {
    /// Takes a server's heartbeat: renews its lease, or registers it.
    ///
    /// The heartbeat of a known server that brings nothing new touches no file and waits for nobody.
    ///
    /// # Errors
    ///
    /// Group unknown, address refused, group full, or the file cannot be written.
    pub async fn keepalive(
        &self,
        group: u16,
        server: &ServerAddr,
        keepalive: Keepalive,
    ) -> Result<ServerView, ChangeError> {
        let running = self.group(group)?;
        let edit = match running.server_settings(server) {
            Some(known) => {
                let renewed = running.renew(server, keepalive.load);
                match (keepalive.edit_of(group, &known), renewed) {
                    (None, Some(view)) => return Ok(view),
                    (edit, _) => edit,
                }
            }
            None => None,
        };
        let change = match edit {
            Some(edit) => Change { edit, addresses: Vec::new() },
            None => self.registration(group, &running, server, &keepalive).await?,
        };
        self.change(change).await?;
        let not_found = || ChangeError::ServerNotFound { group, server: server.clone() };
        self.group(group)?.renew(server, keepalive.load).ok_or_else(not_found)
    }

    /// What registers a server nobody has heard of.
    async fn registration(
        &self,
        group: u16,
        running: &Group,
        server: &ServerAddr,
        keepalive: &Keepalive,
    ) -> Result<Change, ChangeError> {
        let addresses = match server.literal() {
            Some(addr) => vec![addr],
            // A name that does not resolve in time registers all the same; it is offline until it does.
            None => {
                tokio::time::timeout(RESOLVE_WAIT, lookup(server)).await.ok().and_then(Result::ok).unwrap_or_default()
            }
        };
        let groups = self.groups();
        for addr in &addresses {
            rules::check(*addr, &self.config().admin, &groups)
                .map_err(|why| ChangeError::ServerRefused { server: server.clone(), why })?;
        }
        // Spares the disk; the limit is kept where the file is edited.
        if running.view().servers_total >= REGISTERED_MAX {
            // Servers with passing addresses would fill the group for ever: the one that is gone longest makes room.
            let gone = running.longest_gone().ok_or(ChangeError::TooManyServers { group, max: REGISTERED_MAX })?;
            self.remove_server(group, &gone).await?;
        }
        let mut settings = ServerSettings::new(server.clone(), Origin::Heartbeat);
        settings.weight = keepalive.weight.unwrap_or(settings.weight);
        settings.state = keepalive.state.unwrap_or(settings.state);
        settings.labels.extend(keepalive.zone.iter().map(|zone| ("zone".to_owned(), zone.clone())));
        Ok(Change { edit: Edit::AddServer { group, server: settings }, addresses })
    }

    /// The addresses of `name` that a server may have; those that may not register are left out.
    pub(crate) async fn resolve(&self, name: &ServerAddr, origin: Origin) -> Result<Vec<SocketAddr>, String> {
        let mut addresses = lookup(name).await.map_err(|error| error.to_string())?;
        if origin == Origin::Heartbeat {
            let (groups, config) = (self.groups(), self.config());
            let mut refusal = None;
            addresses.retain(|addr| match rules::check(*addr, &config.admin, &groups) {
                Ok(()) => true,
                Err(why) => {
                    refusal = Some(why);
                    false
                }
            });
            if let (true, Some(why)) = (addresses.is_empty(), refusal) {
                return Err(why);
            }
        }
        Ok(addresses)
    }
}

impl Keepalive {
    /// The edit that brings what is known of a server up to date; `None` when nothing is new.
    fn edit_of(&self, group: u16, known: &ServerSettings) -> Option<Edit> {
        let weight = self.weight.filter(|weight| *weight != known.weight);
        let state = self.state.filter(|state| *state != known.state);
        let zone = self.zone.as_ref().filter(|zone| known.labels.get("zone") != Some(zone));
        let labels = zone.map(|zone| {
            let mut labels = known.labels.clone();
            labels.insert("zone".to_owned(), zone.clone());
            labels
        });
        let is_new = weight.is_some() || state.is_some() || labels.is_some();
        is_new.then(|| Edit::SetServer { group, addr: known.addr.clone(), weight, state, labels })
    }
}

/// Resolves a name the way every program of this machine does, in the order of preference, without doubles.
///
/// A lookup cannot be cut short: whoever stops waiting leaves a thread behind for as long as the resolver likes.
/// So the place among [`LOOKUPS_MAX`] is given back by that thread, not by whoever waits.
async fn lookup(name: &ServerAddr) -> std::io::Result<Vec<SocketAddr>> {
    static LOOKUPS: Semaphore = Semaphore::const_new(LOOKUPS_MAX);
    let place = LOOKUPS.acquire().await.map_err(std::io::Error::other)?;
    let target = (name.host().to_owned(), name.port());
    let lookup = tokio::task::spawn_blocking(move || {
        let _place = place;
        target.to_socket_addrs().map(Iterator::collect)
    });
    let mut addresses: Vec<SocketAddr> = lookup.await.map_err(std::io::Error::other)??;
    let mut seen = HashSet::new();
    addresses.retain(|addr| seen.insert(*addr));
    Ok(addresses)
}
