//! The `host:port` of a server, as written and as compared.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

/// Longest accepted `host:port`, in bytes. The IP of one that has it (`host:port@ip`) does not count.
pub const ADDR_LEN_MAX: usize = 255;

/// Where a server listens: `ip:port`, `[ipv6]:port` or `name:port`; `name:port@ip` for one address of a name.
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
    /// What follows the `@` is no IP, or what is before it is no name.
    #[error("\"{0}\" is not one address of a name; expected name:port@ip")]
    At(String),
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

    /// The socket address when the IP is known from the text; `None` for a name.
    pub fn literal(&self) -> Option<SocketAddr> {
        self.literal
    }

    /// The port.
    pub fn port(&self) -> u16 {
        let (_, port) = self.host_port().rsplit_once(':').expect("a checked address has a port");
        port.parse().expect("a checked address has a numeric port")
    }

    /// The host without brackets; of one address of a name, the name.
    pub fn host(&self) -> &str {
        let (host, _) = self.host_port().rsplit_once(':').expect("a checked address has a port");
        host.trim_start_matches('[').trim_end_matches(']')
    }

    /// The text without the IP behind an `@`.
    pub fn host_port(&self) -> &str {
        self.text.split_once('@').map_or(&self.text, |(name, _)| name)
    }

    /// True when the host is a name.
    pub fn has_name(&self) -> bool {
        self.literal.is_none() || self.is_one_of_name()
    }

    /// True for `name:port@ip`.
    pub fn is_one_of_name(&self) -> bool {
        self.text.contains('@')
    }

    /// One address of this name: `name:port@ip`.
    pub fn at(&self, ip: IpAddr) -> Self {
        Self { text: format!("{}@{ip}", self.host_port()).into(), literal: Some(SocketAddr::new(ip, self.port())) }
    }
}

impl FromStr for ServerAddr {
    type Err = AddrError;

    fn from_str(text: &str) -> Result<Self, AddrError> {
        if let Some((name, ip)) = text.split_once('@') {
            let at = || AddrError::At(text.to_owned());
            // The longest IP has 45 bytes.
            let ip = ip.parse::<IpAddr>().map_err(|_| at())?;
            let name = name.parse::<Self>()?;
            return if name.literal.is_none() { Ok(name.at(ip)) } else { Err(at()) };
        }
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
        assert!(!addr.has_name() && addr.host_port() == "[::1]:80");
    }

    #[test]
    fn one_address_of_a_name_has_the_name_and_the_ip() {
        for (text, canonical, literal) in [
            ("DB:5432@10.0.0.7", "db:5432@10.0.0.7", "10.0.0.7:5432"),
            ("db.internal:1@2001:DB8:0::1", "db.internal:1@2001:db8::1", "[2001:db8::1]:1"),
        ] {
            let addr: ServerAddr = text.parse().unwrap();
            assert_eq!((addr.as_str(), addr.literal()), (canonical, Some(literal.parse().unwrap())));
            assert!(addr.has_name() && addr.is_one_of_name());
            let name: ServerAddr = addr.host_port().parse().unwrap();
            assert_eq!((name.host(), name.port()), (addr.host(), addr.port()));
            assert_eq!(name.at(literal.parse::<SocketAddr>().unwrap().ip()), addr);
        }
        for text in ["db:1@", "db:1@db", "db:1@10.0.0.1@10.0.0.2", "10.0.0.1:1@10.0.0.1", "db:1@10.0.0.1:1"] {
            assert!(matches!(parse(text), Err(AddrError::At(_))), "{text}");
        }
        assert!(matches!(parse("db@10.0.0.1"), Err(AddrError::Form(_))));
        assert!(matches!(parse(&format!("{}:1@10.0.0.1", "a".repeat(300))), Err(AddrError::TooLong(302))));
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
        fn an_accepted_address_reads_back_as_itself(text in "\\PC{0,40}|[a-z0-9.:\\[\\]@-]{1,30}|[a-z.]{1,9}:[1-9]@([0-9]{1,3}[.]){3}[0-9]") {
            if let Ok(addr) = text.parse::<ServerAddr>() {
                let again: ServerAddr = addr.as_str().parse().unwrap();
                proptest::prop_assert_eq!(&again, &addr);
                proptest::prop_assert!(addr.port() > 0);
            }
        }
    }
}
