//! One instance of a module, and the calls into it, each bounded in time.
//!
//! Whatever goes wrong in a call is a [`Fault`], and an instance that failed once is never used again: its
//! memory may be in any state. Nothing here decides what happens then; see [`super::slot`].

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use wasmtime::Store;

use super::abi::Functions;
use super::bindings::exports::goproxy::balance::policy as exported;
use super::bindings::goproxy::balance::types;
use super::compiled::Compiled;
use super::engine::{Ticker, ticks};
use super::fault::Fault;
use super::host::{GuestLog, HostState, shortened};
use crate::base::text::one_line;
use crate::counters::FaultKind;
use crate::policy::balance::{Outcome, PickRequest, ServerSet};
use crate::policy::oversee::Birth;
use crate::policy::spec::ModuleSpec;
use crate::server::{ServerId, ServerSettings};

/// Longest part of a module's parameters that a message shows, in characters.
const PARAMS_CHARS_MAX: usize = 100;

/// How long a module may take to start, to describe itself and to take its configuration; each.
pub(super) const CONFIGURE_TIME_MAX: Duration = Duration::from_millis(100);

/// How long it may take to be told its servers, when there are at most a thousand and a pick may not take longer.
pub(super) const SET_SERVERS_TIME_MAX: Duration = Duration::from_millis(20);

/// How long for each of more servers: handing over the list is our work, and takes part of the time.
const SERVER_TIME_MAX: Duration = Duration::from_micros(20);

/// A module at work for one group.
pub(super) struct Instance {
    store: Store<HostState>,
    functions: Functions,
    ticker: Arc<Ticker>,
    deadline: Duration,
}

/// What a module says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Description {
    pub(super) name: String,
    pub(super) version: String,
}

/// How often a call that took too long is retried where no client waits for it.
const RETRIES_MAX: u32 = 4;

/// Retries what took too long. Off the data path only: the thread that looks after modules runs at low priority, and
/// the deadline passes also while it waits for a processor, which is not the module's fault.
pub(super) fn with_retries<T>(mut attempt: impl FnMut() -> Result<T, Fault>) -> Result<T, Fault> {
    for _ in 0..RETRIES_MAX {
        match attempt() {
            Err(Fault { kind: FaultKind::Deadline, .. }) => {}
            done => return done,
        }
    }
    attempt()
}

impl Instance {
    /// Makes an instance and configures it.
    ///
    /// # Errors
    ///
    /// The module traps or takes too long, wants more memory than it may have, or refuses its configuration.
    pub(super) fn new(compiled: &Compiled, spec: &ModuleSpec, group: u16, log: Arc<GuestLog>) -> Result<Self, Fault> {
        Self::born(compiled, spec, group, log, None)
    }

    /// The same; one that repeats when it is born with the same.
    ///
    /// # Errors
    ///
    /// As [`Instance::new`].
    pub(super) fn born(
        compiled: &Compiled,
        spec: &ModuleSpec,
        group: u16,
        log: Arc<GuestLog>,
        birth: Option<Birth>,
    ) -> Result<Self, Fault> {
        let mut store = Store::new(compiled.linked.engine(), HostState::new(log, spec.memory, birth));
        store.limiter(|guest| &mut guest.limits);
        let ticker = Arc::clone(&compiled.ticker);
        // Before anything of the module runs: its start function may loop, too.
        allow(&mut store, &ticker, CONFIGURE_TIME_MAX);
        let started = compiled.linked.start(&mut store);
        let functions = started
            .map_err(|error| Fault::of("start", CONFIGURE_TIME_MAX, &error).with_memory(&store.data().limits))?;
        let mut instance = Self { store, functions, ticker, deadline: spec.deadline };
        instance.configure(group, &spec.config)?;
        Ok(instance)
    }

    /// What the module says of itself.
    pub(super) fn describe(&mut self) -> Result<Description, Fault> {
        self.allow(CONFIGURE_TIME_MAX);
        let described = self.functions.describe(&mut self.store);
        let described = described.map_err(|error| self.fault("describe", CONFIGURE_TIME_MAX, &error))?;
        Ok(Description { name: shortened(&described.name), version: shortened(&described.version) })
    }

    fn configure(&mut self, group: u16, params: &str) -> Result<(), Fault> {
        self.allow(CONFIGURE_TIME_MAX);
        match self.functions.configure(&mut self.store, &group.to_string(), params) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(why)) => Err(Fault::unfit(format!(
                "configure refused {}: {}",
                one_line(params, PARAMS_CHARS_MAX),
                shortened(&why)
            ))),
            Err(error) => Err(self.fault("configure", CONFIGURE_TIME_MAX, &error)),
        }
    }

    /// Tells the module its servers; those in `hidden`, by index and in order, as not available.
    pub(super) fn set_servers(&mut self, set: &Arc<ServerSet>, hidden: &[u32]) -> Result<(), Fault> {
        let time_max = SET_SERVERS_TIME_MAX.max(SERVER_TIME_MAX * set.servers.len() as u32).max(self.deadline);
        self.allow(time_max);
        self.store.data_mut().set_servers(set);
        let labels: Vec<Vec<(&str, &str)>> = set.servers.iter().map(|server| labels(&server.settings)).collect();
        let servers = set.servers.iter().zip(&labels).zip(0..);
        let servers: Vec<types::Server<'_>> = servers
            .map(|((server, labels), index)| types::Server {
                id: server.id.0,
                name: server.settings.addr.as_str(),
                address: server.settings.addr.as_str(),
                weight: server.settings.weight.into(),
                available: hidden.binary_search(&index).is_err(),
                labels,
            })
            .collect();
        let told = self.functions.set_servers(&mut self.store, &servers);
        told.map_err(|error| self.fault("set-servers", time_max, &error))
    }

    /// Asks for a server, by its id.
    pub(super) fn pick(&mut self, request: &PickRequest<'_>) -> Result<Option<u32>, Fault> {
        self.allow(self.deadline);
        self.store.data_mut().set_request(request.tried, request.now_ms, request.random);
        let connection = exported::Connection {
            client_ip: address(request.client),
            client_port: request.client.port(),
            listener_port: request.group,
            attempt: request.attempt,
        };
        let picked = self.functions.pick(&mut self.store, connection);
        picked.map_err(|error| self.fault("pick", self.deadline, &error))
    }

    /// Where the server of this id is in the set that the module was told last.
    pub(super) fn index_of(&self, id: u32) -> Option<usize> {
        self.store.data().index_of(id)
    }

    /// Bytes of memory that it holds.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.store.data().limits.memory_bytes() as u64
    }

    /// True when the module wants to hear what became of its picks.
    pub(super) fn wants_feedback(&self) -> bool {
        self.functions.wants_feedback()
    }

    /// Tells a module that exports `feedback` what became of a pick.
    pub(super) fn report(&mut self, server: ServerId, outcome: Outcome) -> Result<(), Fault> {
        self.allow(self.deadline);
        let reported = self.functions.report(&mut self.store, server.0, outcome);
        reported.map_err(|error| self.fault("feedback", self.deadline, &error))
    }

    fn fault(&self, function: &str, time_max: Duration, error: &wasmtime::Error) -> Fault {
        Fault::of(function, time_max, error).with_memory(&self.store.data().limits)
    }

    fn allow(&mut self, time: Duration) {
        allow(&mut self.store, &self.ticker, time);
    }
}

/// Sets the time that the next call may take. It counts from now, so it is set before each.
fn allow(store: &mut Store<HostState>, ticker: &Ticker, time: Duration) {
    ticker.keep_running();
    store.set_epoch_deadline(ticks(time));
}

fn address(client: SocketAddr) -> types::IpAddress {
    match client.ip().to_canonical() {
        IpAddr::V4(ip) => types::IpAddress::V4(ip.into()),
        IpAddr::V6(ip) => {
            let bits = u128::from(ip);
            types::IpAddress::V6(((bits >> 64) as u64, bits as u64))
        }
    }
}

fn labels(settings: &ServerSettings) -> Vec<(&str, &str)> {
    settings.labels.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect()
}
