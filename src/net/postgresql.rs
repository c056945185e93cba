//! What a client of PostgreSQL asks before it says anything else: to encrypt the connection.
//!
//! The client sends a request of eight bytes and waits for an answer of one byte, in the clear. Nothing else may have come
//! before that answer: bytes that somebody has put in between would later count as the client's (CVE-2021-23222).

/// Asks for TLS.
pub(crate) const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
/// Asks for encryption by Kerberos, which libpq tries first where it has a ticket.
const GSSENC_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30];

/// The answer to a request that is granted.
pub(crate) const GRANTED: u8 = b'S';
/// The answer to a request that is not.
pub(crate) const REFUSED: u8 = b'N';

/// What a client of PostgreSQL begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// Perhaps with a request; there must be more to come.
    Incomplete,
    /// It asks for TLS.
    Tls,
    /// It asks for encryption by Kerberos.
    Gss,
    /// With a request, and with bytes that came before the answer.
    TooMuch,
    /// With something else.
    None,
}

/// Reads the first bytes of a client.
pub(crate) fn read(bytes: &[u8]) -> Request {
    let is_request = |request: [u8; 8]| bytes.starts_with(&request);
    match () {
        () if bytes.len() < 8 && [SSL_REQUEST, GSSENC_REQUEST].iter().any(|all| all.starts_with(bytes)) => {
            Request::Incomplete
        }
        () if !is_request(SSL_REQUEST) && !is_request(GSSENC_REQUEST) => Request::None,
        () if bytes.len() > 8 => Request::TooMuch,
        () if is_request(SSL_REQUEST) => Request::Tls,
        () => Request::Gss,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_from_all_else() {
        for (request, expected) in [(SSL_REQUEST, Request::Tls), (GSSENC_REQUEST, Request::Gss)] {
            assert!((0..8).all(|length| read(&request[..length]) == Request::Incomplete));
            assert_eq!(read(&request), expected);
            assert_eq!(read(&[&request[..], b"x"].concat()), Request::TooMuch);
        }
        // A start-up packet, a request to cancel, TLS without a request.
        for other in [&[0, 0, 0, 9][..], &[0, 0, 0, 8, 0, 3], &[0, 0, 0, 16, 4, 0xd2, 0x16, 0x2e], &[0x16], b"G"] {
            assert_eq!(read(other), Request::None, "{other:?}");
        }
    }
}
