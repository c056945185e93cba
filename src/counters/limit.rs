//! The limits that may turn a client away.

/// Which limit a client was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    /// The client's sessions at a time: `client.sessions`.
    ClientSessions,
    /// The client's new sessions: `client.rate`.
    ClientRate,
    /// The group's sessions at a time: `max_sessions`.
    GroupSessions,
    /// The group's clients at a time that have not said yet what they must before they are served.
    Waiting,
    /// The group's new sessions: `session_rate`.
    GroupRate,
    /// The sessions of the process at a time: `max_sessions` at the top level.
    ProcessSessions,
    /// The new sessions of the process: `session_rate` at the top level.
    ProcessRate,
    /// What the descriptors of the process allow.
    Descriptors,
}

impl Limit {
    /// Every limit, the narrowest first.
    pub const ALL: [Self; 8] = [
        Self::ClientSessions,
        Self::ClientRate,
        Self::GroupSessions,
        Self::Waiting,
        Self::GroupRate,
        Self::ProcessSessions,
        Self::ProcessRate,
        Self::Descriptors,
    ];

    /// The word in the log and in the metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClientSessions => "client_sessions",
            Self::ClientRate => "client_rate",
            Self::GroupSessions => "group_sessions",
            Self::Waiting => "waiting",
            Self::GroupRate => "group_rate",
            Self::ProcessSessions => "process_sessions",
            Self::ProcessRate => "process_rate",
            Self::Descriptors => "descriptors",
        }
    }
}
