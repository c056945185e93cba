//! What changes over HTTP say where `proxy.json` itself is not to be changed.
//!
//! An [`Overlay`] lies over the groups of the file. Each [`Override`] names one value, what the file said of it when it
//! was changed, and what it is now. It holds as long as the file says the same; once the file says something else,
//! the file wins and the override is gone. So a drain survives a new weight, and a new weight in the file is never lost.
//!
//! The state file keeps the overlay as JSON, one override a line.

mod between;
mod over;
mod stored;

pub use self::stored::{Stored, StoredError};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::group::GroupId;
use crate::server::ServerAddr;

/// The version of the state file that is written and read.
const VERSION: u32 = 1;

/// What stands in the file for people who open it.
const ABOUT: &str =
    "Changes over HTTP, kept beside proxy.json by goproxy. state-list.do shows them, state-clear.do drops them.";

/// The key of an override that is about a whole group, which the file does not have.
const GROUP: &str = "group";
/// The key of an override that is about a whole server: which only one of the two has, or which has come back and stands behind
/// the others.
const SERVER: &str = "server";

/// One value that differs from what the file says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Override {
    /// The group.
    #[serde(deserialize_with = "group_id")]
    pub group: GroupId,
    /// The server; `None` for a value of the group.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "write_addr",
        deserialize_with = "read_addr"
    )]
    pub server: Option<ServerAddr>,
    /// The key, as in the file; `group` and `server` stand for a whole one.
    pub key: String,
    /// What the file said when the value was changed; null for a group or a server that it did not have.
    pub base: Value,
    /// What holds; null for a server that was taken out.
    pub now: Value,
    /// When it was changed, as RFC 3339.
    pub since: String,
}

/// Everything that differs from what the file says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overlay {
    overrides: Vec<Override>,
}

/// An override that does not hold any more.
#[derive(Clone, Debug, PartialEq)]
pub struct Overruled {
    /// The override.
    pub it: Override,
    /// What the file says, or why the override cannot hold.
    pub by: String,
}

#[derive(Deserialize)]
struct Read {
    version: u32,
    overrides: Vec<Override>,
}

impl Overlay {
    /// Reads the text of a state file.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let read: Read = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if read.version != VERSION {
            return Err(format!("version is {}; expected {VERSION}", read.version));
        }
        Ok(Self { overrides: read.overrides })
    }

    /// The text of the state file.
    pub fn text(&self) -> String {
        let lines: Vec<String> = self.overrides.iter().map(|it| format!("\n  {}", json(it))).collect();
        format!("{}{}\n]\n}}\n", head(), lines.join(","))
    }

    /// Everything that differs: the values of a group, then its servers in order.
    pub fn overrides(&self) -> &[Override] {
        &self.overrides
    }

    /// Without what is said of this group, or of this server; of everything when none is named.
    #[must_use]
    pub fn without(&self, group: Option<&GroupId>, server: Option<&ServerAddr>) -> Self {
        let is_meant = |it: &&Override| {
            group.is_none_or(|group| it.group == *group) && server.is_none_or(|addr| it.server.as_ref() == Some(addr))
        };
        Self { overrides: self.overrides.iter().filter(|it| !is_meant(it)).cloned().collect() }
    }
}

/// How the text of every state file begins.
fn head() -> String {
    let about = Value::from(ABOUT);
    format!("{{\n\"about\": {about},\n\"version\": {VERSION},\n\"overrides\": [")
}

fn json(it: &Override) -> String {
    serde_json::to_string(it).expect("an override has string keys and no failing part")
}

/// A number for a port, or else a name, as [`GroupId`] is written.
fn group_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<GroupId, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Id {
        Port(u16),
        Name(String),
    }
    Ok(match Id::deserialize(deserializer)? {
        Id::Port(port) => port.into(),
        Id::Name(name) => GroupId::named(&name),
    })
}

fn write_addr<S: Serializer>(addr: &Option<ServerAddr>, serializer: S) -> Result<S::Ok, S::Error> {
    addr.as_ref().map(ServerAddr::as_str).serialize(serializer)
}

fn read_addr<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<ServerAddr>, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map(Some).map_err(serde::de::Error::custom)
}
