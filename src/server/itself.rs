//! Whether an address is this machine's own, so that a connect to it may reach the socket it comes from.
//!
//! Without a listener there, a connect to an address of this machine whose port the kernel also gives to outgoing
//! connections may get just that port: TCP's simultaneous open then connects the socket to itself.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::sync::OnceLock;

/// The kernel's own default.
const EPHEMERAL_PORTS: RangeInclusive<u16> = 32_768..=60_999;

/// True when a connect to one of these addresses may connect a socket to itself.
pub(super) fn may_be_met(addresses: &[SocketAddr]) -> bool {
    addresses.iter().any(|addr| ephemeral_ports().contains(&addr.port()) && comes_from(*addr))
}

/// True when one of these addresses is this machine's own.
pub(super) fn is_here(addresses: &[SocketAddr]) -> bool {
    addresses.iter().any(|addr| addr.ip().is_loopback() || comes_from(*addr))
}

/// True when connections to this address come from the same IP, as the kernel chooses it: on this machine most do, but
/// all of loopback's come from 127.0.0.1. Nothing is sent.
fn comes_from(addr: SocketAddr) -> bool {
    let any: IpAddr = if addr.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let own = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect(addr)?;
        socket.local_addr()
    });
    // Without a route there is no connect either.
    own.is_ok_and(|own| own.ip() == addr.ip() || addr.ip().is_unspecified())
}

/// The port range of outgoing connections, read when the first server became known.
fn ephemeral_ports() -> &'static RangeInclusive<u16> {
    static PORTS: OnceLock<RangeInclusive<u16>> = OnceLock::new();
    PORTS.get_or_init(|| {
        let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
        parse_range(&text).unwrap_or(EPHEMERAL_PORTS)
    })
}

fn parse_range(text: &str) -> Option<RangeInclusive<u16>> {
    let mut ports = text.split_whitespace().map(str::parse);
    Some(ports.next()?.ok()?..=ports.next()?.ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ephemeral_ports_of_this_machine_may_be_met() {
        let may_be_met = |ip: [u8; 4], port| may_be_met(&[SocketAddr::new(ip.into(), port)]);
        let inside = *ephemeral_ports().end();
        assert!(may_be_met([127, 0, 0, 1], inside));
        assert!(may_be_met([0, 0, 0, 0], inside));
        assert!(!may_be_met([127, 1, 2, 3], inside));
        // Of the network for documentation.
        assert!(!may_be_met([192, 0, 2, 1], inside));
        assert!(!may_be_met([127, 0, 0, 1], 1));
    }

    #[test]
    fn loopback_is_here_and_the_network_for_documentation_is_not() {
        let is_here = |ip: [u8; 4]| is_here(&[SocketAddr::new(ip.into(), 80)]);
        assert!(is_here([127, 0, 0, 1]) && is_here([127, 1, 2, 3]) && is_here([0, 0, 0, 0]));
        assert!(!is_here([192, 0, 2, 1]));
    }

    #[test]
    fn the_range_of_ports_is_read_as_the_kernel_writes_it() {
        assert_eq!(parse_range("32768\t60999\n"), Some(32_768..=60_999));
        assert_eq!(parse_range(""), None);
        assert_eq!(parse_range("1 x"), None);
    }
}
