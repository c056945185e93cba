//! What a session tells the log, and the lines that become of it.

use std::net::SocketAddr;
use std::sync::Arc;

/// One step of a session's life. Built on a data thread, formatted on the log thread.
#[derive(Clone, Debug)]
pub enum SessionEvent {
    /// A client was accepted.
    ClientConnected {
        /// The session.
        id: u64,
        /// The group's port.
        group: u16,
        /// Who connected.
        client: SocketAddr,
    },
    /// A server answered.
    ServerConnected {
        /// The session.
        id: u64,
        /// The group's port.
        group: u16,
        /// Who connected.
        client: SocketAddr,
        /// Which server it got.
        server: Arc<str>,
        /// 1 for the first server that was tried.
        attempt: u32,
        /// How long this connect took.
        connect_us: u64,
    },
    /// The session is over.
    SessionClosed {
        /// The session.
        id: u64,
        /// The group's port.
        group: u16,
        /// The policy that picked.
        policy: Arc<str>,
        /// Who had connected.
        client: SocketAddr,
        /// Which server it had; `None` when none was reached.
        server: Option<Arc<str>>,
        /// How many servers were tried.
        attempts: u32,
        /// Why it is over: the word of `EndReason`.
        end: &'static str,
        /// Bytes client → server.
        bytes_up: u64,
        /// Bytes server → client.
        bytes_down: u64,
        /// How long the connect took that succeeded.
        connect_us: Option<u64>,
        /// Since the client was accepted.
        elapsed_ms: u64,
        /// The cause behind `end`, where there is one to tell.
        error: Option<Box<str>>,
    },
}

impl SessionEvent {
    /// Makes the `tracing` event of it. Text is given as `Display` so that it stands without quotes,
    /// but for `error`, which is free text.
    pub(super) fn emit(&self) {
        match self {
            Self::ClientConnected { id, group, client } => {
                tracing::info!(session.id = id, group, client.addr = %client, "client connected");
            }
            Self::ServerConnected { id, group, client, server, attempt, connect_us } => {
                tracing::info!(
                    session.id = id,
                    group,
                    client.addr = %client,
                    server.addr = %server,
                    attempt,
                    connect_ms = as_ms(*connect_us),
                    "server connected"
                );
            }
            Self::SessionClosed {
                id,
                group,
                policy,
                client,
                server,
                attempts,
                end,
                bytes_up,
                bytes_down,
                connect_us,
                elapsed_ms,
                error,
            } => tracing::info!(
                session.id = id,
                group,
                policy = %policy,
                client.addr = %client,
                server.addr = server.as_deref().map(tracing::field::display),
                attempts,
                end = %end,
                bytes.up = bytes_up,
                bytes.down = bytes_down,
                connect_ms = connect_us.map(as_ms),
                elapsed_ms,
                error = error.as_deref(),
                "session closed"
            ),
        }
    }
}

/// With the fraction: most connects take less than one millisecond.
pub(super) fn as_ms(micros: u64) -> f64 {
    micros as f64 / 1_000.0
}
