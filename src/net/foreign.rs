//! Finds listeners of other processes, from the kernel's list of sockets.
//!
//! For the rare case in which our own listener keeps an exclusive bind from telling.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::overlap::overlap;

/// `TCP_LISTEN` as the kernel writes it.
const LISTENING: &str = "0A";

/// A listening socket of this network namespace.
#[derive(Debug, PartialEq, Eq)]
struct Listening {
    addr: SocketAddr,
    inode: u64,
}

/// True when another process has a listener to which clients of `addr` might come.
///
/// # Errors
///
/// `/proc` cannot be read.
pub(super) fn listens_at(addr: SocketAddr) -> io::Result<bool> {
    let ours = own_sockets()?;
    let mut all = fs::read_to_string("/proc/net/tcp")?;
    match fs::read_to_string("/proc/net/tcp6") {
        Ok(more) => all += &more,
        // A kernel without IPv6.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok(all.lines().filter_map(listening).any(|one| overlap(one.addr, addr) && !ours.contains(&one.inode)))
}

/// The inodes of our own sockets.
fn own_sockets() -> io::Result<HashSet<u64>> {
    let links = fs::read_dir("/proc/self/fd")?.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let inode = |link: std::path::PathBuf| {
        link.to_str().and_then(|name| name.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok())
    };
    Ok(links.filter_map(inode).collect())
}

/// What a line says of a listening socket: `sl local_address rem_address st … inode …`.
fn listening(line: &str) -> Option<Listening> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let &[_, local, _, LISTENING, _, _, _, _, _, inode, ..] = &fields[..] else { return None };
    let (ip, port) = local.split_once(':')?;
    let words: Vec<u32> = (0..ip.len() / 8)
        .map(|word| u32::from_str_radix(ip.get(8 * word..8 * word + 8)?, 16).ok())
        .collect::<Option<_>>()?;
    // Each word as this machine has it in memory, where it is in network order.
    let bytes: Vec<u8> = words.into_iter().flat_map(u32::to_ne_bytes).collect();
    let ip: IpAddr = match bytes.len() {
        4 => Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into(),
        _ => Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into(),
    };
    Some(Listening { addr: SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?), inode: inode.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn listeners_are_read_from_the_kernels_list() {
        let v4 =
            "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0 100";
        let addr = "127.0.0.1:8080".parse().unwrap();
        assert_eq!(listening(v4), Some(Listening { addr, inode: 4711 }));
        let v6 = "   1: 00000000000000000000000001000000:0050 00000000000000000000000000000000:0000 0A \
                  00000000:00000000 00:00000000 00000000     0        0 99 1 0 100";
        assert_eq!(listening(v6), Some(Listening { addr: "[::1]:80".parse().unwrap(), inode: 99 }));
        assert_eq!(listening(&v4.replace(" 0A ", " 01 ")), None, "a connection does not listen");
        assert_eq!(
            listening("  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid"),
            None
        );
    }

    #[test]
    fn our_own_listeners_are_not_foreign() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(!listens_at(listener.local_addr().unwrap()).unwrap());
    }
}
