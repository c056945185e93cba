//! Policies in WebAssembly: modules from a folder, used by the next connection, unable to hurt the proxy.
//!
//! The interface is `wit/balance.wit`. A file becomes a component ([`source`]), that or the core module in it is
//! compiled and linked (`engine`), and each group that names the module gets an instance of its own (`instance`),
//! put to work in a `slot`. [`Modules`] knows which modules are in use and swaps them when their files change,
//! on a thread of its own (`registry`); sessions only ever call `pick`, and hear from the fallback when that
//! fails. A module reaches nothing but what the interface offers and is bounded in time, memory and lines
//! of log; none of its answers is trusted.

pub mod source;
pub mod trial;
pub mod view;

mod bare;
mod bindings;
mod calls;
mod engine;
mod guest;
mod instance;
mod loader;
mod modules;
mod policy;
mod registry;
mod slot;
#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) mod guests;

pub use modules::{ModuleError, Modules};
