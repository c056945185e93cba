//! Policies in WebAssembly: modules from a folder, used by the next connection, unable to hurt the proxy.
//!
//! The interface is `wit/balance.wit`. Of one module there is a *file* ([`source`]), which becomes a component; that
//! or the core module in it is *compiled* (`loader`, `compiled`), and each group that names the module gets an
//! *instance* of its own (`instance`, which calls it by way of `abi`), put to work in a *slot*. [`Modules`] knows which
//! modules are in use and swaps them when their files change, on a thread of its own (`registry`); sessions only ever
//! call `pick`, and are served by the fallback when that fails. A module reaches nothing but what the interface offers and is bounded in time, memory and lines
//! of log; none of its answers is trusted.

pub mod source;
pub mod trial;
pub mod view;

mod abi;
mod answers;
mod bindings;
mod compiled;
mod engine;
mod error;
mod fault;
mod files;
mod host;
mod instance;
mod loader;
mod module;
mod modules;
mod policy;
mod record;
mod registry;
mod slot;
mod start;
mod status;
#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) mod guests;

pub use error::ModuleError;
pub use modules::Modules;
