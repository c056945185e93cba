//! The calls into an instance, whatever the module is: a component, or a core module that needs none around it.

use wasmtime::component::{self, TypedFunc};
use wasmtime::{Engine, Store};

use super::bare;
use super::bindings::exports::goproxy::balance::policy::{Connection, Description};
use super::bindings::goproxy::balance::types::Server;
use super::bindings::{BalancePolicy, BalancePolicyPre};
use super::guest::Guest;
use crate::policy::Outcome;

/// The optional interface, by the name under which the engine finds any 1.x of it.
const FEEDBACK: &str = "goproxy:balance/feedback@1.0.0";

/// A module, compiled and linked.
pub(super) enum Pre {
    Component(BalancePolicyPre<Guest>),
    Bare(bare::Pre),
}

/// The functions of an instance.
pub(super) enum Calls {
    Component(Box<Component>),
    Bare(bare::Calls),
}

/// The functions of a component.
pub(super) struct Component {
    policy: BalancePolicy,
    feedback: Option<Feedback>,
}

/// The functions of the optional interface `feedback`.
struct Feedback {
    on_connected: TypedFunc<(u32, u32), ()>,
    on_failed: TypedFunc<(u32,), ()>,
    on_closed: TypedFunc<(u32, u64, u64), ()>,
}

impl Pre {
    /// The engine it was compiled with.
    pub(super) fn engine(&self) -> &Engine {
        match self {
            Self::Component(pre) => pre.engine(),
            Self::Bare(pre) => pre.engine(),
        }
    }

    /// Makes an instance.
    pub(super) fn start(&self, store: &mut Store<Guest>) -> wasmtime::Result<Calls> {
        match self {
            Self::Component(pre) => {
                let instance = pre.instance_pre().instantiate(&mut *store)?;
                let policy = BalancePolicy::new(&mut *store, &instance)?;
                let feedback = Feedback::find(store, &instance)?;
                Ok(Calls::Component(Box::new(Component { policy, feedback })))
            }
            Self::Bare(pre) => pre.start(store).map(Calls::Bare),
        }
    }
}

impl Calls {
    pub(super) fn describe(&self, store: &mut Store<Guest>) -> wasmtime::Result<Description> {
        match self {
            Self::Component(component) => component.policy.goproxy_balance_policy().call_describe(store),
            Self::Bare(bare) => bare.describe(store),
        }
    }

    pub(super) fn configure(
        &self,
        store: &mut Store<Guest>,
        group: &str,
        params: &str,
    ) -> wasmtime::Result<Result<(), String>> {
        match self {
            Self::Component(component) => {
                component.policy.goproxy_balance_policy().call_configure(store, group, params)
            }
            Self::Bare(bare) => bare.configure(store, group, params),
        }
    }

    pub(super) fn set_servers(&self, store: &mut Store<Guest>, servers: &[Server<'_>]) -> wasmtime::Result<()> {
        match self {
            Self::Component(component) => component.policy.goproxy_balance_policy().call_set_servers(store, servers),
            Self::Bare(bare) => bare.set_servers(store, servers),
        }
    }

    pub(super) fn pick(&self, store: &mut Store<Guest>, connection: Connection) -> wasmtime::Result<Option<u32>> {
        match self {
            Self::Component(component) => component.policy.goproxy_balance_policy().call_pick(store, connection),
            Self::Bare(bare) => bare.pick(store, &connection),
        }
    }

    /// True when the module wants to hear what became of its picks.
    pub(super) fn wants_feedback(&self) -> bool {
        match self {
            Self::Component(component) => component.feedback.is_some(),
            Self::Bare(bare) => bare.wants_feedback(),
        }
    }

    /// Tells what became of a pick to a module that wants to hear it.
    pub(super) fn heed(&self, store: &mut Store<Guest>, server: u32, outcome: Outcome) -> wasmtime::Result<()> {
        let component = match self {
            Self::Component(component) => component,
            Self::Bare(bare) => return bare.heed(store, server, outcome),
        };
        let Some(feedback) = &component.feedback else { return Ok(()) };
        match outcome {
            Outcome::Connected { micros } => feedback.on_connected.call(store, (server, micros)),
            Outcome::Failed => feedback.on_failed.call(store, (server,)),
            Outcome::Closed { millis, bytes } => feedback.on_closed.call(store, (server, millis, bytes)),
        }
    }
}

impl Feedback {
    /// The functions, when the module exports the interface.
    fn find(store: &mut Store<Guest>, instance: &component::Instance) -> wasmtime::Result<Option<Self>> {
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
