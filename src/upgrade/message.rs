//! What the two processes tell each other, as JSON.
//!
//! Fields may be added: whoever does not know them passes them over, and whoever misses them takes their defaults.

use serde::{Deserialize, Serialize};

use crate::group::{GroupCarried, GroupSessions};

/// What the new process says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "message", rename_all = "snake_case")]
pub(super) enum FromNew {
    /// It is there.
    Hello { protocol: u32, pid: u32, version: String },
    /// It has done everything that can fail.
    Ready {
        /// Addresses at which it does not listen.
        #[serde(default)]
        unused: Vec<String>,
    },
    /// It cannot go on, and ends.
    Failed { error: String },
    /// It accepts clients.
    Serving,
    /// What only another version knows.
    #[serde(other)]
    Unknown,
}

/// What the old process says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "message", rename_all = "snake_case")]
pub(super) enum FromOld {
    /// Its listening sockets come with this message.
    Sockets {
        /// The number of this process in the row of those that took over from each other.
        #[serde(default)]
        generation: u64,
        /// Where each of them listens, in their order.
        sockets: Vec<Listening>,
    },
    /// What it has observed. It accepts nobody any more.
    State(State),
    /// The new process is the service now.
    Main,
    /// The sessions that it still has.
    Sessions {
        #[serde(default)]
        groups: Vec<GroupSessions>,
        /// Processes that drain, as far as is known: it is one of them.
        #[serde(default)]
        draining: u32,
    },
    /// What only another version knows.
    #[serde(other)]
    Unknown,
}

/// A listening socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Listening {
    pub(super) kind: Kind,
    /// `ip:port` or `unix:PATH`.
    pub(super) listen: String,
}

/// What a socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// Clients of a group.
    Group,
    /// Requests to the proxy itself.
    Admin,
    /// What only another version has.
    #[serde(other)]
    Unknown,
}

/// What the old process has observed, and the file does not say.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct State {
    pub(crate) groups: Vec<GroupCarried>,
    /// The sessions that it has.
    pub(crate) sessions: Vec<GroupSessions>,
    /// Processes that will drain, as far as is known, with this one.
    pub(crate) draining: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_version_says_besides_is_passed_over_and_what_it_does_not_say_is_absent() {
        let read = |text| serde_json::from_str::<FromOld>(text).unwrap();
        assert!(matches!(read(r#"{"message":"farewell","why":1}"#), FromOld::Unknown));
        let FromOld::State(state) = read(r#"{"message":"state","more":{},"groups":[{"id":"web","x":1}]}"#) else {
            panic!("it is the state")
        };
        assert_eq!((state.groups.len(), state.sessions.len(), state.draining), (1, 0, 0));
        let FromOld::Sockets { generation, sockets } =
            read(r#"{"message":"sockets","sockets":[{"kind":"quic","listen":"1.2.3.4:5","of":2}]}"#)
        else {
            panic!("they are sockets")
        };
        assert_eq!((generation, sockets[0].kind), (0, Kind::Unknown));
        let new = |text| serde_json::from_str::<FromNew>(text).unwrap();
        assert!(matches!(new(r#"{"message":"ready","seconds":1}"#), FromNew::Ready { unused } if unused.is_empty()));
        assert!(matches!(new(r#"{"message":"serving","since":1}"#), FromNew::Serving));
        assert!(matches!(new(r#"{"message":"later"}"#), FromNew::Unknown));
    }
}
