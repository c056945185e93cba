//! What happens to a session.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use tracing::Level;

use super::fields::Visitor;
use crate::access::{AccessFacts, AccessTarget};
use crate::base::label::GroupLabel;
use crate::counters::{EndReason, Limit};

/// The client left, and its header was waited for.
const HEADER_LEFT: &str = "client left before its PROXY header was complete";
/// The client left, and its hello was waited for.
const HELLO_LEFT: &str = "client left before its TLS hello was complete";

/// What is known of a client before it is served: what a PROXY header has said, and its TLS hello.
#[derive(Clone, Debug)]
pub struct ClientFacts {
    /// The other end of the connection: a proxy where a header was sent, otherwise the client.
    pub via: SocketAddr,
    /// Where a header says that the client is; `None` when none does, and the other end counts as the client.
    pub source: Option<SocketAddr>,
    /// Where the client connected to.
    pub destination: Option<SocketAddr>,
    /// The proxy speaks for itself: it checks whether we are there.
    pub is_local: bool,
    /// The host name that the client asked for, in printable characters.
    pub authority: Option<Box<str>>,
    /// What the proxy calls the connection, in printable characters.
    pub unique_id: Option<Box<str>>,
    /// What its hello has said, in a group with routes.
    pub routed: Option<Routed>,
}

/// How a client came to its group by a route.
#[derive(Clone, Debug, Default)]
pub struct Routed {
    /// The group at whose port it came in, where that is another one.
    pub listener: Option<GroupLabel>,
    /// The name that it asked for, in printable characters.
    pub server_name: Option<Box<str>>,
    /// The protocols that it offered, in printable characters with commas between them.
    pub alpn: Option<Box<str>>,
}

impl Routed {
    fn show(&self, to: &mut Visitor<'_>) {
        if let Some(listener) = &self.listener {
            to.number("listener", listener.port());
        }
        for (name, text) in [("tls.sni", &self.server_name), ("tls.alpn", &self.alpn)] {
            if let Some(text) = text {
                to.text(name, text);
            }
        }
    }
}

impl ClientFacts {
    /// Nothing is known of the client that has this address.
    pub fn unknown(client: SocketAddr) -> Self {
        let (source, destination, authority, unique_id, routed) = (None, None, None, None, None);
        Self { via: client, source, destination, is_local: false, authority, unique_id, routed }
    }

    fn show(&self, to: &mut Visitor<'_>) {
        if self.source.is_some() {
            to.addr("client.via", self.via);
        }
        if let Some(destination) = self.destination {
            to.addr("header.destination", destination);
        }
        for (name, text) in [("header.authority", &self.authority), ("header.unique_id", &self.unique_id)] {
            if let Some(text) = text {
                to.text(name, text);
            }
        }
        if let Some(routed) = &self.routed {
            routed.show(to);
        }
    }
}

/// What is told of a connection that speaks TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFacts {
    /// `1.2` or `1.3`.
    pub version: Option<&'static str>,
    /// How bytes are encrypted.
    pub suite: Option<Box<str>>,
    /// How the keys were agreed on.
    pub key_exchange: Option<Box<str>>,
    /// The host name that the client asked for, in printable characters.
    pub sni: Option<Box<str>>,
    /// The protocol that was agreed on, in printable characters.
    pub alpn: Option<Box<str>>,
    /// Whom the client's certificate names, in printable characters.
    pub client: Option<Box<str>>,
    /// The client has come back with a ticket.
    pub is_resumed: bool,
    /// The client has ended without saying so: what it has sent may be cut.
    pub is_truncated: bool,
    /// The same of the server, which is spoken to in TLS; the client may be in plain.
    pub is_server_truncated: bool,
}

impl TlsFacts {
    fn show(&self, to: &mut Visitor<'_>) {
        if let Some(version) = self.version {
            to.text("tls.version", version);
        }
        let texts = [
            ("tls.suite", &self.suite),
            ("tls.group", &self.key_exchange),
            ("tls.sni", &self.sni),
            ("tls.alpn", &self.alpn),
            ("client.cert", &self.client),
        ];
        for (name, text) in texts {
            if let Some(text) = text {
                to.text(name, text);
            }
        }
        for (name, is_so) in [
            ("tls.resumed", self.is_resumed),
            ("tls.truncated", self.is_truncated),
            ("server_tls.truncated", self.is_server_truncated),
        ] {
            if is_so {
                to.switch(name, is_so);
            }
        }
    }
}

/// What somebody may want to know of sessions. Each is a bit of what is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Step {
    /// A client or a server has connected.
    Connect = 1,
    /// A session is over that had a server, or whose client left before it could get one.
    Close = 2,
    /// A client got no server.
    Refuse = 4,
}

impl Step {
    /// That a session is over, for this reason.
    pub fn of_end(end: EndReason) -> Self {
        if end.is_refusal() { Self::Refuse } else { Self::Close }
    }
}

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
        /// What a PROXY header has said of the client, where there is one.
        client_facts: Option<Arc<ClientFacts>>,
        /// The log of the process says so.
        is_logged: bool,
        /// The access log that says so, too.
        access: Option<Arc<AccessTarget>>,
    },
    /// A client ended before its PROXY header or its TLS hello was complete, as a probe of the port does.
    ClientLeft {
        /// The session.
        id: u64,
        /// The group.
        group: GroupLabel,
        /// Who had connected.
        client: SocketAddr,
        /// How: the word of `EndReason`.
        end: &'static str,
        /// It was the hello that was waited for.
        was_peeked_at: bool,
        /// Since the client was accepted.
        elapsed_ms: u64,
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
        /// The client is a proxy that checks whether we are there.
        is_check: bool,
        /// The log of the process says so.
        is_logged: bool,
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
        /// What a PROXY header has said of the client, where there is one.
        client_facts: Option<Arc<ClientFacts>>,
        /// What is told of the client's TLS, where it speaks that.
        tls: Option<Arc<TlsFacts>>,
        /// Which server it had; `None` when none was reached.
        server: Option<Arc<str>>,
        /// How many servers were tried.
        attempts: u32,
        /// Why it is over.
        end: EndReason,
        /// Which limit the client was over.
        limit: Option<Limit>,
        /// Bytes client → server.
        bytes_up: u64,
        /// Bytes server → client.
        bytes_down: u64,
        /// How long the connect took that succeeded.
        connect_us: Option<NonZeroU32>,
        /// Since the client was accepted.
        elapsed_ms: u64,
        /// The cause behind `end`, where there is one to tell.
        error: Option<Box<str>>,
        /// The log of the process says so.
        is_logged: bool,
        /// What the group's access log says, where it has one.
        access: Option<Box<AccessFacts>>,
    },
}

impl SessionEvent {
    /// The level and the message of each step.
    pub(super) const MESSAGES: &[(Level, &str)] = &[
        (Level::INFO, "client connected"),
        (Level::DEBUG, HEADER_LEFT),
        (Level::DEBUG, HELLO_LEFT),
        (Level::INFO, "server connected"),
        (Level::INFO, "session closed"),
    ];

    /// Which step it is.
    pub fn step(&self) -> Step {
        match self {
            Self::ClientConnected { .. } | Self::ServerConnected { .. } => Step::Connect,
            Self::ClientLeft { .. } => Step::Close,
            Self::SessionClosed { end, .. } => Step::of_end(*end),
        }
    }

    /// True when the log of the process is to say so, if it takes such steps.
    pub fn is_logged(&self) -> bool {
        match self {
            Self::ClientConnected { is_logged, .. }
            | Self::ServerConnected { is_logged, .. }
            | Self::SessionClosed { is_logged, .. } => *is_logged,
            Self::ClientLeft { .. } => true,
        }
    }

    /// The access log that says so, too.
    pub fn access_target(&self) -> Option<&Arc<AccessTarget>> {
        match self {
            Self::ClientConnected { access, .. } => access.as_ref(),
            Self::SessionClosed { access, .. } => access.as_ref().map(|facts| &facts.target),
            Self::ServerConnected { .. } | Self::ClientLeft { .. } => None,
        }
    }

    /// How much it matters. A proxy before us that checks once a second whether we are there would be most of the log.
    pub fn level(&self) -> Level {
        let is_check = |client_facts: &Option<Arc<ClientFacts>>| {
            client_facts.as_ref().is_some_and(|client_facts| client_facts.is_local)
        };
        let is_routine = match self {
            Self::ClientConnected { client_facts, .. } => is_check(client_facts),
            Self::ClientLeft { .. } => true,
            Self::ServerConnected { is_check, .. } => *is_check,
            Self::SessionClosed { client_facts, bytes_up, .. } => is_check(client_facts) && *bytes_up == 0,
        };
        match self.step() {
            _ if is_routine => Level::DEBUG,
            Step::Refuse => Level::WARN,
            Step::Connect | Step::Close => Level::INFO,
        }
    }

    /// Shows every field that is known, in the order of a log line, and says what has happened.
    pub fn show(&self, to: &mut Visitor<'_>) -> &'static str {
        match self {
            Self::ClientConnected { id, group, client, client_facts, .. } => {
                to.number("session.id", *id).group(group).addr("client.addr", *client);
                if let Some(client_facts) = client_facts {
                    client_facts.show(to);
                }
                "client connected"
            }
            Self::ClientLeft { id, group, client, end, was_peeked_at, elapsed_ms } => {
                to.number("session.id", *id).group(group).addr("client.addr", *client);
                to.text("end", end).number("elapsed_ms", *elapsed_ms);
                if *was_peeked_at { HELLO_LEFT } else { HEADER_LEFT }
            }
            Self::ServerConnected { id, group, client, server, attempt, connect_us, .. } => {
                to.number("session.id", *id).group(group).addr("client.addr", *client).text("server.addr", server);
                to.number("attempt", *attempt).fraction("connect_ms", as_ms(*connect_us));
                "server connected"
            }
            Self::SessionClosed {
                id,
                group,
                policy,
                client,
                client_facts,
                tls,
                server,
                attempts,
                end,
                limit,
                bytes_up,
                bytes_down,
                connect_us,
                elapsed_ms,
                error,
                is_logged: _,
                access: _,
            } => {
                to.number("session.id", *id).group(group).text("policy", policy).addr("client.addr", *client);
                if let Some(client_facts) = client_facts {
                    client_facts.show(to);
                }
                if let Some(tls) = tls {
                    tls.show(to);
                }
                if let Some(server) = server {
                    to.text("server.addr", server);
                }
                to.number("attempts", *attempts).text("end", end.as_str());
                if let Some(limit) = limit {
                    to.text("limit", limit.as_str());
                }
                to.number("bytes.up", *bytes_up).number("bytes.down", *bytes_down);
                if let Some(connect_us) = connect_us {
                    to.fraction("connect_ms", as_ms(connect_us.get().into()));
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
