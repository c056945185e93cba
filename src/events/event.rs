//! Everything that may happen, and how it is told.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tracing::Level;

use super::admin::AdminEvent;
use super::config::ConfigEvent;
use super::declare::{Field, kinds};
use super::fields::Visitor;
use super::limits::LimitEvent;
use super::policy::PolicyEvent;
use super::server::ServerChange;
use super::session::SessionEvent;
use crate::base::label::GroupLabel;

/// The name of what viewers find in place of events that they have missed.
pub const GAP: &str = "gap";

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
    /// What limits did.
    Limits(LimitEvent),
    /// What became of the admin port.
    Admin(AdminEvent),
    /// What became of the process.
    Process(ProcessEvent),
    /// So many events found no place on their way here.
    Lost(u64),
}

/// An event as it was published.
#[derive(Debug)]
pub struct Published {
    /// Grows with every event of the process.
    pub number: u64,
    /// Its place in the history, for those that viewers of `/events` are told.
    pub id: Option<u64>,
    /// When it happened.
    pub at: SystemTime,
    /// What happened.
    pub event: Event,
}

kinds! {
    /// What may become of a group.
    GroupChange {
        /// It accepts clients.
        INFO "group open" => "group_open"
        Opened {
            /// Where.
            "listen" listen: SocketAddr,
            /// By which policy.
            "policy" policy: Box<str>,
        }

        /// It cannot listen at one of its addresses yet, and goes on trying.
        WARN "the group waits for its address"
        Waits {
            /// Which one.
            "listen" listen: SocketAddr,
            /// What the system says.
            "error" error: Box<str>,
        }

        /// It accepts no more clients.
        INFO "group closed" => "group_close"
        Closed

        /// It accepts no more clients at one of its addresses.
        INFO "group no longer listens on an address"
        AddressClosed {
            /// Where.
            "listen" listen: SocketAddr,
        }

        /// So many leases ran out at once that they are kept.
        WARN "leases kept: most servers fell silent at once; those that answer a connect stay online" => "self_preservation"
        LeasesKept {
            /// Servers that have fallen silent.
            "silent" silent: usize,
            /// Leases in all.
            "leases" leases: usize,
        }

        /// Leases run out again.
        INFO "leases run out again" => "self_preservation_over"
        LeasesNormal {
            /// What shows that heartbeats arrive.
            "reason" reason: &'static str,
        }

        /// No server is left but those that checks or ejections keep out.
        WARN "fail open: trying servers that only checks keep out" => "fail_open"
        FailOpen

        /// Another server may be picked again.
        INFO "fail open ended" => "fail_open_over"
        FailOpenEnded

        /// A server speaks MySQL, which locks out who only connects.
        WARN "a tcp check gets this proxy locked out by MySQL: use kind mysql"
        ChecksLockOut

        /// Nearly all of its clients are one.
        WARN "nearly all clients have one address: limits for each client limit the whole group"
        OneClient

        /// Its servers lead back to it.
        WARN "the group's servers lead back to it: ending the sessions that come round"
        Loops

        /// No descriptor is left for another client.
        WARN "cannot accept clients for a moment"
        Exhausted {
            /// What the system says.
            "error" error: Box<str>,
        }

        /// A data thread does not hear of its clients.
        ERROR "cannot watch the listener; trying again"
        Unwatched {
            /// What the system says.
            "error" error: Box<str>,
        }
    }
}

kinds! {
    /// What may become of the process.
    ProcessEvent {
        /// It begins to serve.
        INFO "goproxy starts"
        Starting {
            /// Of the program.
            "version" version: &'static str,
            /// Of the process.
            "pid" pid: u32,
            /// Data threads.
            "threads" threads: usize,
            /// Sessions that fit into its descriptors.
            "sessions_max" sessions_max: u64,
            /// The file.
            "config" config: Box<str>,
        }

        /// Who is online, from time to time.
        INFO "online"
        Online {
            /// Sessions in all groups.
            "clients" clients: usize,
            /// Servers that may be picked, in all groups.
            "servers" servers: usize,
            /// `8081 clients=3 servers=2/3`: online servers of all servers.
            "groups" groups: Box<[Box<str>]>,
            /// So many groups are not named.
            "groups.more" groups_more: Option<usize>,
            /// The newest clients.
            "client.addrs" client_addrs: Box<[Box<str>]>,
            /// So many clients are not named.
            "client.addrs.more" client_addrs_more: Option<usize>,
            /// The first servers that are online.
            "server.addrs" server_addrs: Box<[Box<str>]>,
            /// So many servers are not named.
            "server.addrs.more" server_addrs_more: Option<usize>,
        }

        /// Checks have found more than the log has lines for.
        INFO "more was found by checks"
        MoreChecked {
            /// Lines that were left out.
            "lines" lines: u64,
        }

        /// It is to stop, and still accepts clients.
        INFO "shutting down: clients are still taken while /ready says no" => "shutdown"
        ShuttingDown {
            /// For how long.
            "delay_ms" delay: Duration,
        }

        /// It accepts nobody and waits for its sessions.
        INFO "draining" => "shutdown"
        Draining {
            /// Sessions that are left.
            "sessions" sessions: u64,
            /// How long it waits; `None` for as long as they last.
            "limit_ms" limit: Option<Duration>,
        }

        /// The wait for sessions is over.
        WARN "drain_timeout is over: ending what is left"
        DrainOver {
            /// Sessions that are ended now.
            "sessions" sessions: usize,
        }

        /// No session is left.
        DEBUG "no session is left"
        Idle

        /// Everything has ended.
        INFO "goproxy stopped"
        Stopped

        /// A new process is to take over.
        INFO "upgrade begins"
        UpgradeBegins {
            /// Its program.
            "program" program: Box<str>,
        }

        /// The new process serves. Sessions that this one has go on here. It has no viewers any more.
        INFO "upgraded: a new process serves"
        Upgraded {
            /// Its id.
            "pid" pid: u32,
            /// The version of its program.
            "version" version: Box<str>,
            /// Sessions that are left.
            "sessions" sessions: u64,
        }

        /// No upgrade can begin now.
        WARN "upgrade refused" => "upgrade_failed"
        UpgradeRefused {
            /// Why.
            "error" error: Box<str>,
        }

        /// The new process could not take over, and this one goes on as before.
        ERROR "upgrade failed: this process goes on serving" => "upgrade_failed"
        UpgradeFailed {
            /// What was to be done.
            "step" step: &'static str,
            /// Why that failed.
            "error" error: Box<str>,
        }

        /// This process serves instead of another.
        INFO "taken over from the process before" => "upgrade"
        TakenOver {
            /// Its number in the row of those that took over from each other.
            "generation" generation: u64,
            /// Sessions that the other one still has.
            "sessions" sessions: u64,
        }

        /// A part that must not end has ended.
        ERROR "exited unexpectedly"
        Failed {
            /// Which task.
            "task" task: &'static str,
        }

        /// A data thread cannot go on, and the process ends.
        ERROR "cannot wait for events"
        ThreadFailed {
            /// Which one.
            "thread" thread: usize,
            /// What the system says.
            "error" error: Box<str>,
        }

        /// A data thread was to stay on one core and does not.
        WARN "cannot stay on one core"
        NotPinned {
            /// Which one.
            "thread" thread: usize,
            /// What the system says.
            "error" error: Box<str>,
        }

        /// Another process may listen where we do, and take some of the clients.
        WARN "cannot tell whether another process listens there"
        MayBeShared {
            /// Where.
            "listen" listen: SocketAddr,
            /// What the system says.
            "error" error: Box<str>,
        }
    }
}

impl Event {
    /// How much it matters.
    pub fn level(&self) -> Level {
        match self {
            Self::Session(event) => event.level(),
            Self::Server { change, .. } => change.level(),
            Self::Group { change, .. } => change.level(),
            Self::Config(event) => event.level(),
            Self::Policy(PolicyEvent::Says { level, .. }) => *level,
            Self::Policy(event) => event.level(),
            Self::Admin(AdminEvent::Request { is_routine: true, .. }) => Level::DEBUG,
            Self::Admin(event) => event.level(),
            Self::Limits(event) => event.level(),
            Self::Process(event) => event.level(),
            Self::Lost(_) => Level::WARN,
        }
    }

    /// The name under which viewers of `/events` are told of it; `None` for what they are not told.
    pub fn name(&self) -> Option<&'static str> {
        match self {
            Self::Session(_) => None,
            Self::Server { change, .. } => change.name(),
            Self::Group { change, .. } => change.name(),
            Self::Config(event) => event.name(),
            Self::Policy(event) => event.name(),
            Self::Admin(AdminEvent::Request { is_change: false, .. }) => None,
            Self::Admin(event) => event.name(),
            Self::Limits(event) => event.name(),
            Self::Process(event) => event.name(),
            Self::Lost(_) => Some(GAP),
        }
    }

    /// Shows every field, in the order of a log line, and says what has happened in words that never change.
    pub fn show(&self, to: &mut Visitor<'_>) -> &'static str {
        match self {
            Self::Session(event) => event.show(to),
            Self::Server { group, addr, change } => {
                to.group(group).text("server.addr", addr);
                change.show(to)
            }
            Self::Group { group, change } => {
                to.group(group);
                change.show(to)
            }
            Self::Config(event) => event.show(to),
            Self::Policy(event) => event.show(to),
            Self::Admin(event) => event.show(to),
            Self::Limits(event) => event.show(to),
            Self::Process(event) => event.show(to),
            Self::Lost(events) => {
                to.number("events", *events);
                "events lost"
            }
        }
    }

    /// The level and the message of everything that the log may say of events.
    pub fn messages() -> impl Iterator<Item = (Level, &'static str)> {
        let all = [
            SessionEvent::MESSAGES,
            ServerChange::MESSAGES,
            GroupChange::MESSAGES,
            ConfigEvent::MESSAGES,
            PolicyEvent::MESSAGES,
            LimitEvent::MESSAGES,
            AdminEvent::MESSAGES,
            ProcessEvent::MESSAGES,
        ];
        all.into_iter().flatten().copied()
    }

    /// The name and the message of everything that viewers are told.
    pub fn names() -> impl Iterator<Item = (&'static str, &'static str)> {
        let all = [
            ServerChange::NAMES,
            GroupChange::NAMES,
            ConfigEvent::NAMES,
            PolicyEvent::NAMES,
            LimitEvent::NAMES,
            AdminEvent::NAMES,
            ProcessEvent::NAMES,
        ];
        all.into_iter().flatten().copied()
    }
}
