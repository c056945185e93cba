//! What is configured of a group besides its servers.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::check::CheckSettings;
use super::ejection::EjectSettings;
use super::id::{GroupId, Listen};
use super::on_down::OnDown;
use super::route::{Route, RouteTo, Starttls};
use super::tcp::{ClientTcp, ServerTcp};
use crate::access::AccessChoice;
use crate::base::label::GroupLabel;
use crate::limits::{AddressList, ClientLimits, Rate};
use crate::policy::spec::PolicySpec;
use crate::server::SendProxy;
use crate::tls::{ServerTlsSettings, TlsSettings};

/// Who sends a header of the PROXY protocol, which says whom it speaks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptProxy {
    /// Those that have to send one; from others it is not looked for.
    pub from: Vec<IpNet>,
    /// How long it may take until it is complete.
    pub timeout: Duration,
}

impl AcceptProxy {
    /// True when a client at this address has to send a header.
    pub fn expects(&self, ip: IpAddr) -> bool {
        self.from.iter().any(|network| network.contains(&ip))
    }
}

/// The settings of a group. Those that every session needs come first: with many groups they are seldom in a near
/// cache.
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct GroupSettings {
    /// Sessions at a time; 0 for no limit.
    pub max_sessions: u32,
    /// How many servers a session tries.
    pub connect_attempts: u32,
    /// How long one attempt to connect may take.
    pub connect_timeout: Duration,
    /// How long a client is held while every server refuses; zero for not at all.
    pub connect_wait: Duration,
    /// Who sends PROXY headers; `None` when nobody does.
    pub accept_proxy: Option<Arc<AcceptProxy>>,
    /// Which groups get clients, by their TLS hello; `None` when nobody looks at hellos.
    pub routes: Option<Arc<Vec<Route>>>,
    /// How it speaks TLS to its clients; `None` when it does not.
    pub tls: Option<Arc<TlsSettings>>,
    /// How it speaks TLS to its servers; `None` when it does not.
    pub server_tls: Option<Arc<ServerTlsSettings>>,
    /// Where it listens.
    pub listen: Listen,
    /// True when it accepts clients.
    pub open: bool,
    /// Which PROXY header its servers get.
    pub send_proxy: SendProxy,
    /// True when that header tells the session's id.
    pub proxy_unique_id: bool,
    /// How a server is picked.
    pub policy: PolicySpec,
    /// The longest pause between two tries of a server that has failed to answer.
    pub recheck_max: Duration,
    /// A session ends when neither side has sent anything for so long; zero for never.
    pub idle_timeout: Duration,
    /// A session ends when one side has finished and the other has been silent for so long; zero for never, `None` for as
    /// long as `idle_timeout`.
    pub half_close_timeout: Option<Duration>,
    /// A session ends at this age, or up to a tenth before; zero for never.
    pub max_session_age: Duration,
    /// What is set on the clients' connections.
    pub client_tcp: ClientTcp,
    /// What is set on the connections to servers.
    pub server_tcp: ServerTcp,
    /// The lease of a server that registered itself.
    pub heartbeat_timeout: Duration,
    /// What becomes of the sessions of a server that goes.
    pub on_down: OnDown,
    /// The time over which many sessions are closed that end together.
    pub close_spread: Duration,
    /// A server that registered itself is taken out after so long a silence; zero for never.
    pub forget_after: Duration,
    /// How servers are checked; `None` when they are not.
    pub check: Option<Arc<CheckSettings>>,
    /// Servers that only checks or ejections keep out are tried when nobody else is left.
    pub fail_open: bool,
    /// When servers are ejected; `None` when they are not.
    pub eject: Option<EjectSettings>,
    /// New sessions of the group; `None` for no limit.
    pub session_rate: Option<Rate>,
    /// What each client may do; `None` for clients that are not counted.
    pub client: Option<ClientLimits>,
    /// Only clients of these networks are let in; empty for all.
    pub allow: AddressList,
    /// Clients of these networks are not.
    pub deny: AddressList,
    /// The group waits for addresses that it cannot listen on yet.
    pub bind_retry: bool,
    /// Where clients go whose hello no route takes.
    pub route_default: RouteTo,
    /// Where clients go that do not speak TLS.
    pub route_plain: RouteTo,
    /// How long the hello may take.
    pub hello_timeout: Duration,
    /// How clients may ask for TLS before their hello.
    pub starttls: Starttls,
    /// Where its sessions are told besides the log of the process.
    pub access_log: AccessChoice,
    /// The name; `None` for a group that is known by its port.
    pub name: Option<String>,
}

impl GroupSettings {
    /// The group's id.
    pub fn id(&self) -> GroupId {
        self.name.as_deref().map_or_else(|| GroupId::from(self.listen.port()), GroupId::named)
    }

    /// How long one side may be silent when the other has finished; zero for as long as it likes.
    pub fn half_close_timeout(&self) -> Duration {
        self.half_close_timeout.unwrap_or(self.idle_timeout)
    }

    /// The label under which the group is shown.
    pub(super) fn label(&self) -> GroupLabel {
        GroupLabel::new(self.listen.port(), self.name.as_deref())
    }

    /// True when this is the group's id.
    pub fn is_called(&self, id: &GroupId) -> bool {
        match &self.name {
            Some(name) => name == id.as_str(),
            None => id.as_port() == Some(self.listen.port()),
        }
    }
}
