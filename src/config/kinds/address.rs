//! Addresses: where to listen, where servers are, networks.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;
use jsonc_parser::ast::Value;
use jsonc_parser::common::Ranged;
use serde_json::json;

use super::plain::{check_path, report, text_of, wrong};
use super::section::elements;
use crate::config::hints::address_of_others;
use crate::config::key::{Describe, Kind, Style};
use crate::config::object::shown;
use crate::config::problem::Place;
use crate::config::reader::Reader;
use crate::config::units::quoted;
use crate::group::Listen;
use crate::server::{ADDR_LEN_MAX, ServerAddr};

/// Longest path of a unix socket that the kernel takes, in bytes.
const UNIX_PATH_LEN_MAX: usize = 107;
/// Most addresses of one group.
const LISTEN_MAX: usize = 64;
/// Most networks of a list.
const NETWORKS_MAX: usize = 1_024;

const SOCKET_PATTERN: &str = "([0-9.]+|\\[[^\\]]+\\]):[0-9]{1,5}";

/// `ip:port`.
pub(in crate::config) struct Socket;

pub(in crate::config) const fn socket() -> Socket {
    Socket
}

impl Describe for Socket {
    fn schema(&self) -> serde_json::Value {
        json!({ "type": "string", "pattern": format!("^{SOCKET_PATTERN}$") })
    }

    fn expected(&self) -> String {
        "ip:port".to_owned()
    }
}

impl Kind for Socket {
    type Value = SocketAddr;

    fn read(&self, reader: &mut Reader, place: &Place, value: &Value) -> Option<SocketAddr> {
        report(reader, place, value, listen_address(value, "ip:port, such as \"127.0.0.1:8081\""))
    }

    fn write(&self, value: &SocketAddr, _: &Style) -> String {
        quoted(&value.to_string())
    }
}

/// An address of this machine.
pub(in crate::config) struct Ip;

pub(in crate::config) const fn ip() -> Ip {
    Ip
}

impl Describe for Ip {
    fn schema(&self) -> serde_json::Value {
        json!({ "type": "string", "pattern": "^[0-9a-fA-F.:]+$" })
    }

    fn expected(&self) -> String {
        "an IP address".to_owned()
    }
}

impl Kind for Ip {
    type Value = IpAddr;

    fn read(&self, reader: &mut Reader, place: &Place, value: &Value) -> Option<IpAddr> {
        let expected = "an IP address of this machine, such as \"10.0.0.2\"";
        let usable = |ip: &IpAddr| !(ip.is_unspecified() || ip.is_multicast());
        let read = text_of(value, expected).and_then(|text| {
            text.parse().ok().filter(usable).ok_or_else(|| format!("cannot use {}; expected {expected}", shown(value)))
        });
        report(reader, place, value, read)
    }

    fn write(&self, value: &IpAddr, _: &Style) -> String {
        quoted(&value.to_string())
    }
}

/// One `ip:port` or a list of them.
pub(in crate::config) struct Sockets;

pub(in crate::config) const fn sockets() -> Sockets {
    Sockets
}

impl Describe for Sockets {
    fn schema(&self) -> serde_json::Value {
        let one = Socket.schema();
        let list = json!({ "type": "array", "minItems": 1, "maxItems": LISTEN_MAX, "items": one });
        json!({ "anyOf": [one, list] })
    }

    fn expected(&self) -> String {
        format!("ip:port, or a list of 1 to {LISTEN_MAX} of them")
    }
}

impl Kind for Sockets {
    type Value = Listen;

    fn read(&self, reader: &mut Reader, place: &Place, value: &Value) -> Option<Listen> {
        if !matches!(value, Value::Array(_)) {
            return Socket.read(reader, place, value).map(Listen::from);
        }
        let list = elements(reader, place, value, LISTEN_MAX)?;
        let addresses: Vec<Option<SocketAddr>> = list
            .iter()
            .enumerate()
            .map(|(index, value)| Socket.read(reader, &Place::Index(place, index), value))
            .collect();
        if addresses.is_empty() {
            return report(reader, place, value, Err(format!("the list is empty; expected {}", self.expected())));
        }
        Listen::all(addresses.into_iter().collect::<Option<Vec<_>>>()?)
    }

    fn write(&self, value: &Listen, _: &Style) -> String {
        let addresses: Vec<String> = value.iter().map(|addr| quoted(&addr.to_string())).collect();
        if let [one] = &addresses[..] { one.clone() } else { format!("[{}]", addresses.join(", ")) }
    }
}

/// Where the admin port is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminListen {
    /// A TCP socket. An address that other machines can reach needs a token.
    Tcp(SocketAddr),
    /// A unix socket of mode 0600.
    Unix(PathBuf),
}

impl fmt::Display for AdminListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => addr.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// `ip:port` or `unix:PATH`.
pub(in crate::config) struct SocketOrUnix;

pub(in crate::config) const fn socket_or_unix() -> SocketOrUnix {
    SocketOrUnix
}

impl SocketOrUnix {
    fn parse(value: &Value) -> Result<AdminListen, String> {
        let Some(path) = value.as_string_lit().and_then(|text| text.value.strip_prefix("unix:")) else {
            return listen_address(value, "ip:port, such as \"127.0.0.1:8080\", or unix:/PATH").map(AdminListen::Tcp);
        };
        check_path(path)?;
        if !path.starts_with('/') {
            return Err(wrong(value, "unix: and an absolute path"));
        }
        if path.len() > UNIX_PATH_LEN_MAX {
            return Err(wrong(value, &format!("unix: and a path of at most {UNIX_PATH_LEN_MAX} bytes")));
        }
        Ok(AdminListen::Unix(PathBuf::from(path)))
    }
}

impl Describe for SocketOrUnix {
    fn schema(&self) -> serde_json::Value {
        json!({ "type": "string", "pattern": format!("^(unix:/.+|{SOCKET_PATTERN})$") })
    }

    fn expected(&self) -> String {
        "ip:port or unix:PATH".to_owned()
    }
}

impl Kind for SocketOrUnix {
    type Value = AdminListen;

    fn read(&self, reader: &mut Reader, place: &Place, value: &Value) -> Option<AdminListen> {
        report(reader, place, value, Self::parse(value))
    }

    fn write(&self, value: &AdminListen, _: &Style) -> String {
        match value {
            AdminListen::Tcp(addr) => quoted(&addr.to_string()),
            AdminListen::Unix(path) => quoted(&format!("unix:{}", path.display())),
        }
    }
}

fn listen_address(value: &Value, expected: &str) -> Result<SocketAddr, String> {
    let text = text_of(value, expected)?;
    let socket = text.parse::<SocketAddr>().map_err(|_| {
        let hint = address_of_others(text).unwrap_or_default();
        format!("{}{hint}", wrong(value, expected))
    })?;
    match socket.port() {
        0 => Err(format!("{} has port 0; expected a port of 1 to 65535", shown(value))),
        _ => Ok(socket),
    }
}

/// A server's `host:port`.
pub(in crate::config) struct Server;

pub(in crate::config) const fn server_address() -> Server {
    Server
}

impl Describe for Server {
    fn schema(&self) -> serde_json::Value {
        json!({ "type": "string", "pattern": "^.+:[0-9]{1,5}$", "maxLength": ADDR_LEN_MAX })
    }

    fn expected(&self) -> String {
        "host:port".to_owned()
    }
}

impl Kind for Server {
    type Value = ServerAddr;

    fn read(&self, reader: &mut Reader, place: &Place, value: &Value) -> Option<ServerAddr> {
        let text = text_of(value, "host:port, ip:port or [ipv6]:port");
        let addr = text.and_then(|text| text.parse::<ServerAddr>().map_err(|error| error.to_string()));
        report(reader, place, value, addr)
    }

    fn write(&self, value: &ServerAddr, _: &Style) -> String {
        quoted(value.as_str())
    }
}

/// Networks, `10.0.0.0/8`, or single addresses.
pub(in crate::config) struct Networks {
    min: usize,
}

pub(in crate::config) const fn network_list() -> Networks {
    Networks { min: 0 }
}

/// At least one network.
pub(in crate::config) const fn some_networks() -> Networks {
    Networks { min: 1 }
}

impl Describe for Networks {
    fn schema(&self) -> serde_json::Value {
        let mut schema = json!({ "type": "array", "maxItems": NETWORKS_MAX, "items": { "type": "string" } });
        if self.min > 0 {
            schema["minItems"] = self.min.into();
        }
        schema
    }

    fn expected(&self) -> String {
        match self.min {
            0 => "a list of networks".to_owned(),
            min => format!("a list of {min} or more networks"),
        }
    }
}

impl Kind for Networks {
    type Value = Vec<IpNet>;

    fn read(&self, reader: &mut Reader, place: &Place, value: &Value) -> Option<Vec<IpNet>> {
        let networks = elements(reader, place, value, NETWORKS_MAX)?;
        if networks.len() < self.min {
            return report(reader, place, value, Err(format!("the list is empty; expected {}", self.expected())));
        }
        let network = |(index, value): (usize, &Value)| {
            network(value)
                .map_err(|message| reader.problems.add(value.start(), Place::Index(place, index), message))
                .ok()
        };
        Some(networks.iter().enumerate().filter_map(network).collect())
    }

    fn write(&self, value: &Vec<IpNet>, _: &Style) -> String {
        let networks: Vec<String> = value.iter().map(|network| quoted(&network.to_string())).collect();
        format!("[{}]", networks.join(", "))
    }
}

fn network(value: &Value) -> Result<IpNet, String> {
    let text = value.as_string_lit().map_or("", |text| &text.value);
    let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
    let network = text.parse::<IpNet>().ok().or_else(address);
    network.ok_or_else(|| wrong(value, "ip/bits or ip, such as \"10.0.0.0/8\""))
}
