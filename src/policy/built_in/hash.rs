//! The hash of a client and the numbers drawn from one seed: everything that must come out the same in
//! every process, on every machine and in every version.
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

/// The endless numbers of splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number
/// generators", 2014) from a seed: one random number of a request, or one hash, becomes as many as a
/// policy needs, and the same ones when the request is replayed.
#[derive(Clone, Debug)]
pub(super) struct Draws {
    state: u64,
}

impl Draws {
    /// The numbers that follow from `seed`.
    pub(super) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next number.
    pub(super) fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

impl Iterator for Draws {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        Some(self.draw())
    }
}

/// Maps a random number to `0..bound` by its upper bits, and says how far it lies within its share: a
/// second random number, nearly independent of the first. `bound` 0 gives 0.
///
/// Without a division and without redraws; the bias is below `bound / 2^64`.
pub(super) fn below(random: u64, bound: u64) -> (u64, u64) {
    let wide = u128::from(random) * u128::from(bound);
    ((wide >> 64) as u64, wide as u64)
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

    #[test]
    fn draws_are_those_of_splitmix64() {
        let expected = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!(Draws::new(1_234_567).take(3).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn numbers_below_a_bound_reach_its_ends_and_never_pass_it() {
        assert_eq!(below(0, 10), (0, 0));
        assert_eq!(below(u64::MAX, 10).0, 9);
        assert_eq!(below(u64::MAX, 0).0, 0);
        assert_eq!(below(u64::MAX, u64::MAX).0, u64::MAX - 1);
    }
}
