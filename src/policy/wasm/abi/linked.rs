//! A module compiled and linked, and the functions of an instance of it, whichever way it is called.

use wasmtime::{Engine, Store};

use super::{component, core};
use crate::policy::balance::Outcome;
use crate::policy::wasm::bindings::exports::goproxy::balance::policy::{Connection, Description};
use crate::policy::wasm::bindings::goproxy::balance::types::Server;
use crate::policy::wasm::host::HostState;
use crate::policy::wasm::source::ModuleFile;

/// A module, compiled and linked: instances are made of it.
pub(in crate::policy::wasm) enum Linked {
    Component(component::Linked),
    Core(core::Linked),
}

/// The functions of an instance.
pub(in crate::policy::wasm) enum Functions {
    Component(Box<component::Functions>),
    Core(core::Functions),
}

impl Linked {
    /// Compiles what was found in a file: the core module alone where that may be called directly.
    ///
    /// # Errors
    ///
    /// What is wrong with it, as the engine puts it.
    pub(in crate::policy::wasm) fn new(engine: &Engine, file: &ModuleFile) -> wasmtime::Result<Self> {
        Ok(match &file.core {
            Some(core) => Self::Core(core::Linked::new(engine, &file.component[core.range.clone()], core)?),
            None => Self::Component(component::Linked::new(engine, &file.component)?),
        })
    }

    /// The engine it was compiled with.
    pub(in crate::policy::wasm) fn engine(&self) -> &Engine {
        match self {
            Self::Component(component) => component.engine(),
            Self::Core(core) => core.engine(),
        }
    }

    /// Makes an instance.
    ///
    /// # Errors
    ///
    /// It wants more than it may have, or its start function traps or takes too long.
    pub(in crate::policy::wasm) fn start(&self, store: &mut Store<HostState>) -> wasmtime::Result<Functions> {
        Ok(match self {
            Self::Component(component) => Functions::Component(Box::new(component.start(store)?)),
            Self::Core(core) => Functions::Core(core.start(store)?),
        })
    }
}

impl Functions {
    pub(in crate::policy::wasm) fn describe(&self, store: &mut Store<HostState>) -> wasmtime::Result<Description> {
        match self {
            Self::Component(component) => component.describe(store),
            Self::Core(core) => core.describe(store),
        }
    }

    pub(in crate::policy::wasm) fn configure(
        &self,
        store: &mut Store<HostState>,
        group: &str,
        params: &str,
    ) -> wasmtime::Result<Result<(), String>> {
        match self {
            Self::Component(component) => component.configure(store, group, params),
            Self::Core(core) => core.configure(store, group, params),
        }
    }

    pub(in crate::policy::wasm) fn set_servers(
        &self,
        store: &mut Store<HostState>,
        servers: &[Server<'_>],
    ) -> wasmtime::Result<()> {
        match self {
            Self::Component(component) => component.set_servers(store, servers),
            Self::Core(core) => core.set_servers(store, servers),
        }
    }

    pub(in crate::policy::wasm) fn pick(
        &self,
        store: &mut Store<HostState>,
        connection: Connection,
    ) -> wasmtime::Result<Option<u32>> {
        match self {
            Self::Component(component) => component.pick(store, connection),
            Self::Core(core) => core.pick(store, &connection),
        }
    }

    /// True when the module exports the optional interface `feedback`.
    pub(in crate::policy::wasm) fn wants_feedback(&self) -> bool {
        match self {
            Self::Component(component) => component.wants_feedback(),
            Self::Core(core) => core.wants_feedback(),
        }
    }

    /// Tells a module that exports `feedback` what became of a pick.
    pub(in crate::policy::wasm) fn report(
        &self,
        store: &mut Store<HostState>,
        server: u32,
        outcome: Outcome,
    ) -> wasmtime::Result<()> {
        match self {
            Self::Component(component) => component.report(store, server, outcome),
            Self::Core(core) => core.report(store, server, outcome),
        }
    }
}
