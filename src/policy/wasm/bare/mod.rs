//! A core module called as it is, without the component that was made of it.
//!
//! The engine's way into a component goes through a chain of tables, which are out of the processor's caches by the
//! next pick and cost several times what the pick does; a core function is one jump away. What the component would do
//! for values that are no plain numbers is done here and in `memory`, as the canonical ABI says, for the few types of
//! `wit/balance.wit`: <https://github.com/WebAssembly/component-model/blob/main/design/mvp/CanonicalABI.md>.
//! That the module's types are those is known from [`super::source`]. Nothing that it answers is trusted: an address
//! out of range, a number without a meaning and a text that is no UTF-8 are errors, in the words of the engine.

mod host;
mod memory;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use wasmtime::{Engine, Instance, InstancePre, Linker, Module, Store, TypedFunc, WasmParams, WasmResults};

use super::bindings::exports::goproxy::balance::policy::{Connection, Description};
use super::bindings::goproxy::balance::types::{IpAddress, Server};
use super::guest::Guest;
use super::source::Bare;
use crate::policy::Outcome;
pub(super) use memory::Room;

/// A module, compiled and linked: instances are made of it.
pub(super) struct Pre {
    instance: InstancePre<Guest>,
    names: Bare,
}

/// The functions of an instance. What a pick needs stands together, the rest apart.
pub(super) struct Calls {
    pick: Function<(u32, u64, u64, u32, u32, u32), u32>,
    memory: wasmtime::Memory,
    others: Box<Others>,
}

struct Others {
    room: Room,
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

impl Pre {
    /// Compiles and links.
    ///
    /// # Errors
    ///
    /// What is wrong with the module, as the engine puts it.
    pub(super) fn new(engine: &Engine, module: &[u8], names: &Bare) -> wasmtime::Result<Self> {
        let module = Module::new(engine, module)?;
        let mut linker = Linker::new(engine);
        // Each version of the interface has a name of its own.
        let hosts: BTreeSet<&str> = module.imports().map(|import| import.module()).collect();
        hosts.into_iter().try_for_each(|host| host::offer(&mut linker, host))?;
        Ok(Self { instance: linker.instantiate_pre(&module)?, names: names.clone() })
    }

    /// The engine it was compiled with.
    pub(super) fn engine(&self) -> &Engine {
        self.instance.module().engine()
    }

    /// Makes an instance.
    ///
    /// # Errors
    ///
    /// It wants more than it may have, or its start function traps or takes too long.
    pub(super) fn start(&self, store: &mut Store<Guest>) -> wasmtime::Result<Calls> {
        let instance = self.instance.instantiate(&mut *store)?;
        let room = Room::find(store, &instance)?;
        store.data_mut().room = Some(room.clone());
        let policy = &self.names.policy;
        let feedback = self.names.feedback.as_ref();
        Ok(Calls {
            pick: Function::find(store, &instance, policy, "pick")?,
            memory: room.memory,
            others: Box::new(Others {
                describe: Function::find(store, &instance, policy, "describe")?,
                configure: Function::find(store, &instance, policy, "configure")?,
                set_servers: Function::find(store, &instance, policy, "set-servers")?,
                feedback: feedback.map(|name| Feedback::find(store, &instance, name)).transpose()?,
                room,
            }),
        })
    }
}

impl Calls {
    pub(super) fn describe(&self, store: &mut Store<Guest>) -> wasmtime::Result<Description> {
        self.others.describe.call(store, self.memory, (), |memory, at| {
            let [name, name_len, version, version_len] = memory::area(memory, at)?;
            let text = |at, len| memory::text(memory, at, len).map(str::to_owned);
            Ok(Description { name: text(name, name_len)?, version: text(version, version_len)? })
        })
    }

    pub(super) fn configure(
        &self,
        store: &mut Store<Guest>,
        group: &str,
        params: &str,
    ) -> wasmtime::Result<Result<(), String>> {
        let Others { room, configure, .. } = &*self.others;
        let (group, group_len) = room.put_text(&mut *store, group)?;
        let (params, params_len) = room.put_text(&mut *store, params)?;
        configure.call(store, self.memory, (group, group_len, params, params_len), |memory, at| {
            let [which, error, error_len] = memory::area(memory, at)?;
            Ok(match memory::case(which) {
                0 => Ok(()),
                1 => Err(memory::text(memory, error, error_len)?.to_owned()),
                _ => wasmtime::bail!("invalid expected discriminant"),
            })
        })
    }

    pub(super) fn set_servers(&self, store: &mut Store<Guest>, servers: &[Server<'_>]) -> wasmtime::Result<()> {
        let Others { room, set_servers, .. } = &*self.others;
        let list = room.put_servers(&mut *store, servers)?;
        set_servers.call(store, self.memory, list, |_, ()| Ok(()))
    }

    pub(super) fn pick(&self, store: &mut Store<Guest>, connection: &Connection) -> wasmtime::Result<Option<u32>> {
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
    pub(super) fn wants_feedback(&self) -> bool {
        self.others.feedback.is_some()
    }

    pub(super) fn heed(&self, store: &mut Store<Guest>, server: u32, outcome: Outcome) -> wasmtime::Result<()> {
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
    fn find(store: &mut Store<Guest>, instance: &Instance, name: &str) -> wasmtime::Result<Self> {
        Ok(Self {
            on_connected: Function::find(store, instance, name, "on-connected")?,
            on_failed: Function::find(store, instance, name, "on-failed")?,
            on_closed: Function::find(store, instance, name, "on-closed")?,
        })
    }
}

impl<P: WasmParams, R: WasmParams + WasmResults + Copy> Function<P, R> {
    fn find(store: &mut Store<Guest>, instance: &Instance, interface: &str, function: &str) -> wasmtime::Result<Self> {
        let call = instance.get_typed_func(&mut *store, &format!("{interface}#{function}"))?;
        let post = instance.get_func(&mut *store, &format!("cabi_post_{interface}#{function}"));
        Ok(Self { call, post: post.map(|post| post.typed(&*store).map(Box::new)).transpose()? })
    }

    /// Calls it and has `lift` read the answer, out of the guest's memory if need be, before the guest frees that.
    fn call<T>(
        &self,
        store: &mut Store<Guest>,
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
