//! Who is let in: networks, sessions of each client, and rates.
//!
//! [`admit`] is the whole decision, for a client whose address is known. The narrowest limit comes first, and tokens
//! are taken last, so who is over a limit of his own spends nothing that belongs to others. A group without limits has
//! no [`GroupLimits`], and the data path pays for that one look. What may be said of a client that is turned away is
//! limited here as well ([`ProcessLimits::may_name`]). The numbers of sessions that a group and the process hold are
//! counted where sessions are registered; reading settings is left to `config`.

mod clients;
mod lines;
mod networks;
mod rate;
mod share;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use clients::{Allowance, ClientTable, Entered, SHARDS};
pub use clients::{ClientFigures, ClientKey, ClientLimits};
use lines::RefusedLines;
pub use lines::Unsaid;
pub use networks::{AddressList, Networks};
pub use rate::Rate;
use rate::{Bucket, Pace};
use share::Share;

use crate::base::clock;
use crate::counters::{EndReason, Limit};

/// Why a client is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is in a network that is denied, or in none that is allowed.
    Denied,
    /// It is over a limit.
    Over(Limit),
}

/// What is counted of a group's clients, whatever its settings are.
#[derive(Debug)]
pub struct GroupState {
    /// Unlike that of any other group.
    number: u32,
    rate: Bucket,
    share: Share,
}

/// The limits of a group as they are in force.
#[derive(Debug)]
pub struct GroupLimits {
    deny: AddressList,
    allow: AddressList,
    client: Option<Allowance>,
    state: Arc<GroupState>,
}

/// The limits of the process, and what is known of its clients.
#[derive(Debug, Default)]
pub struct ProcessLimits {
    rate: Bucket,
    clients: ClientTable,
    lines: RefusedLines,
}

/// Lets a client in whose real address is `client`, or not. When it is counted, the answer has to be given back to
/// [`ProcessLimits::leave`] once its session is over.
///
/// # Errors
///
/// Why it is turned away. Nothing is taken then.
pub fn admit(
    client: IpAddr,
    group: Option<&GroupLimits>,
    process: &ProcessLimits,
) -> Result<Option<ClientKey>, Refusal> {
    let client = client.to_canonical();
    let Some(group) = group else {
        let now_ns = if process.rate.is_used() { clock::precise_ns() } else { 0 };
        return if process.rate.take(now_ns) { Ok(None) } else { Err(Refusal::Over(Limit::ProcessRate)) };
    };
    if !group.lets_in(client) {
        return Err(Refusal::Denied);
    }
    admit_to_group::<true>(client, group, process)
}

/// The same for a client that the process has let in before, to another group.
///
/// # Errors
///
/// As [`admit`].
pub fn admit_again(client: IpAddr, group: &GroupLimits, process: &ProcessLimits) -> Result<Option<ClientKey>, Refusal> {
    let client = client.to_canonical();
    if !group.lets_in(client) {
        return Err(Refusal::Denied);
    }
    admit_to_group::<false>(client, group, process)
}

/// What is counted for a client that is not denied; for the process only where it `IS_NEW`.
#[inline]
fn admit_to_group<const IS_NEW: bool>(
    client: IpAddr,
    group: &GroupLimits,
    process: &ProcessLimits,
) -> Result<Option<ClientKey>, Refusal> {
    let state = &*group.state;
    if group.client.is_none() && !state.rate.is_used() && !(IS_NEW && process.rate.is_used()) {
        return Ok(None);
    }
    let now_ns = clock::precise_ns();
    // Each is asked before any token is taken. Only between the two may somebody else take the last one.
    let rates = || match () {
        () if !state.rate.has_token(now_ns) => Err(Limit::GroupRate),
        () if IS_NEW && !process.rate.has_token(now_ns) => Err(Limit::ProcessRate),
        () if !state.rate.take(now_ns) => Err(Limit::GroupRate),
        () if IS_NEW && !process.rate.take(now_ns) => Err(Limit::ProcessRate),
        () => Ok(()),
    };
    let Some(allowance) = &group.client else {
        return rates().map(|()| None).map_err(Refusal::Over);
    };
    let key = ClientKey::new(client, state.number, allowance);
    let entered = process.clients.enter(&key, allowance, now_ns, rates).map_err(Refusal::Over)?;
    state.share.count(key.number());
    Ok((entered == Entered::Counted).then_some(key))
}

impl Default for GroupState {
    fn default() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        Self { number: NEXT.fetch_add(1, Relaxed), rate: Bucket::default(), share: Share::default() }
    }
}

impl GroupState {
    /// True when one client had nearly all new sessions of the group since the last call, as far as clients are limited.
    pub fn take_is_one_client(&self) -> bool {
        self.share.take_is_one()
    }

    /// True for a client of this group.
    pub fn is_of(&self, client: &ClientKey) -> bool {
        client.group() == self.number
    }
}

impl GroupLimits {
    /// The limits of the group with this state from now on; `None` when there are none.
    pub fn new(
        state: &Arc<GroupState>,
        rate: Option<&Rate>,
        client: Option<&ClientLimits>,
        (deny, allow): (&AddressList, &AddressList),
    ) -> Option<Arc<Self>> {
        state.rate.set_pace(rate.map(Pace::new), clock::precise_ns());
        if rate.is_none() && client.is_none() && deny.is_empty() && allow.is_empty() {
            return None;
        }
        let (deny, allow, client) = (deny.clone(), allow.clone(), client.map(Allowance::new));
        Some(Arc::new(Self { deny, allow, client, state: Arc::clone(state) }))
    }

    /// True when the lists let a client with this canonical address in.
    pub fn lets_in(&self, client: IpAddr) -> bool {
        !self.deny.contains(client) && (self.allow.is_empty() || self.allow.contains(client))
    }
}

impl ProcessLimits {
    /// True while the process has a rate.
    #[inline]
    pub fn has_rate(&self) -> bool {
        self.rate.is_used()
    }

    /// From now on so many new sessions may begin.
    pub fn set_rate(&self, rate: Option<&Rate>) {
        self.rate.set_pace(rate.map(Pace::new), clock::precise_ns());
    }

    /// A session of a client that was counted is over.
    pub fn leave(&self, client: &ClientKey) {
        self.clients.leave(client, clock::precise_ns());
    }

    /// True when the log may name a client that was turned away with this `end`, because it was over `limit` if there is
    /// one. The others are counted.
    pub fn may_name(&self, end: EndReason, limit: Option<Limit>) -> bool {
        self.lines.may_name(end, limit, clock::precise_ns())
    }

    /// The clients whom the log has not named since the last call.
    pub fn take_unsaid(&self) -> Unsaid {
        self.lines.take_unsaid()
    }

    /// Forgets some of the clients that need not be known: all of them in as many calls as there are
    /// [parts](Self::PARTS). `round` counts the calls.
    pub fn sweep(&self, round: usize) {
        self.clients.sweep(round, clock::precise_ns());
    }

    /// Of the table of clients.
    pub const PARTS: usize = SHARDS;

    /// Clients that are known.
    pub fn tracked(&self) -> u64 {
        self.clients.tracked()
    }

    /// Clients that were let through without being counted because the table was full.
    pub fn untracked(&self) -> u64 {
        self.clients.untracked()
    }

    /// The `count` clients with the most sessions, of these groups or of all. Takes a while when there are many.
    pub fn busiest(&self, count: usize, groups: Option<&[&GroupState]>) -> Vec<ClientFigures> {
        self.clients
            .busiest(count, |number| groups.is_none_or(|groups| groups.iter().any(|group| group.number == number)))
    }
}
