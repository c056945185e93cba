//! The `host:port` of a server, as written and as compared.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

/// Longest accepted `host:port`, in bytes.
pub const ADDR_LEN_MAX: usize = 255;

/// Where a server listens: `ip:port`, `[ipv6]:port` or `name:port`.
///
/// Two addresses are the same server when their texts are: names are compared in lower case, IPs in
/// their canonical form, and `localhost:1` is not `127.0.0.1:1`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerAddr {
    text: Arc<str>,
    literal: Option<SocketAddr>,
}

/// Why a text is not a server address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddrError {
    /// No port, or nothing before it.
    #[error("\"{0}\" is not a server address; expected host:port, ip:port or [ipv6]:port")]
    Form(String),
    /// The port is no number of 1 to 65535.
    #[error("\"{0}\" has no usable port; expected 1 to 65535")]
    Port(String),
    /// The host is neither an IP nor a name that DNS allows.
    #[error("\"{0}\" has no usable host; expected an IP address or a name of letters, digits, '-', '_' and '.'")]
    Host(String),
    /// More than [`ADDR_LEN_MAX`] bytes.
    #[error("the server address has {0} bytes; expected at most {ADDR_LEN_MAX}")]
    TooLong(usize),
}

impl ServerAddr {
    /// The address as text: canonical, lower case, IPv6 in brackets.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The same text, shared: for log records that outlive the server.
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.text)
    }

    /// The socket address when the host is an IP; `None` for a name.
    pub fn literal(&self) -> Option<SocketAddr> {
        self.literal
    }

    /// The port.
    pub fn port(&self) -> u16 {
        let (_, port) = self.text.rsplit_once(':').expect("a checked address has a port");
        port.parse().expect("a checked address has a numeric port")
    }

    /// The host without brackets.
    pub fn host(&self) -> &str {
        let (host, _) = self.text.rsplit_once(':').expect("a checked address has a port");
        host.trim_start_matches('[').trim_end_matches(']')
    }
}

impl FromStr for ServerAddr {
    type Err = AddrError;

    fn from_str(text: &str) -> Result<Self, AddrError> {
        if text.len() > ADDR_LEN_MAX {
            return Err(AddrError::TooLong(text.len()));
        }
        let echo = || text.to_owned();
        let (host, port) = text.rsplit_once(':').ok_or_else(|| AddrError::Form(echo()))?;
        if port.is_empty() || port.len() > 5 || !port.bytes().all(|b| b.is_ascii_digit()) {
            return Err(AddrError::Port(echo()));
        }
        let port = port.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(|| AddrError::Port(echo()))?;
        let literal = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(inner) => Some(IpAddr::V6(inner.parse::<Ipv6Addr>().map_err(|_| AddrError::Host(echo()))?)),
            None if host.contains(':') => return Err(AddrError::Form(echo())),
            None => host.parse::<std::net::Ipv4Addr>().ok().map(IpAddr::V4),
        };
        match literal {
            Some(ip) => Ok(SocketAddr::new(ip, port).into()),
            None if is_name(host) => {
                Ok(Self { text: format!("{}:{port}", host.to_ascii_lowercase()).into(), literal: None })
            }
            None => Err(AddrError::Host(echo())),
        }
    }
}

impl From<SocketAddr> for ServerAddr {
    fn from(addr: SocketAddr) -> Self {
        Self { text: addr.to_string().into(), literal: Some(addr) }
    }
}

impl fmt::Display for ServerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// RFC 1123 host names, plus the underscore that real ones have. A last label of digits only would be
/// a malformed IPv4 address, never a name (RFC 3696, section 2).
fn is_name(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let label_is_fine = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last_is_numeric = host.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    !host.is_empty() && !last_is_numeric && host.split('.').all(label_is_fine)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<String, AddrError> {
        text.parse::<ServerAddr>().map(|addr| addr.to_string())
    }

    #[test]
    fn the_three_forms_are_read_and_made_canonical() {
        assert_eq!(parse("10.0.0.5:9000").unwrap(), "10.0.0.5:9000");
        assert_eq!(parse("DB2.Internal:9000").unwrap(), "db2.internal:9000");
        assert_eq!(parse("[0:0::1]:80").unwrap(), "[::1]:80");
        assert_eq!(parse("my_db-1:65535").unwrap(), "my_db-1:65535");
        let addr: ServerAddr = "[::1]:80".parse().unwrap();
        assert_eq!((addr.host(), addr.port()), ("::1", 80));
    }

    #[test]
    fn everything_else_is_refused_with_the_part_that_is_wrong() {
        for text in ["", "host", "::1:80", "[::1]"] {
            assert!(parse(text).is_err(), "{text}");
        }
        for text in ["a:0", "a:65536", "a:", "a:+1", "a:99999999999999999999", "a:1x"] {
            assert!(matches!(parse(text), Err(AddrError::Port(_))), "{text}");
        }
        for text in [":1", "256.1.1.1:1", "1.2.3:1", "a b:1", "-a:1", "a..b:1", "[::g]:1", "ä:1", "a/b:1"] {
            assert!(matches!(parse(text), Err(AddrError::Host(_))), "{text}");
        }
        assert!(matches!(parse(&format!("{}:1", "a".repeat(300))), Err(AddrError::TooLong(302))));
    }

    proptest::proptest! {
        /// What is printed is read back as the same address, and no input panics.
        #[test]
        fn an_accepted_address_reads_back_as_itself(text in "\\PC{0,40}|[a-z0-9.:\\[\\]-]{1,30}") {
            if let Ok(addr) = text.parse::<ServerAddr>() {
                let again: ServerAddr = addr.as_str().parse().unwrap();
                proptest::prop_assert_eq!(&again, &addr);
                proptest::prop_assert!(addr.port() > 0);
            }
        }
    }
}
