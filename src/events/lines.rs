//! Which of what comes by the thousand the log writes.

/// Which steps of sessions the log writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionLines {
    /// The client, the server, the end.
    All,
    /// The end.
    Closed,
    /// The end of those that got no server.
    Refused,
    /// None.
    None,
}

impl SessionLines {
    /// The word used in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Closed => "closed",
            Self::Refused => "refused",
            Self::None => "none",
        }
    }
}

/// Which requests of the admin port the log writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestLines {
    /// All of them.
    All,
    /// Those that change something, and those that are refused.
    Changes,
}

impl RequestLines {
    /// The word used in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Changes => "changes",
        }
    }
}
