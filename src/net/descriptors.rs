//! How the descriptors that the process may have are shared out.

/// Most connections of the admin port at a time. Half of them are kept between requests: one for every server of a full
/// group.
const ADMIN_CONNECTIONS_MAX: u64 = 8_192;

/// So many it has in any case, unless that is more than a quarter of all.
const ADMIN_CONNECTIONS_MIN: u64 = 256;

/// Its part of many descriptors, the rest of which sessions may use. It need not have one for each server: those for
/// which no connection is kept connect for each heartbeat.
const ADMIN_PART: u64 = 15;

/// How many connections the admin port keeps open at a time in a process that may have so many descriptors.
pub(crate) fn admin_connections_max(descriptors: u64) -> u64 {
    let part = (descriptors / ADMIN_PART).max(ADMIN_CONNECTIONS_MIN.min(descriptors / 4));
    part.clamp(8, ADMIN_CONNECTIONS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_admin_port_gets_a_part_that_sessions_can_spare_and_no_more_than_it_can_use() {
        let of = admin_connections_max;
        assert_eq!((of(600), of(1_024), of(20_000), of(65_536)), (150, 256, 1_333, 4_369));
        assert_eq!((of(1 << 20), of(u64::MAX), of(0)), (8_192, 8_192, 8));
    }
}
