//! Where an admin port is, as a user writes it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use crate::base::text::echo;
use crate::config::AdminListen;

/// The address of an admin port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminAddr {
    /// `host:port`.
    Tcp {
        /// A name or an IP address, without brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// A unix socket.
    Unix(PathBuf),
}

const EXPECTED: &str = "expected HOST:PORT, such as 127.0.0.1:8080, or unix:PATH";

impl FromStr for AdminAddr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = PathBuf::from(path);
            return if path.as_os_str().is_empty() { Err(EXPECTED.to_owned()) } else { Ok(Self::Unix(path)) };
        }
        if text.starts_with("https://") {
            return Err(format!("an admin port speaks no TLS; {EXPECTED}"));
        }
        // As it is copied from a browser.
        let text = text.strip_prefix("http://").unwrap_or(text);
        let text = text.strip_suffix('/').unwrap_or(text);
        let wrong = || format!("\"{}\" is not an address; {EXPECTED}", echo(text));
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)?;
        let bare = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').filter(|ip| ip.parse::<Ipv6Addr>().is_ok()),
            None => Some(host).filter(|host| !host.contains([':', '/', '@', ']', ' ']) && !host.is_empty()),
        };
        Ok(Self::Tcp { host: bare.ok_or_else(wrong)?.to_owned(), port })
    }
}

impl From<&AdminListen> for AdminAddr {
    /// How the port that is configured so is reached from the same machine.
    fn from(listen: &AdminListen) -> Self {
        match listen {
            AdminListen::Unix(path) => Self::Unix(path.clone()),
            AdminListen::Tcp(addr) => {
                let ip = match addr.ip() {
                    ip if !ip.is_unspecified() => ip,
                    IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                    IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
                };
                Self::from(SocketAddr::new(ip, addr.port()))
            }
        }
    }
}

impl From<SocketAddr> for AdminAddr {
    fn from(addr: SocketAddr) -> Self {
        Self::Tcp { host: addr.ip().to_string(), port: addr.port() }
    }
}

impl AdminAddr {
    /// What `Host` of a request says.
    pub(super) fn host_header(&self) -> String {
        match self {
            Self::Tcp { .. } => self.to_string(),
            Self::Unix(_) => "localhost".to_owned(),
        }
    }
}

impl fmt::Display for AdminAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_people_write_it() {
        for (text, shown) in [
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            ("http://localhost:8080/", "localhost:8080"),
            ("[::1]:8080", "[::1]:8080"),
            ("unix:/run/goproxy/admin.sock", "unix:/run/goproxy/admin.sock"),
            ("unix:admin.sock", "unix:admin.sock"),
        ] {
            assert_eq!(text.parse::<AdminAddr>().unwrap().to_string(), shown);
        }
        for text in ["", ":1", "8080", "a:0", "a:99999", "[::1:80", "[a]:80", "::1:80", "a/b:1", "unix:", "a b:1"] {
            let error = text.parse::<AdminAddr>().unwrap_err();
            assert!(error.contains("expected HOST:PORT"), "{text}: {error}");
        }
        assert!("https://a:1".parse::<AdminAddr>().unwrap_err().contains("no TLS"));
    }

    #[test]
    fn a_port_that_listens_everywhere_is_reached_over_loopback() {
        for (listen, addr) in
            [("0.0.0.0:8080", "127.0.0.1:8080"), ("[::]:8080", "[::1]:8080"), ("10.0.0.1:8080", "10.0.0.1:8080")]
        {
            let listen = AdminListen::Tcp(listen.parse().unwrap());
            assert_eq!(AdminAddr::from(&listen).to_string(), addr);
        }
    }
}
