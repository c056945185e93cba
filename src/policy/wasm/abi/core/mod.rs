//! A core module called as it is, without the component that was made of it.
//!
//! The engine's way into a component goes through a chain of tables, which are out of the processor's caches by the
//! next pick and cost several times what the pick does; a core function is one jump away. What the component would do
//! for values that are no plain numbers is done in `functions` and `memory`, as the canonical ABI says, for the few
//! types of `wit/balance.wit`:
//! <https://github.com/WebAssembly/component-model/blob/main/design/mvp/CanonicalABI.md>.
//! That the module's types are those is known from [`crate::policy::wasm::source`]. Nothing that it answers is trusted:
//! an address out of range, a number without a meaning and a text that is no UTF-8 are errors, in the words of the
//! engine.

mod functions;
mod host;
mod memory;
#[cfg(test)]
mod tests;

pub(super) use functions::{Functions, Linked};
