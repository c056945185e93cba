//! The functions of a core module: what goes in is laid out in its memory, what comes out is read from there.

use std::collections::BTreeSet;

use wasmtime::{Engine, Instance, InstancePre, Linker, Module, Store, TypedFunc, WasmParams, WasmResults};

use super::{host, memory};
use crate::policy::balance::Outcome;
use crate::policy::wasm::bindings::exports::goproxy::balance::policy::{Connection, Description};
use crate::policy::wasm::bindings::goproxy::balance::types::{IpAddress, Server};
use crate::policy::wasm::host::{GuestMemory, HostState};
use crate::policy::wasm::source::CoreModule;

/// A module, compiled and linked: instances are made of it.
pub(in crate::policy::wasm) struct Linked {
    instance: InstancePre<HostState>,
    names: CoreModule,
}

/// The functions of an instance. What a pick needs stands together, the rest apart.
pub(in crate::policy::wasm) struct Functions {
    pick: Function<(u32, u64, u64, u32, u32, u32), u32>,
    memory: wasmtime::Memory,
    others: Box<Others>,
}

struct Others {
    guest_memory: GuestMemory,
    describe: Function<(), u32>,
    configure: Function<(u32, u32, u32, u32), u32>,
    set_servers: Function<(u32, u32), ()>,
    feedback: Option<Feedback>,
}

/// The functions of the optional interface `feedback`.
struct Feedback {
    on_connected: Function<(u32, u32), ()>,
    on_failed: Function<(u32,), ()>,
    on_closed: Function<(u32, u64, u64), ()>,
}

/// A function, and the one by which the guest frees what it answered.
struct Function<P, R> {
    call: TypedFunc<P, R>,
    /// Rare, so it takes up as little of what a pick needs as it can.
    post: Option<Box<TypedFunc<R, ()>>>,
}

impl Linked {
    /// Compiles and links.
    ///
    /// # Errors
    ///
    /// What is wrong with the module, as the engine puts it.
    pub(in crate::policy::wasm::abi) fn new(
        engine: &Engine,
        module: &[u8],
        names: &CoreModule,
    ) -> wasmtime::Result<Self> {
        let module = Module::new(engine, module)?;
        let mut linker = Linker::new(engine);
        // Each version of the interface has a name of its own.
        let hosts: BTreeSet<&str> = module.imports().map(|import| import.module()).collect();
        hosts.into_iter().try_for_each(|host| host::offer(&mut linker, host))?;
        Ok(Self { instance: linker.instantiate_pre(&module)?, names: names.clone() })
    }

    /// The engine it was compiled with.
    pub(in crate::policy::wasm::abi) fn engine(&self) -> &Engine {
        self.instance.module().engine()
    }

    /// Makes an instance.
    ///
    /// # Errors
    ///
    /// It wants more than it may have, or its start function traps or takes too long.
    pub(in crate::policy::wasm::abi) fn start(&self, store: &mut Store<HostState>) -> wasmtime::Result<Functions> {
        let instance = self.instance.instantiate(&mut *store)?;
        let guest_memory = GuestMemory::find(store, &instance)?;
        store.data_mut().memory = Some(guest_memory.clone());
        let policy = &self.names.policy;
        let feedback = self.names.feedback.as_ref();
        Ok(Functions {
            pick: Function::find(store, &instance, policy, "pick")?,
            memory: guest_memory.memory,
            others: Box::new(Others {
                describe: Function::find(store, &instance, policy, "describe")?,
                configure: Function::find(store, &instance, policy, "configure")?,
                set_servers: Function::find(store, &instance, policy, "set-servers")?,
                feedback: feedback.map(|name| Feedback::find(store, &instance, name)).transpose()?,
                guest_memory,
            }),
        })
    }
}

impl Functions {
    pub(in crate::policy::wasm::abi) fn describe(&self, store: &mut Store<HostState>) -> wasmtime::Result<Description> {
        self.others.describe.call(store, self.memory, (), |memory, at| {
            let [name, name_len, version, version_len] = memory::area(memory, at)?;
            let text = |at, len| memory::text(memory, at, len).map(str::to_owned);
            Ok(Description { name: text(name, name_len)?, version: text(version, version_len)? })
        })
    }

    pub(in crate::policy::wasm::abi) fn configure(
        &self,
        store: &mut Store<HostState>,
        group: &str,
        params: &str,
    ) -> wasmtime::Result<Result<(), String>> {
        let Others { guest_memory, configure, .. } = &*self.others;
        let (group, group_len) = guest_memory.put_text(&mut *store, group)?;
        let (params, params_len) = guest_memory.put_text(&mut *store, params)?;
        configure.call(store, self.memory, (group, group_len, params, params_len), |memory, at| {
            let [which, error, error_len] = memory::area(memory, at)?;
            Ok(match memory::case(which) {
                0 => Ok(()),
                1 => Err(memory::text(memory, error, error_len)?.to_owned()),
                _ => wasmtime::bail!("invalid expected discriminant"),
            })
        })
    }

    pub(in crate::policy::wasm::abi) fn set_servers(
        &self,
        store: &mut Store<HostState>,
        servers: &[Server<'_>],
    ) -> wasmtime::Result<()> {
        let Others { guest_memory, set_servers, .. } = &*self.others;
        let list = guest_memory.put_servers(&mut *store, servers)?;
        set_servers.call(store, self.memory, list, |_, ()| Ok(()))
    }

    pub(in crate::policy::wasm::abi) fn pick(
        &self,
        store: &mut Store<HostState>,
        connection: &Connection,
    ) -> wasmtime::Result<Option<u32>> {
        let (family, high, low) = match connection.client_ip {
            IpAddress::V4(ip) => (0, u64::from(ip), 0),
            IpAddress::V6((high, low)) => (1, high, low),
        };
        let ports = (u32::from(connection.client_port), u32::from(connection.listener_port));
        let params = (family, high, low, ports.0, ports.1, connection.attempt);
        self.pick.call(store, self.memory, params, |memory, at| {
            let [which, id] = memory::area(memory, at)?;
            Ok(match memory::case(which) {
                0 => None,
                1 => Some(id),
                _ => wasmtime::bail!("invalid option discriminant"),
            })
        })
    }

    /// True when the module wants to hear what became of its picks.
    pub(in crate::policy::wasm::abi) fn wants_feedback(&self) -> bool {
        self.others.feedback.is_some()
    }

    pub(in crate::policy::wasm::abi) fn report(
        &self,
        store: &mut Store<HostState>,
        server: u32,
        outcome: Outcome,
    ) -> wasmtime::Result<()> {
        let Some(feedback) = &self.others.feedback else { return Ok(()) };
        let done = |_: &[u8], ()| Ok(());
        match outcome {
            Outcome::Connected { micros } => feedback.on_connected.call(store, self.memory, (server, micros), done),
            Outcome::Failed => feedback.on_failed.call(store, self.memory, (server,), done),
            Outcome::Closed { millis, bytes } => {
                feedback.on_closed.call(store, self.memory, (server, millis, bytes), done)
            }
        }
    }
}

impl Feedback {
    fn find(store: &mut Store<HostState>, instance: &Instance, name: &str) -> wasmtime::Result<Self> {
        Ok(Self {
            on_connected: Function::find(store, instance, name, "on-connected")?,
            on_failed: Function::find(store, instance, name, "on-failed")?,
            on_closed: Function::find(store, instance, name, "on-closed")?,
        })
    }
}

impl<P: WasmParams, R: WasmParams + WasmResults + Copy> Function<P, R> {
    fn find(
        store: &mut Store<HostState>,
        instance: &Instance,
        interface: &str,
        function: &str,
    ) -> wasmtime::Result<Self> {
        let call = instance.get_typed_func(&mut *store, &format!("{interface}#{function}"))?;
        let post = instance.get_func(&mut *store, &format!("cabi_post_{interface}#{function}"));
        Ok(Self { call, post: post.map(|post| post.typed(&*store).map(Box::new)).transpose()? })
    }

    /// Calls it and has `lift` read the answer, out of the guest's memory if need be, before the guest frees that.
    fn call<T>(
        &self,
        store: &mut Store<HostState>,
        memory: wasmtime::Memory,
        params: P,
        lift: impl FnOnce(&[u8], R) -> wasmtime::Result<T>,
    ) -> wasmtime::Result<T> {
        let answer = self.call.call(&mut *store, params)?;
        let lifted = lift(memory.data(&*store), answer)?;
        if let Some(post) = &self.post {
            store.data_mut().may_leave = false;
            post.call(&mut *store, answer)?;
            store.data_mut().may_leave = true;
        }
        Ok(lifted)
    }
}
