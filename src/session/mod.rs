//! One client's life, and the service that knows all sessions.

use std::net::SocketAddr;

/// Knows every session of the process.
pub struct ProxySessionService {}

/// A session as `session-list.do` shows it.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct SessionView {
    /// Unique for the life of the process; grows.
    pub id: u64,
    /// The group's port.
    pub group: u16,
    /// The client.
    pub client: SocketAddr,
    /// The server; `None` while none is connected.
    pub server: Option<String>,
    /// Since the client was accepted.
    pub age_ms: u64,
    /// Since either side last sent something.
    pub idle_ms: u64,
    /// Bytes client → server.
    pub bytes_up: u64,
    /// Bytes server → client.
    pub bytes_down: u64,
}

/// Some of the sessions, and how many there are.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct SessionList {
    /// Newest first, at most as many as were asked for.
    pub sessions: Vec<SessionView>,
    /// All of them.
    pub total: usize,
}

impl ProxySessionService {
    /// The newest `limit` sessions, of one group or of all.
    pub fn list(&self, _group: Option<u16>, _limit: usize) -> SessionList {
        todo!()
    }

    /// Ends one session with the reason `killed`. False when there is none of this id.
    pub fn close(&self, _id: u64) -> bool {
        todo!()
    }
}
