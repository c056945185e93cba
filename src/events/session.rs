//! What happens to a session.

use std::net::SocketAddr;
use std::sync::Arc;

use tracing::Level;

use super::fields::Visitor;
use crate::base::label::GroupLabel;

/// One step of a session's life. Built on a data thread, shown elsewhere.
#[derive(Clone, Debug)]
pub enum SessionEvent {
    /// A client was accepted.
    ClientConnected {
        /// The session.
        id: u64,
        /// The group.
        group: GroupLabel,
        /// Who connected.
        client: SocketAddr,
    },
    /// A server answered.
    ServerConnected {
        /// The session.
        id: u64,
        /// The group.
        group: GroupLabel,
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
        /// The group.
        group: GroupLabel,
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
        connect_us: Option<u32>,
        /// Since the client was accepted.
        elapsed_ms: u64,
        /// The cause behind `end`, where there is one to tell.
        error: Option<Box<str>>,
    },
}

impl SessionEvent {
    /// The level and the message of each step.
    pub(super) const MESSAGES: &[(Level, &str)] =
        &[(Level::INFO, "client connected"), (Level::INFO, "server connected"), (Level::INFO, "session closed")];

    /// Shows every field that is known, in the order of a log line, and says what has happened.
    pub fn show(&self, to: &mut Visitor<'_>) -> &'static str {
        match self {
            Self::ClientConnected { id, group, client } => {
                to.number("session.id", *id).group(group).addr("client.addr", *client);
                "client connected"
            }
            Self::ServerConnected { id, group, client, server, attempt, connect_us } => {
                to.number("session.id", *id).group(group).addr("client.addr", *client).text("server.addr", server);
                to.number("attempt", *attempt).fraction("connect_ms", as_ms(*connect_us));
                "server connected"
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
            } => {
                to.number("session.id", *id).group(group).text("policy", policy).addr("client.addr", *client);
                if let Some(server) = server {
                    to.text("server.addr", server);
                }
                to.number("attempts", *attempts).text("end", end);
                to.number("bytes.up", *bytes_up).number("bytes.down", *bytes_down);
                if let Some(connect_us) = connect_us {
                    to.fraction("connect_ms", as_ms((*connect_us).into()));
                }
                to.number("elapsed_ms", *elapsed_ms);
                if let Some(error) = error {
                    to.text("error", error);
                }
                "session closed"
            }
        }
    }
}

/// With the fraction: most connects take less than one millisecond.
fn as_ms(micros: u64) -> f64 {
    micros as f64 / 1_000.0
}
