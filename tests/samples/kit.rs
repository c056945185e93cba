//! A sample at work on servers that exist only in memory.
//!
//! Time, randomness, sessions and connect times are the test's. Each answer is checked before a test sees it: it may
//! be picked, it is an answer whenever there is one, and no fault was counted on the way to it.

use std::any::Any;
use std::net::{Ipv4Addr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use goproxy::base::clock;
use goproxy::policy::spec::ModuleSpec;
use goproxy::policy::wasm::trial::{Trial, TrialPolicy};
use goproxy::policy::{IBalancePolicy, Outcome, PickRequest, Picked, ServerSet};
use goproxy::server::{Avoided, Live, Origin, Server, ServerId, ServerSettings};

/// How large a file is read.
pub(crate) const FILE_BYTES_MAX: u64 = 8 << 20;

/// How often a promise is tried again because a deadline passed while the machine was busy with others.
const TRIES_MAX: u32 = 5;

/// How the proxy says that a deadline has passed.
const PAST_DEADLINE: &str = "took longer than";

/// How long tests may wait, in milliseconds: they begin so far ahead of the clock that lists are told by.
const AHEAD_MS: u64 = 600_000;

/// Time from one client to the next, in milliseconds: enough for the module to be told who is full or suspect.
const STEP_MS: u64 = 10;

/// Where the samples are.
pub(crate) fn folder() -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.join(std::env::var_os("GOPROXY_POLICIES").unwrap_or_else(|| "policies".into()))
}

/// Puts the sample to work with this configuration and sees to it that the promise is kept. Each call of `promise`
/// gets a fresh instance.
///
/// How long the proxy waits for a list to be taken is not for tests to choose. On a machine that stops this thread
/// for so long, the promise is tried again from the start.
pub(crate) fn promise(file: &str, config: &str, promise: impl Fn(&mut Group)) {
    let trial = Trial::load(&folder().join(file), FILE_BYTES_MAX).unwrap_or_else(|error| panic!("{error}"));
    promise_of(&trial, config, promise);
}

/// The same for a file that has been loaded.
pub(crate) fn promise_of(trial: &Trial, config: &str, promise: impl Fn(&mut Group)) {
    for tries_left in (0..TRIES_MAX).rev() {
        match catch_unwind(AssertUnwindSafe(|| promise(&mut Group::new(trial, config)))) {
            Ok(()) => return,
            Err(panic) if tries_left > 0 && is_deadline(&*panic) => {}
            Err(panic) => resume_unwind(panic),
        }
    }
}

/// What the sample says to a configuration that it does not take.
pub(crate) fn refusal(file: &str, config: &str) -> String {
    let trial = Trial::load(&folder().join(file), FILE_BYTES_MAX).unwrap_or_else(|error| panic!("{error}"));
    let ask = || trial.policy(&spec(config), 8_081).err().expect("this configuration is refused").to_string();
    let is_busy = |text: &String| text.contains(PAST_DEADLINE);
    (0..TRIES_MAX).map(|_| ask()).find(|text| !is_busy(text)).expect("configure keeps its deadline")
}

fn is_deadline(panic: &(dyn Any + Send)) -> bool {
    panic.downcast_ref::<String>().is_some_and(|text| text.contains(PAST_DEADLINE))
}

/// A sample and the group it works for.
pub(crate) struct Group {
    module: TrialPolicy,
    /// Prepared for the servers.
    policy: Arc<dyn IBalancePolicy>,
    set: Arc<ServerSet>,
    now_ms: u64,
    random: u64,
}

impl Group {
    fn new(trial: &Trial, config: &str) -> Self {
        let module = trial.policy(&spec(config), 8_081).unwrap_or_else(|error| panic!("{error}"));
        let policy = Arc::clone(&module.policy);
        Self { module, policy, set: Arc::default(), now_ms: clock::coarse_ms() + AHEAD_MS, random: 1 }
    }

    /// What the module calls itself, and its version.
    pub(crate) fn description(&self) -> (&str, &str) {
        (&self.module.name, &self.module.version)
    }

    /// From now on these are the servers.
    pub(crate) fn show(&mut self, servers: impl IntoIterator<Item = Arc<Server>>) {
        let servers = servers.into_iter().collect();
        self.set = Arc::new(ServerSet { generation: self.set.generation + 1, backup: false, servers });
        self.policy = self.policy.for_servers(&self.set);
        self.assert_no_fault();
    }

    /// Time passes.
    pub(crate) fn wait(&mut self, time: Duration) {
        self.now_ms += clock::as_ms(time);
    }

    /// The number of the server that a new client gets.
    pub(crate) fn pick(&mut self, client: SocketAddr) -> Option<u32> {
        self.pick_again(client, &[])
    }

    /// The numbers of the servers that so many clients get, one after the other.
    pub(crate) fn picks(&mut self, clients: u32) -> Vec<u32> {
        (0..clients).map(|number| self.pick(client(number)).expect("somebody is left")).collect()
    }

    /// The number of the server that a client gets who was failed by these.
    pub(crate) fn pick_again(&mut self, client: SocketAddr, tried: &[u32]) -> Option<u32> {
        self.now_ms += STEP_MS;
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let tried: Vec<ServerId> = tried.iter().map(|number| id(*number)).collect();
        let request = PickRequest {
            client,
            group: 8_081,
            attempt: tried.len() as u32,
            servers: &self.set,
            tried: &tried,
            avoided: Avoided::DOUBTFUL,
            now_ms: self.now_ms,
            random: self.random,
        };
        let picked = self.policy.pick(&request);
        self.assert_no_fault();
        let is_left = (0..request.len()).any(|index| request.is_open(index));
        assert_eq!(picked.is_some(), is_left, "{tried:?} of {} servers were tried", request.len());
        picked.map(|Picked { index, .. }| {
            assert!(request.is_open(index), "{index} of {} is {:?}", request.len(), request.why_closed(index));
            self.set.servers[index].id.0 - id(0).0
        })
    }

    /// The module hears what became of a pick.
    pub(crate) fn report(&self, number: u32, outcome: Outcome) {
        self.module.report(id(number), outcome);
        self.assert_no_fault();
    }

    /// The server fails to answer somebody and is suspect until a connect succeeds.
    pub(crate) fn fail(&self, server: &Server) {
        server.live.connect_failed("refused", self.now_ms, self.now_ms);
    }

    fn assert_no_fault(&self) {
        let counters = self.module.counters();
        let counted = (counters.faults_total(), counters.fallbacks.load(Relaxed));
        assert_eq!(counted, (0, 0), "{}", self.module.last_fault().unwrap_or_default());
    }
}

/// Nothing but the deadline differs from what a name alone means: machines that test are busy.
fn spec(config: &str) -> ModuleSpec {
    ModuleSpec { config: config.to_owned(), deadline: Duration::from_secs(1), ..ModuleSpec::new("sample") }
}

/// A client by its number: each has an IP of its own.
pub(crate) fn client(number: u32) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::from(0xc612_0000 + number), 40_000))
}

/// Ids begin here, so that an index or a number that is taken for one shows.
fn id(number: u32) -> ServerId {
    ServerId(5_000_000 + number)
}

/// A server by its number: each has an address of its own.
pub(crate) fn server(number: u32) -> Arc<Server> {
    server_with(number, |_| {})
}

/// A server with settings.
pub(crate) fn server_with(number: u32, set: impl FnOnce(&mut ServerSettings)) -> Arc<Server> {
    let addr = SocketAddr::from((Ipv4Addr::from(0x0a00_0000 + number), 9_000));
    let mut settings = ServerSettings::new(addr.into(), Origin::File);
    set(&mut settings);
    Arc::new(Server { id: id(number), settings, live: Arc::new(Live::new(vec![addr])) })
}

/// A server with a label.
pub(crate) fn labelled(number: u32, key: &str, value: &str) -> Arc<Server> {
    server_with(number, |settings| _ = settings.labels.insert(key.to_owned(), value.to_owned()))
}

/// Servers of these numbers, all alike.
pub(crate) fn servers(numbers: std::ops::Range<u32>) -> Vec<Arc<Server>> {
    numbers.map(server).collect()
}

/// So many sessions come to a server.
pub(crate) fn add_sessions(server: &Server, sessions: u32) {
    (0..sessions).for_each(|_| assert!(server.live.try_acquire(server.settings.max_sessions)));
}

/// How often each of so many servers was picked.
pub(crate) fn shares(servers: usize, picks: &[u32]) -> Vec<usize> {
    let mut shares = vec![0; servers];
    picks.iter().for_each(|&number| shares[number as usize] += 1);
    shares
}
