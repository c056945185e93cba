//! How a group wants its servers checked.

use std::sync::Arc;
use std::time::Duration;

use super::answer::Match;
use super::http::{HttpMethod, StatusSet};
use crate::base::secret::Secret;
use crate::server::SendProxy;
use crate::tls::ServerTlsSettings;

/// The shortest `fast_interval` where none is configured.
const FAST_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// The longest `timeout` where none is configured.
const TIMEOUT_MAX: Duration = Duration::from_secs(2);

/// What a check does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CheckKind {
    /// Connects.
    #[default]
    Tcp,
    /// Shakes hands: the server has to prove who it is.
    Tls,
    /// Sends bytes and looks at the answer, step by step.
    Exchange,
    /// Asks for a page and looks at its status, and at its body where that is wanted.
    Http,
    /// Asks whether it serves, and for its role where that matters.
    Redis,
    /// Begins to log in, and is content when it may.
    Postgresql,
    /// Logs in, as the server locks out who does not.
    Mysql,
}

impl CheckKind {
    /// The word in the file and in lists.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Exchange => "exchange",
            Self::Http => "http",
            Self::Redis => "redis",
            Self::Postgresql => "postgresql",
            Self::Mysql => "mysql",
        }
    }
}

/// What a server of Redis has to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CheckRole {
    /// Either of them.
    #[default]
    Any,
    /// One that takes writes.
    Master,
    /// One that follows another.
    Replica,
}

impl CheckRole {
    /// The word in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Master => "master",
            Self::Replica => "replica",
        }
    }
}

/// One step of an exchange: what is sent, and then what the server has to answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// What is sent.
    pub send: Option<Vec<u8>>,
    /// What has come since the last send.
    pub expect: Option<Match>,
}

/// What a new server counts as before its first check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CheckStart {
    /// Up.
    #[default]
    Up,
    /// Down.
    Down,
    /// Down, and the process is not ready before every such server has been checked once.
    Checked,
}

impl CheckStart {
    /// The word in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Checked => "checked",
        }
    }
}

/// How the servers of a group are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckSettings {
    /// What a check does.
    pub kind: CheckKind,
    /// Where to, on the server's host; 0 for the server's own port.
    pub port: u16,
    /// The pause while the server is up.
    pub interval: Duration,
    /// The pause while its state is changing or not known yet.
    pub fast_interval: Option<Duration>,
    /// The pause while the server is down.
    pub down_interval: Option<Duration>,
    /// How long a check may take.
    pub timeout: Option<Duration>,
    /// Passes in a row after which a server that is down is up.
    pub rise: u32,
    /// Failures in a row after which a server that is up is down.
    pub fall: u32,
    /// By how many percent each pause is longer or shorter.
    pub jitter: u32,
    /// What a new server counts as.
    pub start: CheckStart,
    /// A session that connected counts as a check that passed.
    pub traffic_counts: bool,
    /// The PROXY header that a check begins with; `None` for that of sessions on the server's own port.
    pub send_proxy: Option<SendProxy>,
    /// How it speaks TLS; `None` for the way of sessions, or for none.
    pub server_tls: Option<Arc<ServerTlsSettings>>,
    /// What is sent in the one step of an exchange.
    pub send: Option<Vec<u8>>,
    /// What has to be answered in the one step of an exchange.
    pub expect: Option<Match>,
    /// The steps of an exchange, where it has several.
    pub steps: Vec<Step>,
    /// The method of a request.
    pub method: HttpMethod,
    /// What a request asks for.
    pub path: String,
    /// The host that a request names; `None` for the server's address.
    pub host: Option<String>,
    /// What else a request says.
    pub headers: Vec<(String, String)>,
    /// The statuses with which a check passes.
    pub status: StatusSet,
    /// What the body has to hold.
    pub body: Option<Match>,
    /// The role that a server has to have.
    pub role: CheckRole,
    /// Who logs in.
    pub user: Option<String>,
    /// What with.
    pub password: Option<Secret>,
}

impl CheckSettings {
    /// The pause while the state of a server is changing.
    pub fn fast_interval(&self) -> Duration {
        let fast = self.fast_interval.unwrap_or_else(|| (self.interval / 4).max(FAST_INTERVAL_MIN));
        fast.min(self.interval)
    }

    /// The pause while a server is down.
    pub fn down_interval(&self) -> Duration {
        self.down_interval.unwrap_or(self.interval)
    }

    /// How long a check may take.
    pub fn timeout(&self) -> Duration {
        self.timeout.unwrap_or_else(|| self.interval.min(TIMEOUT_MAX))
    }

    /// The PROXY header of a check of a server whose sessions begin with this one.
    pub fn header(&self, of_sessions: SendProxy) -> SendProxy {
        self.send_proxy.unwrap_or(if self.port == 0 { of_sessions } else { SendProxy::None })
    }

    /// True when a check speaks TLS to a server because sessions do.
    pub fn speaks_tls_as_sessions(&self) -> bool {
        let is_there = match self.kind {
            CheckKind::Tcp => false,
            CheckKind::Tls => true,
            _ => self.port == 0,
        };
        is_there && self.server_tls.is_none()
    }

    /// The steps of an exchange.
    pub fn exchange(&self) -> impl Iterator<Item = (Option<&[u8]>, Option<&Match>)> {
        let short = self.steps.is_empty().then_some((self.send.as_deref(), self.expect.as_ref()));
        let steps = self.steps.iter().map(|step| (step.send.as_deref(), step.expect.as_ref()));
        short.into_iter().chain(steps)
    }

    /// True when a session that connected proves as much as a check would.
    pub fn is_proven_by_traffic(&self) -> bool {
        self.traffic_counts && self.kind == CheckKind::Tcp && self.port == 0
    }
}
