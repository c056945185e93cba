//! The functions of `host` as a core module imports them. What they answer is [`Guest`]'s business.

use wasmtime::{AsContextMut, Caller, Linker, Trap, bail, format_err};

use super::memory;
use crate::policy::wasm::bindings::goproxy::balance::host::Host;
use crate::policy::wasm::bindings::goproxy::balance::types::LogLevel;
use crate::policy::wasm::host::{GuestMemory, HostState};

/// Offers them all under the interface's name as the module has it.
pub(super) fn offer(linker: &mut Linker<HostState>, host: &str) -> wasmtime::Result<()> {
    type From<'a> = Caller<'a, HostState>;
    linker.func_wrap(host, "active-connections", |mut from: From<'_>, server: u32| {
        state(&mut from).map(|state| state.active_connections(server))
    })?;
    linker.func_wrap(host, "connect-latency", |mut from: From<'_>, server: u32| {
        state(&mut from).map(|state| state.connect_latency(server))
    })?;
    linker.func_wrap(host, "already-tried", |mut from: From<'_>, server: u32| {
        state(&mut from).map(|state| u32::from(state.already_tried(server)))
    })?;
    linker.func_wrap(host, "random-u64", |mut from: From<'_>| state(&mut from).map(HostState::random_u64))?;
    linker.func_wrap(host, "now-nanos", |mut from: From<'_>| state(&mut from).map(HostState::now_nanos))?;
    linker.func_wrap(host, "all-active-connections", all_active_connections)?;
    linker.func_wrap(host, "log", log)?;
    Ok(())
}

fn all_active_connections(mut from: Caller<'_, HostState>, at: u32) -> wasmtime::Result<()> {
    let counts = state(&mut from)?.all_active_connections();
    let guest = guest_memory(&from)?;
    let mut store = from.as_context_mut();
    if !at.is_multiple_of(4) {
        bail!("pointer not aligned");
    }
    let is_within = guest.memory.data_size(&store).checked_sub(8).is_some_and(|last| at as usize <= last);
    if !is_within {
        bail!("pointer out of bounds");
    }
    let (list, len) = guest.put_numbers(&mut store, &counts)?;
    guest.put_words(&mut store, at as usize, &[list, len])
}

fn log(mut from: Caller<'_, HostState>, level: u32, at: u32, len: u32) -> wasmtime::Result<()> {
    state(&mut from)?;
    let level = match level {
        0 => LogLevel::Error,
        1 => LogLevel::Warn,
        2 => LogLevel::Info,
        3 => LogLevel::Debug,
        other => bail!("unexpected discriminant: {other}"),
    };
    let guest = guest_memory(&from)?;
    let (memory, state) = guest.memory.data_and_store_mut(&mut from);
    state.say(level, memory::text(memory, at, len)?);
    Ok(())
}

/// The state of whoever calls, unless its allocator runs, or it is freeing what it answered.
fn state<'a>(from: &'a mut Caller<'_, HostState>) -> wasmtime::Result<&'a mut HostState> {
    let state = from.data_mut();
    if state.may_leave { Ok(state) } else { Err(Trap::CannotLeaveComponent.into()) }
}

/// The caller's memory, which it has as soon as it has started.
fn guest_memory(from: &Caller<'_, HostState>) -> wasmtime::Result<GuestMemory> {
    from.data().memory.clone().ok_or_else(|| format_err!("called before the module has started"))
}
