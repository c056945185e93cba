//! What is configured of an access log.

use std::fmt;
use std::path::PathBuf;

/// An access log as configured.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AccessSettings {
    /// How a line looks.
    pub format: AccessFormat,
    /// Where lines go.
    pub path: AccessPath,
    /// There is also a line when a client has connected.
    pub connect_line: bool,
    /// What stands in front of a line as HAProxy writes it.
    pub prefix: AccessPrefix,
}

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AccessFormat {
    /// As `session closed` in a log in text.
    Text,
    /// As `session closed` in a log in JSON.
    Json,
    /// As HAProxy writes it for a TCP session (`option tcplog`).
    Haproxy,
}

/// What stands in front of a line as HAProxy writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AccessPrefix {
    /// What a syslog daemon puts there: time, host, program.
    Syslog,
    /// Nothing.
    None,
}

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AccessPath {
    /// With the log of the process.
    Stderr,
    /// To the end of a file.
    File(PathBuf),
}

/// What a group says of its access log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AccessChoice {
    /// Nothing: that of the whole process holds.
    #[default]
    Inherited,
    /// It has none.
    Off,
    /// It has its own.
    Own(Box<AccessSettings>),
}

/// The file's path, or `stderr`.
impl fmt::Display for AccessPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stderr => f.write_str("stderr"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

impl AccessChoice {
    /// What holds for the group when the whole process has `common`.
    pub fn or<'a>(&'a self, common: Option<&'a AccessSettings>) -> Option<&'a AccessSettings> {
        match self {
            Self::Inherited => common,
            Self::Off => None,
            Self::Own(own) => Some(own),
        }
    }
}

impl AccessFormat {
    /// The word used in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
            Self::Haproxy => "haproxy",
        }
    }
}

impl AccessPrefix {
    /// The word used in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Syslog => "syslog",
            Self::None => "none",
        }
    }
}
