//! Notes as what a policy is shown.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::policy::balance::{PickRequest, ServerSet};
use crate::policy::recorded::{Asked, Mirror, Servers};
use crate::server::{Origin, Server, ServerSettings};

/// The servers of a note, with figures in this mirror.
pub fn mirrored(noted: &Servers, mirror: &mut Mirror) -> ServerSet {
    let servers = noted.servers.iter().map(|shown| {
        let live = mirror.live(shown.id);
        live.set_facts(shown.facts);
        // An address that is none was never one of a server.
        let addr = shown.addr.parse().unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0)).into());
        let settings = ServerSettings {
            weight: shown.weight,
            max_sessions: shown.max_sessions,
            backup: noted.is_backup,
            labels: shown.labels.iter().cloned().collect(),
            ..ServerSettings::new(addr, Origin::File)
        };
        Arc::new(Server { live, id: shown.id, settings })
    });
    ServerSet { generation: noted.generation, backup: noted.is_backup, servers: servers.collect() }
}

/// The request of a note.
pub fn request<'a>(asked: &'a Asked, servers: &'a ServerSet) -> PickRequest<'a> {
    PickRequest {
        client: asked.client,
        group: asked.port,
        attempt: asked.tried.len() as u32,
        servers,
        tried: &asked.tried,
        avoided: asked.avoided,
        now_ms: asked.now_ms,
        random: asked.random,
    }
}
