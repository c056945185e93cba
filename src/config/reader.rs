//! What reading a file knows and has found so far.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use super::problem::Problems;
use crate::group::{GroupId, GroupSettings};
use crate::limits::AddressList;
use crate::server::ServerAddr;
use crate::tls::{Certificate, ServerTlsSettings, TlsSettings};

/// What reading knows and has found so far.
pub(super) struct Reader<'e> {
    /// Where relative paths start.
    pub(super) folder: PathBuf,
    /// The environment.
    pub(super) env: &'e dyn Fn(&str) -> Option<String>,
    /// What is wrong.
    pub(super) problems: Problems,
    /// What holds for a group that says nothing, once `defaults` has been read.
    pub(super) base: Option<GroupSettings>,
    /// The group that is being read, by its index in the file.
    pub(super) group: usize,
    /// What the groups are called.
    pub(super) names: Vec<Named>,
    /// Who listens where.
    pub(super) listeners: Vec<Listens>,
    /// The servers.
    pub(super) servers: Vec<Serves>,
    /// The groups that routes lead to.
    pub(super) routes: Vec<RoutesTo>,
    /// Where the policy of each group that was read is written, by offset and path.
    pub(super) policies: Vec<(usize, String)>,
    /// Where the policy of `defaults` is written.
    pub(super) default_policy: (usize, String),
    /// The other files that this one names.
    pub(super) other_files: Vec<PathBuf>,
    /// The secrets that are in force, as they are written and what they are: one stands in while its file cannot be read.
    pub(super) secrets: Vec<(String, String)>,
    /// Why secrets stand in.
    pub(super) kept_secrets: Vec<String>,
    /// The lists of networks that are in force.
    pub(super) known_lists: KnownLists,
    /// Why lists of networks stand in.
    pub(super) kept_lists: Vec<String>,
    /// The certificates that are in force.
    pub(super) known_certificates: Vec<Certificate>,
    /// How groups speak TLS to clients now.
    pub(super) known_tls: Vec<Arc<TlsSettings>>,
    /// How groups and checks speak TLS to servers now.
    pub(super) known_server_tls: Vec<Arc<ServerTlsSettings>>,
    /// Why certificates stand in.
    pub(super) kept_certificates: Vec<String>,
    /// What is no mistake but may be meant otherwise.
    pub(super) doubts: Vec<String>,
}

/// The lists of networks that are in force.
#[derive(Default)]
pub(super) struct KnownLists {
    /// By how they are written.
    pub(super) lists: HashMap<Vec<String>, AddressList>,
    /// A list whose files cannot be read may be taken from here.
    pub(super) may_stay: bool,
}

/// What a group is called.
pub(super) struct Named {
    /// The group's index in the file.
    pub(super) group: usize,
    pub(super) name: Option<String>,
    /// Where the name is written.
    pub(super) offset: usize,
    /// The group has routes.
    pub(super) has_routes: bool,
    /// Clients of the group may have to send a PROXY header.
    pub(super) accepts_proxy: bool,
    /// The group speaks TLS to its clients.
    pub(super) speaks_tls: bool,
    /// The group speaks TLS to its servers.
    pub(super) speaks_server_tls: bool,
}

/// A group that gets clients by a route.
pub(super) struct RoutesTo {
    /// The index in the file of the group with the route.
    pub(super) from: usize,
    /// The group that is named.
    pub(super) to: GroupId,
    /// Clients may have asked for TLS before their hello, and their servers are to be asked the same.
    pub(super) has_asked_for_tls: bool,
    /// Where it is written.
    pub(super) offset: usize,
    pub(super) path: String,
}

/// One address of the file that the process would listen on.
pub(super) struct Listens {
    pub(super) addr: SocketAddr,
    /// Where it is written.
    pub(super) offset: usize,
    pub(super) path: String,
    /// The group's index in the file; `None` for an admin endpoint.
    pub(super) group: Option<usize>,
}

/// One server of the file. There may be very many, so nothing is kept that can be made when it is needed.
pub(super) struct Serves {
    pub(super) addr: ServerAddr,
    pub(super) name: Option<Arc<String>>,
    /// Each address of its name is a server of its own.
    pub(super) is_expanded: bool,
    /// Where its address is written.
    pub(super) offset: usize,
    /// The group's index in the file, and the server's in the group.
    pub(super) group: usize,
    pub(super) index: usize,
    /// The server is its address alone, and no object.
    pub(super) is_plain: bool,
}

impl Serves {
    /// Where its address is written.
    pub(super) fn path(&self) -> String {
        let Self { group, index, .. } = self;
        format!("groups[{group}].servers[{index}]{}", if self.is_plain { "" } else { ".addr" })
    }
}

impl<'e> Reader<'e> {
    pub(super) fn new(folder: PathBuf, env: &'e dyn Fn(&str) -> Option<String>) -> Self {
        Self {
            folder,
            env,
            problems: Problems::default(),
            base: None,
            group: 0,
            names: Vec::new(),
            listeners: Vec::new(),
            servers: Vec::new(),
            routes: Vec::new(),
            policies: Vec::new(),
            default_policy: (0, String::new()),
            other_files: Vec::new(),
            secrets: Vec::new(),
            kept_secrets: Vec::new(),
            known_lists: KnownLists::default(),
            kept_lists: Vec::new(),
            known_certificates: Vec::new(),
            known_tls: Vec::new(),
            known_server_tls: Vec::new(),
            kept_certificates: Vec::new(),
            doubts: Vec::new(),
        }
    }
}
