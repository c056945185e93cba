//! Tries servers that clients could not reach, so that no client has to find out whether they are back.
//!
//! A server that has failed is tried [`FIRST_PAUSE`] later, and then after pauses that double up to `recheck_max` of its
//! group, until it answers; so is one address of a name that has failed while others answer. One whose lease is kept is tried once
//! per `heartbeat_timeout`. One connect at a time goes to an address, however many groups have a server there; but where a
//! group speaks TLS to it, the answer is a handshake, which is that group's own. Which servers that are is learned from
//! events; after a gap in them, every group is asked.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::connect::{Way, end_after_header, reach};
use super::plan::Plan;
use super::wire::Wire;
use crate::base::clock;
use crate::events::{ConfigEvent, Event, Received, ServerChange, Subscription};
use crate::group::{Group, GroupId, Target};
use crate::server::{SendProxy, ServerAddr};
use crate::sources::Running;
use crate::tls::Connector;

/// Between the failure of a server and the first try.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// Connects at a time: each takes a descriptor.
const IN_FLIGHT_MAX: usize = 64;

/// Nothing is due for so long at most.
const IDLE: Duration = Duration::from_secs(3_600);

/// A server, and the group that speaks TLS to it: whether it answers depends on whom that group trusts. Without one it is
/// tried for all groups that connect to it in plain.
type Key = (ServerAddr, Option<GroupId>);

/// A server that is being tried until it answers.
#[derive(Debug)]
struct Probe {
    /// The groups that wait for the answer.
    groups: BTreeMap<GroupId, Arc<Group>>,
    /// The pause before the next try.
    pause: Duration,
    /// When that is; `None` while a connect is under way.
    due: Option<Instant>,
}

/// A connect that is over.
struct Tried {
    key: Key,
    since_ms: u64,
    /// The microseconds it took, or why it failed; `None` when it says nothing of the server.
    outcome: Option<Result<u64, String>>,
    /// To be ended in order, after this header.
    wires: Vec<Wire>,
    header: SendProxy,
}

struct Prober {
    running: Arc<Running>,
    probes: HashMap<Key, Probe>,
    plan: Plan<Key>,
    connects: JoinSet<Tried>,
    /// Connections that are being ended: the groups need not wait for that.
    ends: JoinSet<Vec<u8>>,
}

/// Tries servers until `stop`.
pub(super) async fn run(running: Arc<Running>, mut changes: Subscription, stop: CancellationToken) {
    let (probes, plan) = (HashMap::new(), Plan::new());
    let mut prober = Prober { running, probes, plan, connects: JoinSet::new(), ends: JoinSet::new() };
    prober.look_everywhere();
    loop {
        prober.start_due();
        let next = prober.next_due();
        tokio::select! {
            () = stop.cancelled() => return,
            received = changes.next() => prober.take(received, &mut changes),
            Some(done) = prober.connects.join_next() => {
                prober.tried(done.expect("a connect neither panics nor is aborted"));
            }
            Some(ended) = prober.ends.join_next() => drop(ended.expect("an end neither panics nor is aborted")),
            () = tokio::time::sleep_until(next) => {}
        }
    }
}

impl Prober {
    fn take(&mut self, received: Received, changes: &mut Subscription) {
        let event = match &received {
            Received::Event(published) => &published.event,
            Received::Gap(_) => {
                // One look sees all that was missed, and all that has come since.
                while changes.try_next().is_some() {}
                return self.look_everywhere();
            }
        };
        match event {
            // One that was suspect when it went, and is back, is so still.
            Event::Server {
                group,
                addr,
                change:
                    ServerChange::Suspect { .. }
                    | ServerChange::AddressFailed { .. }
                    | ServerChange::LeaseKept
                    | ServerChange::Online
                    | ServerChange::Untried,
            } => {
                let groups = self.running.groups.load();
                // A label belongs to one group, whatever that is called now.
                let group = groups.iter().find(|(_, known)| known.label().is_same(group));
                if let (Some((id, group)), Ok(addr)) = (group, addr.parse::<ServerAddr>()) {
                    // A lease that is kept depends on what clients have met.
                    group.look_again(&addr);
                    if group.target(&addr).is_some() {
                        self.note(id, group, addr);
                    }
                }
            }
            // Servers and settings may have become others.
            Event::Config(ConfigEvent::Applied) => self.look_everywhere(),
            _ => {}
        }
    }

    /// Asks every group for servers to be tried.
    fn look_everywhere(&mut self) {
        let groups = Arc::clone(&self.running.groups.load());
        for (id, group) in groups.iter() {
            for (addr, _) in group.targets() {
                group.look_again(&addr);
                self.note(id, group, addr);
            }
        }
    }

    /// Has a server tried for a group.
    fn note(&mut self, id: &GroupId, group: &Arc<Group>, addr: ServerAddr) {
        let key = (addr, connector(group).map(|_| id.clone()));
        let probe = self.probes.entry(key.clone()).or_insert_with(|| {
            let due = Instant::now() + FIRST_PAUSE;
            self.plan.add(due, key);
            Probe { groups: BTreeMap::new(), pause: FIRST_PAUSE, due: Some(due) }
        });
        probe.groups.insert(id.clone(), Arc::clone(group));
    }

    /// Starts the connects that are due, as far as there is room.
    fn start_due(&mut self) {
        let now = Instant::now();
        while self.has_room() {
            let Some((due, key)) = self.plan.take_due(now) else { return };
            if self.probes.get(&key).is_some_and(|probe| probe.due == Some(due)) {
                self.start(key);
            }
        }
    }

    /// Tries a server, unless nobody wants to know any more.
    fn start(&mut self, key: Key) {
        let Some(probe) = self.probes.get_mut(&key) else { return };
        let targets = probe.targets(&key, &self.running);
        // Where one group has to know whether it answers at all, the others learn that, too.
        let Some(first) = targets.iter().find(|target| !target.is_partial).or(targets.first()) else {
            self.probes.remove(&key);
            return;
        };
        let timeout = targets.iter().map(|target| target.timeout).min().unwrap_or_default();
        probe.due = None;
        // A group that speaks TLS to it is the only one.
        let connector = key.1.as_ref().and_then(|id| connector(probe.groups.get(id)?));
        let tls = connector.map(|connector| (connector, key.0.host().into()));
        let way = Way { source: first.source, header: first.header, timeout, tls };
        let (addresses, is_partial) = (first.addresses.clone(), first.is_partial);
        let groups_addresses = targets.iter().flat_map(|target| target.addresses.iter().copied());
        match is_partial {
            true => drop(self.connects.spawn(try_each(key, groups_addresses.collect(), way))),
            false => drop(self.connects.spawn(try_whole(key, addresses, way))),
        }
    }

    /// Tells every group that waits for it what a connect has shown, and plans the next one.
    fn tried(&mut self, tried: Tried) {
        let Tried { key, since_ms, outcome, wires, header } = tried;
        let answered: Vec<SocketAddr> = wires.iter().filter_map(|wire| wire.peer_addr().ok()).collect();
        wires.into_iter().for_each(|wire| _ = self.ends.spawn(end_after_header(wire, header)));
        let Some(probe) = self.probes.get_mut(&key) else { return };
        for (group, address) in probe.groups.values().flat_map(|group| answered.iter().map(move |to| (group, *to))) {
            group.address_answered(&key.0, address);
        }
        if let Some(outcome) = &outcome {
            for group in probe.groups.values() {
                group.tried(&key.0, outcome.as_ref().map(|micros| *micros).map_err(String::as_str), since_ms);
            }
        }
        let targets = probe.targets(&key, &self.running);
        let Some(pause_max) = targets.iter().map(|target| target.pause_max).min() else {
            self.probes.remove(&key);
            return;
        };
        // Jitter, so that servers that failed together are not tried together for ever; it only shortens a pause.
        let is_doubtful = targets.iter().any(|target| target.is_suspect || target.is_partial);
        let pause = if is_doubtful { probe.pause } else { pause_max };
        let due = Instant::now() + pause.min(pause_max).mul_f64(1.0 - 0.1 * fastrand::f64());
        probe.pause = (probe.pause * 2).min(pause_max);
        probe.due = Some(due);
        self.plan.add(due, key);
    }

    fn has_room(&self) -> bool {
        self.connects.len() + self.ends.len() < IN_FLIGHT_MAX
    }

    /// When something is due next, if there is room for it.
    fn next_due(&self) -> Instant {
        let first = self.plan.first().filter(|_| self.has_room());
        first.unwrap_or_else(|| Instant::now() + IDLE)
    }
}

/// Tries whether a server answers at one of these addresses.
async fn try_whole(key: Key, addresses: Vec<SocketAddr>, way: Way) -> Tried {
    let since_us = clock::precise_us();
    let outcome = reach(&addresses, &way).await;
    let micros = clock::precise_us().saturating_sub(since_us);
    let (told, wires) = match outcome {
        Some(Ok(wire)) => (Some(Ok(micros)), vec![wire]),
        Some(Err(why)) => (Some(Err(why)), Vec::new()),
        None => (None, Vec::new()),
    };
    Tried { key, since_ms: since_us / 1_000, outcome: told, wires, header: way.header }
}

/// Tries at which of these addresses a server answers that does so at others.
async fn try_each(key: Key, addresses: BTreeSet<SocketAddr>, way: Way) -> Tried {
    let since_ms = clock::coarse_ms();
    let mut wires = Vec::new();
    for address in addresses {
        wires.extend(reach(&[address], &way).await.and_then(Result::ok));
    }
    Tried { key, since_ms, outcome: None, wires, header: way.header }
}

/// How a group speaks TLS to servers; `None` where a connect in plain has to do. Where a server has to be whom the client asks for,
/// only sessions can find out.
fn connector(group: &Group) -> Option<Arc<Connector>> {
    group.snapshot().server_tls.clone().filter(|connector| !connector.is_by_client())
}

impl Probe {
    /// How the groups that still wait want the server tried; forgets the others.
    fn targets(&mut self, (addr, speaks_tls): &Key, running: &Running) -> Vec<Target> {
        let groups = running.groups.load();
        let mut targets = Vec::new();
        self.groups.retain(|id, group| {
            let is_running = groups.get(id).is_some_and(|known| Arc::ptr_eq(known, group));
            // One that speaks TLS to the server now, or no longer, has it tried elsewhere.
            let is_here = is_running && connector(group).is_some() == speaks_tls.is_some();
            let target = is_here.then(|| group.target(addr)).flatten();
            targets.extend(target.clone());
            target.is_some()
        });
        targets
    }
}
