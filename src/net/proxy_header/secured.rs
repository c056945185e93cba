//! What a header of version 2 tells of the TLS that the client has spoken to us.

use super::write::Written;
use super::{ALPN, AUTHORITY, SSL, SSL_CN, SSL_VERSION, V2_FIXED};

/// The client spoke TLS; it has shown a certificate on this connection; on this one or on the one that it comes back from.
const CLIENT_SSL: u8 = 0x01;
const CLIENT_CERT_CONN: u8 = 0x02;
const CLIENT_CERT_SESS: u8 = 0x04;

/// The longest text that is told, in bytes: so long may be the names of hosts and of protocols.
const TEXT_LEN_MAX: usize = 255;

/// What a client has shown of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Certificate {
    /// Its common name.
    pub(crate) common_name: Option<Box<str>>,
    /// It was shown on an earlier connection, which the client has come back from with a ticket.
    pub(crate) is_of_ticket: bool,
}

/// A client that has spoken TLS to us.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Secured {
    /// As OpenSSL calls it: `TLSv1.3`.
    pub(crate) version: &'static str,
    /// The host name that it has asked for.
    pub(crate) asked_for: Option<Box<str>>,
    /// The protocol that was agreed on.
    pub(crate) alpn: Option<Box<[u8]>>,
    /// What it has shown of itself. Without being valid it would not be here.
    pub(crate) certificate: Option<Certificate>,
}

impl Secured {
    /// The same header of version 2 with what is told of the client's TLS. One of version 1 has no room for that.
    pub(crate) fn told_in(&self, header: &Written) -> Box<[u8]> {
        let mut bytes = header.to_vec();
        if !header.is_v2() {
            return bytes.into();
        }
        if let Some(alpn) = &self.alpn {
            push(&mut bytes, ALPN, alpn);
        }
        if let Some(name) = &self.asked_for {
            push(&mut bytes, AUTHORITY, name.as_bytes());
        }
        let certificate = self.certificate.as_ref();
        let shown = match certificate.map(|certificate| certificate.is_of_ticket) {
            None => 0,
            Some(true) => CLIENT_CERT_SESS,
            Some(false) => CLIENT_CERT_CONN | CLIENT_CERT_SESS,
        };
        // 0 says that a certificate was shown and is valid.
        let verified = u32::from(certificate.is_none());
        let mut ssl = vec![CLIENT_SSL | shown];
        ssl.extend(verified.to_be_bytes());
        push(&mut ssl, SSL_VERSION, self.version.as_bytes());
        if let Some(name) = certificate.and_then(|certificate| certificate.common_name.as_ref()) {
            push(&mut ssl, SSL_CN, name.as_bytes());
        }
        push(&mut bytes, SSL, &ssl);
        let length = u16::try_from(bytes.len() - V2_FIXED).expect("each of a few texts has a bound");
        bytes[V2_FIXED - 2..V2_FIXED].copy_from_slice(&length.to_be_bytes());
        bytes.into()
    }
}

/// A type, a length and a value. A text that is too long is left out, as a part of it would be another name.
fn push(bytes: &mut Vec<u8>, kind: u8, value: &[u8]) {
    if value.len() <= TEXT_LEN_MAX || kind == SSL {
        bytes.push(kind);
        bytes.extend((value.len() as u16).to_be_bytes());
        bytes.extend(value);
    }
}
