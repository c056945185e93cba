//! The header of the PROXY protocol: a few bytes in front of a connection that say whom a proxy speaks for.
//!
//! Version 1 is a line of text, version 2 is binary; both are told apart by their first bytes. [`read()`] reads either
//! from what has come so far, without allocating. [`write()`] makes either. Neither does any I/O, and whom to believe is
//! left to the caller: whoever may send a header may claim any address.
//!
//! A header ends only by its own length or end of line. What comes behind it is never looked at.

mod crc32c;
mod read;
mod secured;
mod tlv;
mod write;
#[cfg(test)]
mod tests;

use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};

#[cfg(fuzzing)]
pub(crate) use read::HEADER_MAX;
pub(crate) use read::{Flaw, Header, Read, read, shown};
#[cfg(any(feature = "tls", test))]
pub(crate) use secured::Certificate;
pub(crate) use secured::Secured;
pub(crate) use write::{Written, write};

/// What every header of version 2 begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// What every header of version 1 begins with.
const V1_BEGIN: &[u8] = b"PROXY ";
/// Longest header of version 1, end of line included.
const V1_MAX: usize = 107;
/// Bytes of a header of version 2 before its addresses.
const V2_FIXED: usize = 16;

// Commands, families, transports and types of TLVs of version 2.
const LOCAL: u8 = 0;
const PROXY: u8 = 1;
const UNSPEC: u8 = 0;
const INET: u8 = 1;
const INET6: u8 = 2;
const UNIX: u8 = 3;
const STREAM: u8 = 1;
const DGRAM: u8 = 2;
const ALPN: u8 = 0x01;
const AUTHORITY: u8 = 0x02;
const CRC32C: u8 = 0x03;
const UNIQUE_ID: u8 = 0x05;
const SSL: u8 = 0x20;
const SSL_VERSION: u8 = 0x21;
const SSL_CN: u8 = 0x22;

/// The two ends of a client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ends {
    /// Where the client is.
    pub(crate) source: SocketAddr,
    /// Where it connected to.
    pub(crate) destination: SocketAddr,
}

impl Ends {
    /// An address of IPv4 in its form for IPv6 becomes one of IPv4.
    fn canonical(source: SocketAddr, destination: SocketAddr) -> Self {
        let canonical = |addr: SocketAddr| SocketAddr::new(addr.ip().to_canonical(), addr.port());
        Self { source: canonical(source), destination: canonical(destination) }
    }

    /// As the addresses of one family, which is what a header has: of IPv4 where both are, else of IPv6.
    fn family(&self) -> Family {
        match (self.source, self.destination) {
            (SocketAddr::V4(source), SocketAddr::V4(destination)) => Family::V4(source, destination),
            (source, destination) => Family::V6(as_v6(source), as_v6(destination)),
        }
    }
}

/// Source and destination in one family.
enum Family {
    V4(SocketAddrV4, SocketAddrV4),
    V6(SocketAddrV6, SocketAddrV6),
}

fn as_v6(addr: SocketAddr) -> SocketAddrV6 {
    match addr {
        SocketAddr::V4(addr) => SocketAddrV6::new(addr.ip().to_ipv6_mapped(), addr.port(), 0, 0),
        SocketAddr::V6(addr) => addr,
    }
}
