//! The functions of `host` as a core module imports them. What they answer is [`Guest`]'s business.

use wasmtime::{AsContextMut, Caller, Linker, Trap, bail, format_err};

use super::memory::{self, Room};
use crate::policy::wasm::bindings::goproxy::balance::host::Host;
use crate::policy::wasm::bindings::goproxy::balance::types::LogLevel;
use crate::policy::wasm::guest::Guest;

/// Offers them all under the interface's name as the module has it.
pub(super) fn offer(linker: &mut Linker<Guest>, host: &str) -> wasmtime::Result<()> {
    type From<'a> = Caller<'a, Guest>;
    linker.func_wrap(host, "active-connections", |mut from: From<'_>, server: u32| {
        guest(&mut from).map(|guest| guest.active_connections(server))
    })?;
    linker.func_wrap(host, "connect-latency", |mut from: From<'_>, server: u32| {
        guest(&mut from).map(|guest| guest.connect_latency(server))
    })?;
    linker.func_wrap(host, "already-tried", |mut from: From<'_>, server: u32| {
        guest(&mut from).map(|guest| u32::from(guest.already_tried(server)))
    })?;
    linker.func_wrap(host, "random-u64", |mut from: From<'_>| guest(&mut from).map(Guest::random_u64))?;
    linker.func_wrap(host, "now-nanos", |mut from: From<'_>| guest(&mut from).map(Guest::now_nanos))?;
    linker.func_wrap(host, "all-active-connections", all_active_connections)?;
    linker.func_wrap(host, "log", log)?;
    Ok(())
}

fn all_active_connections(mut from: Caller<'_, Guest>, at: u32) -> wasmtime::Result<()> {
    let counts = guest(&mut from)?.all_active_connections();
    let room = room(&from)?;
    let mut store = from.as_context_mut();
    if !at.is_multiple_of(4) {
        bail!("pointer not aligned");
    }
    let is_within = room.memory.data_size(&store).checked_sub(8).is_some_and(|last| at as usize <= last);
    if !is_within {
        bail!("pointer out of bounds");
    }
    let (list, len) = room.put_numbers(&mut store, &counts)?;
    room.put_words(&mut store, at as usize, &[list, len])
}

fn log(mut from: Caller<'_, Guest>, level: u32, at: u32, len: u32) -> wasmtime::Result<()> {
    guest(&mut from)?;
    let level = match level {
        0 => LogLevel::Error,
        1 => LogLevel::Warn,
        2 => LogLevel::Info,
        3 => LogLevel::Debug,
        other => bail!("unexpected discriminant: {other}"),
    };
    let room = room(&from)?;
    let (memory, guest) = room.memory.data_and_store_mut(&mut from);
    guest.say(level, memory::text(memory, at, len)?);
    Ok(())
}

/// Whoever calls, unless it is in the middle of giving room or of freeing what it answered.
fn guest<'a>(from: &'a mut Caller<'_, Guest>) -> wasmtime::Result<&'a mut Guest> {
    let guest = from.data_mut();
    if guest.may_leave { Ok(guest) } else { Err(Trap::CannotLeaveComponent.into()) }
}

/// The caller's memory, which it has as soon as it has started.
fn room(from: &Caller<'_, Guest>) -> wasmtime::Result<Room> {
    from.data().room.clone().ok_or_else(|| format_err!("called before the module has started"))
}
