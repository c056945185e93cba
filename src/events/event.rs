//! Everything that may happen, and how it is told.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tracing::Level;

use super::fields::Visitor;
use super::session::SessionEvent;
use crate::base::label::GroupLabel;

/// Something that has happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A step of a session's life.
    Session(SessionEvent),
    /// What became of a server.
    Server {
        /// Its group.
        group: GroupLabel,
        /// `host:port`.
        addr: Arc<str>,
        /// What became of it.
        change: ServerChange,
    },
    /// What became of a group.
    Group {
        /// The group.
        group: GroupLabel,
        /// What became of it.
        change: GroupChange,
    },
    /// What became of the configuration.
    Config(ConfigEvent),
    /// What became of a module.
    Policy(PolicyEvent),
    /// What became of the process.
    Process(ProcessEvent),
    /// So many events found no place on their way here.
    Lost(u64),
}

/// What may become of a server.
#[derive(Clone, Debug)]
pub enum ServerChange {
    /// It may be picked from now on.
    Online,
    /// It may not be picked any more.
    Offline {
        /// Why.
        cause: Box<str>,
    },
    /// Its name has no address.
    NotResolved {
        /// Why.
        error: Box<str>,
    },
    /// It failed to answer a connect.
    Suspect {
        /// How.
        error: Box<str>,
    },
    /// Two callers say different things of it.
    Disagreement {
        /// Who counts now; `None` over a unix socket.
        caller: Option<SocketAddr>,
        /// Who counted before.
        other: Option<SocketAddr>,
        /// What differs.
        differs: Box<str>,
    },
}

/// What may become of a group.
#[derive(Clone, Debug)]
pub enum GroupChange {
    /// It accepts clients.
    Opened {
        /// Where.
        listen: SocketAddr,
        /// By which policy.
        policy: Box<str>,
    },
    /// It accepts no more clients.
    Closed,
    /// It accepts no more clients at one of its addresses.
    AddressClosed {
        /// Where.
        listen: SocketAddr,
    },
    /// So many leases ran out at once that they are kept.
    LeasesKept {
        /// Servers that have fallen silent.
        silent: usize,
        /// Leases in all.
        leases: usize,
    },
    /// Leases run out again.
    LeasesNormal {
        /// What shows that heartbeats arrive.
        reason: &'static str,
    },
    /// Its servers lead back to it.
    Loops,
    /// No descriptor is left for another client.
    Exhausted {
        /// What the system says.
        error: Box<str>,
    },
}

/// What may become of the configuration.
#[derive(Clone, Debug)]
pub enum ConfigEvent {
    /// Another configuration is in force. Follows every change, whoever asked for it.
    Applied,
    /// A reload has changed something: the groups and settings by name.
    Reloaded {
        /// Groups that were opened.
        opened: Box<str>,
        /// Groups that were closed.
        closed: Box<str>,
        /// Groups that were changed.
        changed: Box<str>,
        /// Other keys that were changed.
        settings: Box<str>,
    },
    /// A changed key takes effect at the next start.
    AtRestart {
        /// The key.
        setting: Box<str>,
    },
    /// The mistakes were taken back.
    InOrderAgain,
    /// Secrets are kept in other files now.
    SecretFilesChanged,
    /// A secret cannot be read any more, and the former one stays in force.
    SecretKept {
        /// Which one, and why.
        why: Box<str>,
    },
    /// All secrets can be read again.
    SecretsRead,
    /// The file says what is in force already.
    Unchanged,
    /// The file was not taken.
    Refused {
        /// Why.
        error: Box<str>,
    },
    /// One mistake of a file that was not taken.
    Mistake {
        /// `FILE:LINE:COL: …`
        problem: Box<str>,
    },
}

/// What may become of a module.
#[derive(Clone, Debug)]
pub enum PolicyEvent {
    /// Other files of modules are wanted.
    FilesChanged,
}

/// What may become of the process.
#[derive(Clone, Debug)]
pub enum ProcessEvent {
    /// It begins to serve.
    Starting {
        /// Data threads.
        threads: usize,
        /// Sessions that fit into its descriptors.
        sessions_max: u64,
        /// The file.
        config: Box<str>,
    },
    /// It accepts nobody and waits for its sessions.
    Draining {
        /// Sessions that are left.
        sessions: u64,
        /// How long it waits; `None` for as long as they last.
        limit: Option<Duration>,
    },
    /// The wait for sessions is over.
    DrainOver {
        /// Sessions that are ended now.
        sessions: usize,
    },
    /// No session is left.
    Idle,
    /// Everything has ended.
    Stopped,
    /// A part that must not end has ended.
    Failed {
        /// Which task or thread.
        task: &'static str,
    },
}

impl Event {
    /// How much it matters.
    pub fn level(&self) -> Level {
        match self {
            Self::Server {
                change:
                    ServerChange::Suspect { .. } | ServerChange::NotResolved { .. } | ServerChange::Disagreement { .. },
                ..
            }
            | Self::Group {
                change: GroupChange::LeasesKept { .. } | GroupChange::Loops | GroupChange::Exhausted { .. },
                ..
            }
            | Self::Config(
                ConfigEvent::AtRestart { .. }
                | ConfigEvent::Refused { .. }
                | ConfigEvent::Mistake { .. }
                | ConfigEvent::SecretKept { .. },
            )
            | Self::Process(ProcessEvent::DrainOver { .. })
            | Self::Lost(_) => Level::WARN,
            Self::Config(ConfigEvent::Applied | ConfigEvent::SecretFilesChanged | ConfigEvent::Unchanged)
            | Self::Policy(PolicyEvent::FilesChanged)
            | Self::Process(ProcessEvent::Idle) => Level::DEBUG,
            Self::Process(ProcessEvent::Failed { .. }) => Level::ERROR,
            _ => Level::INFO,
        }
    }

    /// Shows every field, in the order of a log line, and says what has happened in words that never change.
    pub fn show(&self, to: &mut Visitor<'_>) -> &'static str {
        match self {
            Self::Session(event) => event.show(to),
            Self::Server { group, addr, change } => {
                to.group(group).word("server.addr", addr);
                change.show(to)
            }
            Self::Group { group, change } => {
                to.group(group);
                change.show(to)
            }
            Self::Config(event) => event.show(to),
            Self::Policy(PolicyEvent::FilesChanged) => "other policy files wanted",
            Self::Process(event) => event.show(to),
            Self::Lost(events) => {
                to.number("events", *events);
                "events lost"
            }
        }
    }
}

impl ServerChange {
    fn show(&self, to: &mut Visitor<'_>) -> &'static str {
        match self {
            Self::Online => "server online",
            Self::Offline { cause } => {
                to.text("cause", cause);
                "server offline"
            }
            Self::NotResolved { error } => {
                to.text("error", error);
                "name not resolved"
            }
            Self::Suspect { error } => {
                to.word("error", error);
                "server suspect"
            }
            Self::Disagreement { caller, other, differs } => {
                for (name, addr) in [("client.addr", caller), ("other.addr", other)] {
                    match addr {
                        Some(addr) => to.addr(name, *addr),
                        None => to.word(name, "unix"),
                    };
                }
                to.text("differs", differs);
                "heartbeats of two callers disagree: the last one counts"
            }
        }
    }
}

impl GroupChange {
    fn show(&self, to: &mut Visitor<'_>) -> &'static str {
        match self {
            Self::Opened { listen, policy } => {
                to.addr("listen", *listen).word("policy", policy);
                "group open"
            }
            Self::Closed => "group closed",
            Self::AddressClosed { listen } => {
                to.addr("listen", *listen);
                "group no longer listens on an address"
            }
            Self::LeasesKept { silent, leases } => {
                to.number("silent", *silent as u64).number("leases", *leases as u64);
                "leases kept: most servers fell silent at once; those that answer a connect stay online"
            }
            Self::LeasesNormal { reason } => {
                to.text("reason", reason);
                "leases run out again"
            }
            Self::Loops => "the group's servers lead back to it: ending the sessions that come round",
            Self::Exhausted { error } => {
                to.word("error", error);
                "cannot accept clients for a moment"
            }
        }
    }
}

impl ConfigEvent {
    fn show(&self, to: &mut Visitor<'_>) -> &'static str {
        match self {
            Self::Applied => "configuration applied",
            Self::SecretFilesChanged => "other secret files wanted",
            Self::Reloaded { opened, closed, changed, settings } => {
                to.word("opened", opened).word("closed", closed).word("changed", changed).word("settings", settings);
                "proxy.json reloaded"
            }
            Self::AtRestart { setting } => {
                to.text("setting", setting);
                "changed in proxy.json; takes effect at the next start"
            }
            Self::InOrderAgain => "proxy.json is in order again: nothing to do",
            Self::SecretKept { why } => {
                to.text("error", why);
                "secret cannot be read: the former one stays in force"
            }
            Self::SecretsRead => "secrets can be read again",
            Self::Unchanged => "proxy.json read again: nothing to do",
            Self::Refused { error } => {
                to.word("error", error);
                "proxy.json refused: what runs stays as it is"
            }
            Self::Mistake { problem } => {
                to.text("problem", problem);
                "mistake in proxy.json"
            }
        }
    }
}

impl ProcessEvent {
    fn show(&self, to: &mut Visitor<'_>) -> &'static str {
        match self {
            Self::Starting { threads, sessions_max, config } => {
                to.number("threads", *threads as u64).number("sessions_max", *sessions_max).word("config", config);
                "goproxy starts"
            }
            Self::Draining { sessions, limit } => {
                to.number("sessions", *sessions);
                if let Some(limit) = limit {
                    to.number("limit_ms", u64::try_from(limit.as_millis()).unwrap_or(u64::MAX));
                }
                "draining"
            }
            Self::DrainOver { sessions } => {
                to.number("sessions", *sessions as u64);
                "drain_timeout is over: ending what is left"
            }
            Self::Idle => "no session is left",
            Self::Stopped => "goproxy stopped",
            Self::Failed { task } => {
                to.text("task", task);
                "exited unexpectedly"
            }
        }
    }
}
