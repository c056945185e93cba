//! What a group is called, and where it listens.

use std::cmp::Ordering;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// Longest name of a group or a server, in bytes.
pub const NAME_LEN_MAX: usize = 64;

/// True for what a group or a server may be called: `[a-z0-9_-]{1,64}`, but not digits alone, which are a port.
pub fn is_name(text: &str) -> bool {
    let is_fit = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-');
    (1..=NAME_LEN_MAX).contains(&text.len()) && text.bytes().all(is_fit) && !text.bytes().all(|b| b.is_ascii_digit())
}

/// What a group is called: its name, or, without one, its port as text. Cheap to clone.
///
/// Ports come first, in the order of their numbers, then names.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct GroupId(Arc<str>);

impl GroupId {
    /// The id of a group of this name.
    pub fn named(name: &str) -> Self {
        Self(name.into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same text, shared: for log records that outlive the group.
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }

    /// The port, when the id is a number that a port can have.
    pub fn as_port(&self) -> Option<u16> {
        let is_plain = self.0.bytes().all(|b| b.is_ascii_digit()) && (self.0.len() == 1 || !self.0.starts_with('0'));
        if is_plain { self.0.parse().ok() } else { None }
    }
}

impl From<u16> for GroupId {
    fn from(port: u16) -> Self {
        Self(port.to_string().into())
    }
}

/// A number where it is a port, or else a text.
impl serde::Serialize for GroupId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.as_port() {
            Some(port) => serializer.serialize_u16(port),
            None => serializer.serialize_str(&self.0),
        }
    }
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Ord for GroupId {
    fn cmp(&self, other: &Self) -> Ordering {
        let rank = |id: &Self| id.as_port().map_or(u32::MAX, u32::from);
        rank(self).cmp(&rank(other)).then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for GroupId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The addresses of a group. The first is a field of its own, because sessions need its port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    first: SocketAddr,
    others: Vec<SocketAddr>,
}

impl Listen {
    /// `None` for an empty list.
    pub fn all(addresses: Vec<SocketAddr>) -> Option<Self> {
        let mut addresses = addresses.into_iter();
        Some(Self { first: addresses.next()?, others: addresses.collect() })
    }

    /// The first address.
    pub fn first(&self) -> SocketAddr {
        self.first
    }

    /// The port of the first address.
    pub fn port(&self) -> u16 {
        self.first.port()
    }

    /// Every address, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        std::iter::once(self.first).chain(self.others.iter().copied())
    }
}

impl From<SocketAddr> for Listen {
    fn from(first: SocketAddr) -> Self {
        Self { first, others: Vec::new() }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.first)?;
        self.others.iter().try_for_each(|other| write!(f, ", {other}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_in_the_order_of_ports_and_then_of_names() {
        let mut ids = ["web", "10000", "8081", "api", "08081", "70000"].map(GroupId::named);
        ids.sort();
        assert_eq!(ids.map(|id| id.to_string()), ["8081", "10000", "08081", "70000", "api", "web"]);
        assert_eq!(GroupId::from(8081), GroupId::named("8081"));
        assert_eq!([GroupId::named("1").as_port(), GroupId::named("01").as_port()], [Some(1), None]);
    }

    #[test]
    fn names_are_short_and_of_few_signs() {
        assert!(["a", "web-1", "8081-", "_", &"x".repeat(64)].into_iter().all(is_name));
        assert!(!["", "8081", "0", "021105", "Web", "a b", "a.b", "ä", &"x".repeat(65)].into_iter().any(is_name));
    }
}
