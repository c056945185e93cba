//! A module with servers that exist only in memory: asks it, and judges its answers.
//!
//! Time and randomness come from the rig, so that two runs ask the same. The first fault ends a rig: its text is the
//! error of the call that met it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crate::base::clock;
use crate::base::random::scatter;
use crate::counters::FaultKind;
use crate::policy::spec::ModuleSpec;
use crate::policy::wasm::trial::{Trial, TrialPolicy};
use crate::policy::{IBalancePolicy, Outcome, PickRequest, ServerSet};
use crate::server::{Avoided, Live, Origin, Server, ServerId, ServerSettings};

/// The group that the module is told it works for.
pub(super) const GROUP: u16 = 8081;

/// Ids begin here, so that an index that is used as an id is noticed.
const ID_FIRST: u32 = 1_000_000;

/// Milliseconds between two requests. The proxy tells a module at most every 10 ms which servers have become full or
/// suspect; with this step it has done so before each request.
const STEP_MS: u64 = 10;

/// How many times more a scene is played in which the module exceeded its deadline. Processor time does not pass while
/// other processes run; but a virtual machine does not notice when its host is busy, and then all clocks go on.
const CHANCES: u32 = 2;

/// What all rigs of a run share.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) trial: &'a Trial,
    pub(super) spec: &'a ModuleSpec,
    /// The time at which every rig begins, on the clock of [`clock::coarse_ms`]. It lies after the end of the whole
    /// run.
    pub(super) start_ms: u64,
}

/// A module at work.
pub(super) struct Rig {
    module: TrialPolicy,
    /// Prepared for the servers.
    policy: Arc<dyn IBalancePolicy>,
    set: Arc<ServerSet>,
    now_ms: u64,
    random: fastrand::Rng,
    tally: Tally,
}

/// What was asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Picks for which there was a server that could be picked.
    pub(super) picks: u64,
    /// How many of these the module answered with none.
    pub(super) none: u64,
}

impl Subject<'_> {
    /// Plays a scene from the start, on a rig of its own. Returns the tally even when the module fails.
    pub(super) fn play<T>(self, mut scene: impl FnMut(&mut Rig) -> Result<T, String>) -> (Tally, Result<T, String>) {
        let mut chances = CHANCES;
        loop {
            let mut rig = match Rig::new(self) {
                Ok(rig) => rig,
                Err(text) => return (Tally::default(), Err(text)),
            };
            let played = scene(&mut rig);
            let was_stopped = rig.module.counters().faults(FaultKind::Deadline) > 0;
            if chances == 0 || !was_stopped {
                return (rig.tally, played);
            }
            chances -= 1;
        }
    }
}

impl Rig {
    /// Makes an instance that has no servers yet.
    ///
    /// # Errors
    ///
    /// It refuses its configuration or fails in its first calls.
    pub(super) fn new(subject: Subject<'_>) -> Result<Self, String> {
        let module = subject.trial.policy(subject.spec, GROUP).map_err(|error| error.problem().to_owned())?;
        let policy = Arc::clone(&module.policy);
        let (set, random) = (Arc::default(), fastrand::Rng::with_seed(1));
        Ok(Self { module, policy, set, now_ms: subject.start_ms, random, tally: Tally::default() })
    }

    /// What the module calls itself, and its version.
    pub(super) fn description(&self) -> (&str, &str) {
        (&self.module.name, &self.module.version)
    }

    /// Bytes of memory that the instance holds.
    pub(super) fn memory_bytes(&self) -> Option<u64> {
        self.module.memory_bytes()
    }

    /// The servers as they are.
    pub(super) fn servers(&self) -> &[Arc<Server>] {
        &self.set.servers
    }

    /// The time of the next request.
    pub(super) fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// From now on it is this time, in milliseconds.
    pub(super) fn set_now_ms(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
    }

    /// From now on these are the servers.
    pub(super) fn show(&mut self, servers: Vec<Arc<Server>>) -> Result<(), String> {
        self.set = Arc::new(ServerSet { generation: self.set.generation + 1, backup: false, servers });
        self.policy = self.policy.for_servers(&self.set);
        self.judge()
    }

    /// Picks a server for this client; returns its index.
    pub(super) fn ask(&mut self, client: SocketAddr, tried: &[ServerId]) -> Result<Option<usize>, String> {
        self.now_ms += STEP_MS;
        let random = self.random.u64(..);
        let request = PickRequest { client, attempt: tried.len() as u32, tried, random, ..self.request() };
        let picked = self.policy.pick(&request).map(|picked| picked.index);
        self.judge()?;
        if picked.is_some_and(|index| !request.is_open(index)) {
            return Err(format!("pick answered server {picked:?} of the list, which may not be picked"));
        }
        let could_be = (0..request.len()).any(|index| request.is_open(index));
        self.tally.picks += u64::from(could_be);
        self.tally.none += u64::from(could_be && picked.is_none());
        Ok(picked)
    }

    /// Picks this many times; returns the nanoseconds it took.
    pub(super) fn time(&mut self, picks: u32) -> Result<u64, String> {
        let mut none = 0;
        let began_ns = clock::precise_ns();
        for number in 0..picks {
            let request = PickRequest { client: client(number), random: u64::from(number), ..self.request() };
            none += u64::from(self.policy.pick(&request).is_none());
        }
        let took_ns = clock::precise_ns() - began_ns;
        self.judge()?;
        self.tally.picks += u64::from(picks);
        self.tally.none += none;
        Ok(took_ns)
    }

    /// Tells the module what became of a pick.
    pub(super) fn report(&mut self, id: ServerId, outcome: Outcome) -> Result<(), String> {
        self.module.report(id, outcome);
        self.judge()
    }

    /// A first attempt of some client.
    fn request(&self) -> PickRequest<'_> {
        PickRequest {
            client: client(0),
            group: GROUP,
            attempt: 0,
            servers: &self.set,
            tried: &[],
            avoided: Avoided::DOUBTFUL,
            now_ms: self.now_ms,
            random: 0,
        }
    }

    /// An error if the last call was a fault or the fallback had to answer.
    fn judge(&self) -> Result<(), String> {
        let counters = self.module.counters();
        if counters.faults_total() == 0 && counters.fallbacks.load(Relaxed) == 0 {
            return Ok(());
        }
        Err(self.module.last_fault().unwrap_or_else(|| "its fallback had to answer".to_owned()))
    }
}

/// A time within which something is to be done.
#[derive(Clone, Copy)]
pub(super) struct Budget(Instant);

impl Budget {
    pub(super) fn new(time: Duration) -> Self {
        Self(Instant::now() + time)
    }

    pub(super) fn is_over(self) -> bool {
        Instant::now() >= self.0
    }
}

/// A server, by its number: each has an address and an id of its own, in one of three zones.
pub(super) fn server(number: u32, weight: u32, max_sessions: u32) -> Arc<Server> {
    let addr = SocketAddr::from((Ipv4Addr::from(0x0a00_0000 + number), 9_000));
    let mut settings =
        ServerSettings { weight: weight as u16, max_sessions, ..ServerSettings::new(addr.into(), Origin::File) };
    settings.labels.insert("zone".to_owned(), ["a", "b", "c"][number as usize % 3].to_owned());
    Arc::new(Server { id: ServerId(ID_FIRST + number), settings, live: Arc::new(Live::new(vec![addr])) })
}

/// Servers of these numbers and of different weights.
pub(super) fn servers(numbers: std::ops::Range<u32>) -> Vec<Arc<Server>> {
    numbers.map(|number| server(number, 1 + number % 3, 0)).collect()
}

/// A client by its number. Each has its own IP; several may have the same port.
pub(super) fn client(number: u32) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::from(scatter(number))), port(number))
}

/// One of the ports from which systems let clients connect.
fn port(number: u32) -> u16 {
    const FIRST: u32 = 1_024;
    (FIRST + number.wrapping_mul(7_919) % (u32::from(u16::MAX) + 1 - FIRST)) as u16
}

/// The same for IPv6.
pub(super) fn client_v6(number: u32) -> SocketAddr {
    let ip = 0x2001_0db8_u128 << 96 | u128::from(scatter(number));
    SocketAddr::new(IpAddr::V6(Ipv6Addr::from(ip)), port(number))
}
