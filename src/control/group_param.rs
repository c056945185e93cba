//! How a request names a group: by its name, by its port, or by the address that it listens on.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use crate::group::{GroupId, is_name};

/// A group as somebody who asks names it. [`super::Control::group`] finds the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupParam {
    /// The port, 1 to 65535, where only one group has it.
    Port(u16),
    /// The name; see [`is_name`].
    Name(Box<str>),
    /// The whole address.
    Listen(SocketAddr),
}

/// Text that names no group whatever groups there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {}", GroupParam::EXPECTED)]
pub struct GroupParamError;

impl GroupParam {
    /// What may be written, for error texts and documents.
    pub const EXPECTED: &str = "a group's port of 1 to 65535, its name, or its ip:port";

    /// The port, when a port was given and nothing else.
    pub fn as_port(&self) -> Option<u16> {
        match self {
            Self::Port(port) => Some(*port),
            Self::Name(_) | Self::Listen(_) => None,
        }
    }
}

impl FromStr for GroupParam {
    type Err = GroupParamError;

    fn from_str(text: &str) -> Result<Self, GroupParamError> {
        if text.is_empty() {
            Err(GroupParamError)
        } else if text.bytes().all(|byte| byte.is_ascii_digit()) {
            text.parse().ok().filter(|port| *port > 0).map(Self::Port).ok_or(GroupParamError)
        } else if is_name(text) {
            Ok(Self::Name(text.into()))
        } else {
            text.parse::<SocketAddr>().ok().filter(|addr| addr.port() > 0).map(Self::Listen).ok_or(GroupParamError)
        }
    }
}

impl fmt::Display for GroupParam {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(port) => port.fmt(f),
            Self::Name(name) => f.write_str(name),
            Self::Listen(addr) => addr.fmt(f),
        }
    }
}

impl From<&GroupId> for GroupParam {
    fn from(id: &GroupId) -> Self {
        id.as_port().map_or_else(|| Self::Name(id.as_str().into()), Self::Port)
    }
}

impl From<u16> for GroupParam {
    fn from(port: u16) -> Self {
        Self::Port(port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::NAME_LEN_MAX;

    #[test]
    fn a_group_is_a_port_a_name_or_an_address() {
        let name = |text: &str| GroupParam::Name(text.into());
        for (text, group) in [
            ("1", GroupParam::Port(1)),
            ("65535", GroupParam::Port(65_535)),
            ("web", name("web")),
            ("-1", name("-1")),
            ("8081-blue_2", name("8081-blue_2")),
            ("0.0.0.0:8081", GroupParam::Listen("0.0.0.0:8081".parse().unwrap())),
            ("[::1]:8081", GroupParam::Listen("[::1]:8081".parse().unwrap())),
        ] {
            assert_eq!(text.parse(), Ok(group.clone()), "{text}");
            assert_eq!(group.to_string(), text);
        }
        for text in ["", "0", "65536", "99999999999999999999", "+80", "80.0", "８０", "Web", "a b", "0.0.0.0:0", "a:1"]
        {
            assert_eq!(text.parse::<GroupParam>(), Err(GroupParamError), "{text}");
        }
        assert!("x".repeat(NAME_LEN_MAX).parse::<GroupParam>().is_ok());
        assert!("x".repeat(NAME_LEN_MAX + 1).parse::<GroupParam>().is_err());
    }
}
