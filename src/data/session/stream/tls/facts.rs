//! What is told of a TLS connection.

use std::sync::atomic::Ordering::Relaxed;

use rustls::{Connection, HandshakeKind, ProtocolVersion};

use super::TlsSocket;
use crate::counters::{TlsCounters, TlsResult};
use crate::events::TlsFacts;
use crate::net::proxy_header::{Certificate, Secured};
use crate::tls;

/// The longest host name and the longest protocol that are told.
const NAME_LEN_MAX: usize = 255;

/// The longest name of a client that is told, in bytes.
const CLIENT_LEN_MAX: usize = 128;

impl TlsSocket {
    /// Counts its handshake, which is over and took so long.
    pub(in crate::data::session) fn count(&self, counters: &TlsCounters, micros: u64) {
        counters.ended(match self.connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => TlsResult::Tls12,
            _ => TlsResult::Tls13,
        });
        if self.connection.handshake_kind() == Some(HandshakeKind::Resumed) {
            counters.resumed.fetch_add(1, Relaxed);
        }
        counters.time.observe(micros);
    }

    /// What servers are told of a client whose handshake is over.
    pub(in crate::data::session) fn secured(&self) -> Secured {
        let connection = &self.connection;
        let certificate = connection.peer_certificates().and_then(|chain| chain.first());
        let is_of_ticket = connection.handshake_kind() == Some(HandshakeKind::Resumed);
        Secured {
            version: match connection.protocol_version() {
                Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
                _ => "TLSv1.3",
            },
            asked_for: self.asked_for(),
            alpn: connection.alpn_protocol().map(Box::from),
            certificate: certificate.map(|certificate| {
                let common_name = tls::common_name(certificate).map(String::into_boxed_str);
                Certificate { common_name, is_of_ticket }
            }),
        }
    }

    /// The host name that the client asks for.
    fn asked_for(&self) -> Option<Box<str>> {
        match &self.connection {
            Connection::Server(server) => server.server_name().map(Box::from),
            Connection::Client(_) => None,
        }
    }

    /// What is to be told of it.
    pub(in crate::data::session) fn facts(&self) -> TlsFacts {
        let connection = &self.connection;
        let client = match connection {
            Connection::Server(server) => server.peer_certificates().and_then(|chain| tls::subject(chain.first()?)),
            Connection::Client(_) => None,
        };
        let suite = connection.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str());
        TlsFacts {
            version: connection.protocol_version().map(|version| match version {
                ProtocolVersion::TLSv1_2 => "1.2",
                _ => "1.3",
            }),
            // The registry of suites has no number in the name.
            suite: suite.map(|suite| suite.replacen("TLS13_", "TLS_", 1).into()),
            key_exchange: connection.negotiated_key_exchange_group().map(|group| format!("{:?}", group.name()).into()),
            sni: self.asked_for().map(|name| shown(name.as_bytes())),
            alpn: connection.alpn_protocol().map(shown),
            client: client.map(|client| shown(&client.as_bytes()[..client.len().min(CLIENT_LEN_MAX)])),
            is_resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
            is_truncated: self.is_truncated,
            is_server_truncated: false,
        }
    }
}

/// What a peer says, in printable characters.
fn shown(said: &[u8]) -> Box<str> {
    let said = &said[..said.len().min(NAME_LEN_MAX)];
    said.escape_ascii().to_string().into()
}
