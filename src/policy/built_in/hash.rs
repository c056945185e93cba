//! The hash of a client, which must come out the same in every process, on every machine and in every version.
//!
//! A change here moves clients to other servers. The golden values in the tests hold it still.

use std::net::{IpAddr, SocketAddr};

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The seed of [`client_hash`]: the bytes `goproxy1`, read as a big-endian number.
pub(super) const CLIENT_SEED: u64 = u64::from_be_bytes(*b"goproxy1");

/// The hash of a client's IP: XXH3-64 with [`CLIENT_SEED`] of its 4 bytes (IPv4) or 16 bytes (IPv6) in
/// network order.
///
/// An IPv4-mapped IPv6 address (`::ffff:a.b.c.d`) counts as the IPv4 address, so that a client hashes
/// alike on a dual-stack listener and on an IPv4 one. The port, an IPv6 scope and a flow label are left
/// out: they differ between two connections of the same client.
pub(super) fn client_hash(client: SocketAddr) -> u64 {
    match client.ip().to_canonical() {
        IpAddr::V4(ip) => xxh3_64_with_seed(&ip.octets(), CLIENT_SEED),
        IpAddr::V6(ip) => xxh3_64_with_seed(&ip.octets(), CLIENT_SEED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expected values come from another implementation, the Python package `xxhash`.
    #[test]
    fn a_client_hashes_to_the_same_number_in_every_version() {
        for (client, expected) in [
            ("10.0.0.7:1", 0x5217_567a_08e8_cde3),
            ("[::ffff:10.0.0.7]:65535", 0x5217_567a_08e8_cde3),
            ("0.0.0.0:1", 0xca55_60d6_9023_4296),
            ("[2001:db8::7]:1", 0x4447_083f_b565_2da4),
            ("[::1]:1", 0xd15a_6d8d_40e4_5eb7),
        ] {
            assert_eq!(client_hash(client.parse().unwrap()), expected, "{client}");
        }
    }
}
