//! Tries servers that clients could not reach, so that no client has to find out whether they are back.
//!
//! A server that has failed is tried [`FIRST_PAUSE`] later, and then after pauses that double up to `recheck_max` of its
//! group, until it answers; so is one address of a name that has failed while others answer. One whose lease is kept is tried once per `heartbeat_timeout`. One connect at a time goes to
//! an address, however many groups have a server there. Which servers that are is learned from events; after a gap in
//! them, every group is asked.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::connect::{connect, end_after_header};
use super::plan::Plan;
use crate::base::clock;
use crate::events::{ConfigEvent, Event, Received, ServerChange, Subscription};
use crate::group::{Group, GroupId, Target};
use crate::server::{SendProxy, ServerAddr};
use crate::sources::Running;

/// Between the failure of a server and the first try.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// Connects at a time: each takes a descriptor.
const IN_FLIGHT_MAX: usize = 64;

/// Nothing is due for so long at most.
const IDLE: Duration = Duration::from_secs(3_600);

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

/// How a server is tried: the way a session would go.
#[derive(Clone, Copy, Debug)]
struct Way {
    source: Option<IpAddr>,
    header: SendProxy,
    timeout: Duration,
}

/// A connect that is over.
struct Tried {
    addr: ServerAddr,
    since_ms: u64,
    /// The microseconds it took, or why it failed; `None` when it says nothing of the server.
    outcome: Option<Result<u64, String>>,
    /// To be ended in order, after this header.
    streams: Vec<TcpStream>,
    header: SendProxy,
}

struct Prober {
    running: Arc<Running>,
    probes: HashMap<ServerAddr, Probe>,
    plan: Plan<ServerAddr>,
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
        let probe = self.probes.entry(addr.clone()).or_insert_with(|| {
            let due = Instant::now() + FIRST_PAUSE;
            self.plan.add(due, addr);
            Probe { groups: BTreeMap::new(), pause: FIRST_PAUSE, due: Some(due) }
        });
        probe.groups.insert(id.clone(), Arc::clone(group));
    }

    /// Starts the connects that are due, as far as there is room.
    fn start_due(&mut self) {
        let now = Instant::now();
        while self.has_room() {
            let Some((due, addr)) = self.plan.take_due(now) else { return };
            if self.probes.get(&addr).is_some_and(|probe| probe.due == Some(due)) {
                self.start(addr);
            }
        }
    }

    /// Tries a server, unless nobody wants to know any more.
    fn start(&mut self, addr: ServerAddr) {
        let Some(probe) = self.probes.get_mut(&addr) else { return };
        let targets = probe.targets(&addr, &self.running);
        // Where one group has to know whether it answers at all, the others learn that, too.
        let Some(first) = targets.iter().find(|target| !target.is_partial).or(targets.first()) else {
            self.probes.remove(&addr);
            return;
        };
        let timeout = targets.iter().map(|target| target.timeout).min().unwrap_or_default();
        probe.due = None;
        let (addresses, way, is_partial) =
            (first.addresses.clone(), Way { source: first.source, header: first.header, timeout }, first.is_partial);
        let groups_addresses = targets.iter().flat_map(|target| target.addresses.iter().copied());
        match is_partial {
            true => drop(self.connects.spawn(try_each(addr, groups_addresses.collect(), way))),
            false => drop(self.connects.spawn(try_whole(addr, addresses, way))),
        }
    }

    /// Tells every group that waits for it what a connect has shown, and plans the next one.
    fn tried(&mut self, tried: Tried) {
        let Tried { addr, since_ms, outcome, streams, header } = tried;
        let answered: Vec<SocketAddr> = streams.iter().filter_map(|stream| stream.peer_addr().ok()).collect();
        streams.into_iter().for_each(|stream| _ = self.ends.spawn(end_after_header(stream, header)));
        let Some(probe) = self.probes.get_mut(&addr) else { return };
        for (group, address) in probe.groups.values().flat_map(|group| answered.iter().map(move |to| (group, *to))) {
            group.address_answered(&addr, address);
        }
        if let Some(outcome) = &outcome {
            for group in probe.groups.values() {
                group.tried(&addr, outcome.as_ref().map(|micros| *micros).map_err(String::as_str), since_ms);
            }
        }
        let targets = probe.targets(&addr, &self.running);
        let Some(pause_max) = targets.iter().map(|target| target.pause_max).min() else {
            self.probes.remove(&addr);
            return;
        };
        // Jitter, so that servers that failed together are not tried together for ever; it only shortens a pause.
        let is_doubtful = targets.iter().any(|target| target.is_suspect || target.is_partial);
        let pause = if is_doubtful { probe.pause } else { pause_max };
        let due = Instant::now() + pause.min(pause_max).mul_f64(1.0 - 0.1 * fastrand::f64());
        probe.pause = (probe.pause * 2).min(pause_max);
        probe.due = Some(due);
        self.plan.add(due, addr);
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
async fn try_whole(addr: ServerAddr, addresses: Vec<SocketAddr>, way: Way) -> Tried {
    let since_us = clock::precise_us();
    let outcome = connect(&addresses, way.source, way.timeout).await;
    let micros = clock::precise_us().saturating_sub(since_us);
    let (told, streams) = match outcome {
        Some(Ok(stream)) => (Some(Ok(micros)), vec![stream]),
        Some(Err(why)) => (Some(Err(why)), Vec::new()),
        None => (None, Vec::new()),
    };
    Tried { addr, since_ms: since_us / 1_000, outcome: told, streams, header: way.header }
}

/// Tries at which of these addresses a server answers that does so at others.
async fn try_each(addr: ServerAddr, addresses: BTreeSet<SocketAddr>, way: Way) -> Tried {
    let since_ms = clock::coarse_ms();
    let mut streams = Vec::new();
    for address in addresses {
        streams.extend(connect(&[address], way.source, way.timeout).await.and_then(Result::ok));
    }
    Tried { addr, since_ms, outcome: None, streams, header: way.header }
}

impl Probe {
    /// How the groups that still wait want the server tried; forgets the others.
    fn targets(&mut self, addr: &ServerAddr, running: &Running) -> Vec<Target> {
        let groups = running.groups.load();
        let mut targets = Vec::new();
        self.groups.retain(|id, group| {
            let is_running = groups.get(id).is_some_and(|known| Arc::ptr_eq(known, group));
            let target = is_running.then(|| group.target(addr)).flatten();
            targets.extend(target.clone());
            target.is_some()
        });
        targets
    }
}
