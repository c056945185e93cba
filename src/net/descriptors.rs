//! How the descriptors that the process may have are shared out.

/// Most connections of the admin port at a time: every server of a full group with a kept connection, and as many
/// again.
const ADMIN_CONNECTIONS_MAX: u64 = 8_192;

/// How many connections the admin port keeps open at a time in a process that may have so many descriptors.
pub(crate) fn admin_connections_max(descriptors: u64) -> u64 {
    (descriptors / 4).clamp(8, ADMIN_CONNECTIONS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_admin_port_gets_a_quarter_and_no_more_than_it_can_use() {
        let of = admin_connections_max;
        assert_eq!((of(1_024), of(65_536), of(u64::MAX), of(0)), (256, 8_192, 8_192, 8));
    }
}
