//! What is configured of routes.

use std::fmt;

use super::id::GroupId;

/// One route: which hellos it takes, and the group that gets their clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The server names.
    pub sni: SniMatch,
    /// The hello has to offer one of these protocols; empty for any hello.
    pub alpn: Vec<String>,
    /// The group.
    pub group: GroupId,
}

/// The server names that a route is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SniMatch {
    /// Any name, or none.
    Any,
    /// Hellos without a name.
    Missing,
    /// These, in lower case. `*.` in front stands for exactly one label.
    Names(Vec<String>),
}

/// Where clients go that no route names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RouteTo {
    /// To the servers of the group at whose port they came in.
    #[default]
    Own,
    /// Nowhere: they are turned away.
    Close,
    /// To this group.
    Group(GroupId),
}

/// As in the file.
impl fmt::Display for RouteTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own => f.write_str("self"),
            Self::Close => f.write_str("close"),
            Self::Group(id) => id.fmt(f),
        }
    }
}

/// How clients may ask for TLS before their hello, in the clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Starttls {
    /// Not at all.
    None,
    /// As those of PostgreSQL.
    Postgresql,
}

impl Starttls {
    /// The word in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Postgresql => "postgresql",
        }
    }
}
