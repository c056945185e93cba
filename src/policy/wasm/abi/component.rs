//! A module called as a component, through the engine's own bindings.

use wasmtime::component::{Component, HasSelf, Instance, Linker, TypedFunc};
use wasmtime::{Engine, Store};

use crate::policy::balance::Outcome;
use crate::policy::wasm::bindings::exports::goproxy::balance::policy::{Connection, Description};
use crate::policy::wasm::bindings::goproxy::balance::types::Server;
use crate::policy::wasm::bindings::{BalancePolicy, BalancePolicyPre};
use crate::policy::wasm::host::HostState;

/// The optional interface, by the name under which the engine finds any 1.x of it.
const FEEDBACK: &str = "goproxy:balance/feedback@1.0.0";

/// A component, compiled and linked.
pub(in crate::policy::wasm) struct Linked(BalancePolicyPre<HostState>);

/// The functions of an instance.
pub(in crate::policy::wasm) struct Functions {
    policy: BalancePolicy,
    feedback: Option<Feedback>,
}

/// The functions of the optional interface `feedback`.
struct Feedback {
    on_connected: TypedFunc<(u32, u32), ()>,
    on_failed: TypedFunc<(u32,), ()>,
    on_closed: TypedFunc<(u32, u64, u64), ()>,
}

impl Linked {
    /// Compiles and links.
    ///
    /// # Errors
    ///
    /// What is wrong with the component, as the engine puts it.
    pub(super) fn new(engine: &Engine, component: &[u8]) -> wasmtime::Result<Self> {
        let mut linker = Linker::new(engine);
        BalancePolicy::add_to_linker::<_, HasSelf<_>>(&mut linker, |state: &mut HostState| state)?;
        let component = Component::new(engine, component)?;
        Ok(Self(BalancePolicyPre::new(linker.instantiate_pre(&component)?)?))
    }

    /// The engine it was compiled with.
    pub(super) fn engine(&self) -> &Engine {
        self.0.engine()
    }

    /// Makes an instance.
    pub(super) fn start(&self, store: &mut Store<HostState>) -> wasmtime::Result<Functions> {
        let instance = self.0.instance_pre().instantiate(&mut *store)?;
        let policy = BalancePolicy::new(&mut *store, &instance)?;
        let feedback = Feedback::find(store, &instance)?;
        Ok(Functions { policy, feedback })
    }
}

impl Functions {
    pub(super) fn describe(&self, store: &mut Store<HostState>) -> wasmtime::Result<Description> {
        self.policy.goproxy_balance_policy().call_describe(store)
    }

    pub(super) fn configure(
        &self,
        store: &mut Store<HostState>,
        group: &str,
        params: &str,
    ) -> wasmtime::Result<Result<(), String>> {
        self.policy.goproxy_balance_policy().call_configure(store, group, params)
    }

    pub(super) fn set_servers(&self, store: &mut Store<HostState>, servers: &[Server<'_>]) -> wasmtime::Result<()> {
        self.policy.goproxy_balance_policy().call_set_servers(store, servers)
    }

    pub(super) fn pick(&self, store: &mut Store<HostState>, connection: Connection) -> wasmtime::Result<Option<u32>> {
        self.policy.goproxy_balance_policy().call_pick(store, connection)
    }

    /// True when the module exports the optional interface.
    pub(super) fn wants_feedback(&self) -> bool {
        self.feedback.is_some()
    }

    pub(super) fn report(&self, store: &mut Store<HostState>, server: u32, outcome: Outcome) -> wasmtime::Result<()> {
        let Some(feedback) = &self.feedback else { return Ok(()) };
        match outcome {
            Outcome::Connected { micros } => feedback.on_connected.call(store, (server, micros)),
            Outcome::Failed => feedback.on_failed.call(store, (server,)),
            Outcome::Closed { millis, bytes } => feedback.on_closed.call(store, (server, millis, bytes)),
        }
    }
}

impl Feedback {
    /// The functions, when the module exports the interface.
    fn find(store: &mut Store<HostState>, instance: &Instance) -> wasmtime::Result<Option<Self>> {
        let Some(interface) = instance.get_export_index(&mut *store, None, FEEDBACK) else { return Ok(None) };
        let mut index = |name: &str| {
            let index = instance.get_export_index(&mut *store, Some(&interface), name);
            index.ok_or_else(|| wasmtime::format_err!("the interface {FEEDBACK} has no function {name}"))
        };
        let (connected, failed, closed) = (index("on-connected")?, index("on-failed")?, index("on-closed")?);
        Ok(Some(Self {
            on_connected: instance.get_typed_func(&mut *store, connected)?,
            on_failed: instance.get_typed_func(&mut *store, failed)?,
            on_closed: instance.get_typed_func(&mut *store, closed)?,
        }))
    }
}
