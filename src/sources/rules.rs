//! Who may register: an address that would loop, leak or mean nobody is refused.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use crate::config::{AdminListen, AdminSettings};
use crate::group::Groups;

/// Checks one address that a server wants to register, or that its name resolves to.
///
/// # Errors
///
/// Which rule refuses it, as the end of a sentence.
pub(super) fn check(addr: SocketAddr, admin: &AdminSettings, groups: &Groups) -> Result<(), String> {
    let ip = addr.ip().to_canonical();
    if let Some(what) = never_a_server(ip) {
        return Err(format!("{ip} is {what}"));
    }
    if let Some(allowed) = &admin.register_allow
        && !allowed.iter().any(|net| net.contains(&ip))
    {
        return Err(format!("{ip} is in none of the networks of admin.register_allow"));
    }
    let listeners = groups.values().flat_map(|group| group.snapshot().settings.listen.iter().collect::<Vec<_>>());
    let admin_listen = match admin.listen {
        AdminListen::Tcp(listen) => Some(listen),
        AdminListen::Unix(_) => None,
    };
    for (own, what) in listeners
        .map(|listen| (listen, "a listener of this proxy"))
        .chain(admin_listen.map(|listen| (listen, "its admin port")))
        .chain(admin.pprof_listen.map(|listen| (listen, "its pprof port")))
        .chain(admin.metrics_listen.map(|listen| (listen, "its metrics port")))
    {
        if own.port() == addr.port() && is_reached_by(own.ip(), ip) {
            return Err(format!("{addr} is {what}"));
        }
    }
    Ok(())
}

/// Addresses that are nobody's server, with the word for them.
fn never_a_server(ip: IpAddr) -> Option<&'static str> {
    match ip {
        _ if ip.is_unspecified() => Some("no address of a server"),
        _ if ip.is_multicast() => Some("a multicast address"),
        IpAddr::V4(v4) if v4.is_broadcast() => Some("a broadcast address"),
        // 169.254.169.254 and its like hand out the credentials of cloud machines.
        IpAddr::V4(v4) if v4.is_link_local() => Some("a link-local address"),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Some("a link-local address"),
        // fd00:ec2::254 is the same on IPv6.
        IpAddr::V6(v6) if v6.segments() == [0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x254] => Some("a metadata address"),
        _ => None,
    }
}

/// True when connecting to `ip` reaches a listener bound to `own`.
fn is_reached_by(own: IpAddr, ip: IpAddr) -> bool {
    own.to_canonical() == ip || (own.is_unspecified() && is_of_this_machine(ip))
}

/// True for an address of this machine: only those can be bound.
fn is_of_this_machine(ip: IpAddr) -> bool {
    ip.is_loopback() || UdpSocket::bind((ip, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admin(allow: Option<&[&str]>) -> AdminSettings {
        AdminSettings {
            register_allow: allow.map(|nets| nets.iter().map(|net| net.parse().unwrap()).collect()),
            pprof_listen: Some("0.0.0.0:8082".parse().unwrap()),
            metrics_listen: Some("127.0.0.1:8083".parse().unwrap()),
            ..AdminSettings::for_tests()
        }
    }

    fn refusal(addr: &str, allow: Option<&[&str]>) -> Option<String> {
        check(addr.parse().unwrap(), &admin(allow), &Groups::new()).err()
    }

    #[test]
    fn addresses_that_are_no_server_are_refused() {
        for addr in [
            "0.0.0.0:1",
            "[::]:1",
            "224.0.0.1:1",
            "[ff02::1]:1",
            "255.255.255.255:1",
            "169.254.169.254:80",
            "[fe80::1]:1",
            "[::ffff:169.254.169.254]:80",
            "[fd00:ec2::254]:80",
        ] {
            assert!(refusal(addr, None).is_some(), "{addr}");
        }
        for addr in ["10.0.0.1:1", "127.0.0.1:1", "[::1]:1", "8.8.8.8:53", "[fd00::1]:1"] {
            assert_eq!(refusal(addr, None), None, "{addr}");
        }
    }

    #[test]
    fn our_own_ports_are_refused() {
        assert_eq!(refusal("127.0.0.1:8080", None).unwrap(), "127.0.0.1:8080 is its admin port");
        assert_eq!(refusal("127.9.9.9:8082", None).unwrap(), "127.9.9.9:8082 is its pprof port");
        assert_eq!(refusal("127.0.0.2:8080", None), None, "the admin port is on 127.0.0.1 only");
    }

    #[test]
    fn only_the_allowed_networks_may_register_when_they_are_named() {
        let allow: &[&str] = &["10.0.0.0/8", "fd00::/8"];
        assert_eq!(refusal("10.1.2.3:1", Some(allow)), None);
        assert_eq!(refusal("[fd00::7]:1", Some(allow)), None);
        assert!(refusal("192.168.0.1:1", Some(allow)).unwrap().contains("register_allow"));
    }
}
