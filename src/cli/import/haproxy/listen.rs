//! Where a frontend listens: the addresses of a line `bind`.

use std::net::IpAddr;

/// The most ports that one range may stand for.
const PORTS_MAX: u16 = 64;

/// The addresses of a word such as `:5432`, `*:5432`, `10.0.0.1:80,10.0.0.2:80` or `[::]:5000-5003`.
///
/// # Errors
///
/// Why one of them is none.
pub(super) fn addresses(word: &str) -> Result<Vec<(String, u16)>, String> {
    let mut found = Vec::new();
    for part in word.split(',') {
        let part =
            ["ipv4@", "ipv6@", "tcp@", "tcp4@", "tcp6@"].iter().fold(part, |part, kind| part.trim_start_matches(kind));
        if part.contains('/') || part.contains('@') || part.contains('$') {
            return Err("only an IP and a port can be listened on".to_owned());
        }
        let (host, ports) = part.rsplit_once(':').ok_or("it has no port")?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let host = match host {
            "" | "*" => "0.0.0.0".to_owned(),
            host => host.parse::<IpAddr>().map_err(|_| "a group listens on an IP, not on a name")?.to_string(),
        };
        let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
        let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0).ok_or("it has no port");
        let (first, last) = (port(first)?, port(last)?);
        if last < first || last - first >= PORTS_MAX {
            return Err(format!("a group listens on at most {PORTS_MAX} ports"));
        }
        let shown = if host.contains(':') { format!("[{host}]") } else { host };
        found.extend((first..=last).map(|port| (format!("{shown}:{port}"), port)));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_an_ip_with_ports() {
        for (word, expected) in [
            (":5432", &["0.0.0.0:5432"][..]),
            ("*:5432", &["0.0.0.0:5432"]),
            ("10.0.0.1:80,10.0.0.2:81", &["10.0.0.1:80", "10.0.0.2:81"]),
            (":::80", &["[::]:80"]),
            ("ipv6@[::1]:80", &["[::1]:80"]),
            ("127.0.0.1:5000-5002", &["127.0.0.1:5000", "127.0.0.1:5001", "127.0.0.1:5002"]),
        ] {
            let found: Vec<_> = addresses(word).unwrap().into_iter().map(|(address, _)| address).collect();
            assert_eq!(found, expected, "{word}");
        }
        for word in ["/run/x.sock", "fd@3", "host:80", "10.0.0.1", "1.2.3.4:0", ":80-20", ":1-65535", "${IP}:80"] {
            assert!(addresses(word).is_err(), "{word}");
        }
    }
}
