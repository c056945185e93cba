//! What a policy is, what it is asked, and what it hears.

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::server::{Avoided, Live, Server, ServerId};

/// Servers that a policy may be shown together, immutable: those of a group that are online.
#[derive(Debug, Default)]
pub struct ServerSet {
    /// Grows with every change of the group's servers; 0 only for the empty set of a new group.
    pub generation: u64,
    /// True for the set of backups, which is asked only when no other server will do.
    pub backup: bool,
    /// In the order of the file, then of registration.
    pub servers: Vec<Arc<Server>>,
}

/// Why a server of the set is closed to this session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// This session has already tried it.
    Tried,
    /// It holds as many sessions as it may.
    Full,
    /// It is suspect or ejected, and others are left to try.
    Avoided,
}

/// One session's question: who shall serve this client?
#[derive(Clone, Copy)]
pub struct PickRequest<'a> {
    /// The client's address as accepted. Policies that hash take the IP only.
    pub client: SocketAddr,
    /// The group's port.
    pub group: u16,
    /// 0 for the first try, then 1, 2, … as servers fail to answer.
    pub attempt: u32,
    /// The servers to choose from; the same set the policy was prepared for.
    pub servers: &'a ServerSet,
    /// Ids of the servers this session has tried.
    pub tried: &'a [ServerId],
    /// Which servers are passed over; the group asks again for fewer of them when nobody else is left.
    pub avoided: Avoided,
    /// Milliseconds on the clock of [`crate::base::clock::coarse_ms`].
    pub now_ms: u64,
    /// A fresh random number, so that a recorded run repeats exactly.
    pub random: u64,
}

impl PickRequest<'_> {
    /// True when the server at `index` may be the answer.
    pub fn is_open(&self, index: usize) -> bool {
        self.why_closed(index).is_none()
    }

    /// Why the server at `index` may not be the answer; `None` when it may.
    pub fn why_closed(&self, index: usize) -> Option<Closed> {
        let server = &self.servers.servers[index];
        let live: &Live = &server.live;
        if self.tried.contains(&server.id) {
            Some(Closed::Tried)
        } else if server.is_full() {
            Some(Closed::Full)
        } else if live.is_avoided(self.avoided) {
            Some(Closed::Avoided)
        } else {
            None
        }
    }

    /// The number of servers in the set, open or not.
    pub fn len(&self) -> usize {
        self.servers.servers.len()
    }

    /// True when there is nothing to choose from.
    pub fn is_empty(&self) -> bool {
        self.servers.servers.is_empty()
    }
}

/// Which instance of a policy made a pick. Unique in the process and never used again, so that what became of the pick
/// is told to nobody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch(NonZeroU64);

impl Epoch {
    /// One that nobody has had before.
    pub fn next() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let next = LAST.fetch_add(1, Relaxed) + 1;
        Self(NonZeroU64::new(next).expect("nobody counts to 2⁶⁴"))
    }

    /// As a number, which is never 0.
    pub fn get(self) -> u64 {
        self.0.get()
    }

    /// The epoch of this number; `None` for 0.
    pub fn from_number(number: u64) -> Option<Self> {
        NonZeroU64::new(number).map(Self)
    }
}

/// A policy's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Picked {
    /// The index of an open server in [`PickRequest::servers`].
    pub index: usize,
    /// Who is to hear what becomes of the pick; `None` when nobody wants to.
    pub epoch: Option<Epoch>,
}

impl Picked {
    /// An answer of a policy that does not learn from what becomes of it.
    pub fn new(index: usize) -> Self {
        Self { index, epoch: None }
    }
}

/// What became of a pick: for policies that learn from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The server was reached.
    Connected {
        /// Microseconds it took.
        micros: u32,
    },
    /// The server was not reached.
    Failed,
    /// The session that had reached the server is over.
    Closed {
        /// Milliseconds from accepting the client.
        millis: u64,
        /// Bytes moved, both ways.
        bytes: u64,
    },
}

/// Why a policy cannot be rehearsed now, for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RehearsalError(pub String);

/// How a server is picked. The name is given.
pub trait IBalancePolicy: Send + Sync {
    /// The name in the file and in the log: `round_robin`.
    fn name(&self) -> &str;

    /// The same policy, its counters kept, prepared for another set of servers.
    ///
    /// Called off the data path. Sessions may go on asking the old one while this runs, so counters
    /// are shared between the two, not copied.
    fn for_servers(&self, servers: &Arc<ServerSet>) -> Arc<dyn IBalancePolicy>;

    /// A policy for servers that are tried only when nobody else is left: this one, prepared for them, or a simpler one.
    fn for_last_resort(&self, servers: &Arc<ServerSet>) -> Arc<dyn IBalancePolicy> {
        self.for_servers(servers)
    }

    /// The same policy with counters of its own, which start where these are: what it is asked changes
    /// nothing here. It answers the next request as this one would, as far as the policy's state can be copied.
    ///
    /// # Errors
    ///
    /// A module's throw-away instance fails; built-in policies can always be rehearsed.
    fn rehearsal(&self) -> Result<Arc<dyn IBalancePolicy>, RehearsalError>;

    /// An open server; `None` when no server will do.
    ///
    /// Called on the data path by several threads at once.
    fn pick(&self, request: &PickRequest<'_>) -> Option<Picked>;

    /// Called when the policy has named none of the servers it was shown although one of these is open: what now?
    /// `None` refuses the client. Called on the data path.
    ///
    /// A built-in policy names nobody only while all servers are closed; one has opened since, so it is asked again.
    fn named_nobody(&self, request: &PickRequest<'_>) -> Option<Picked> {
        self.pick(request)
    }

    /// Hears what became of a pick that was made with this epoch, of the server with this id. Ignores an epoch that is
    /// not its own. Called on the data path.
    fn report(&self, _epoch: Epoch, _server: ServerId, _outcome: Outcome) {}
}
