//! The two ways to call a module: as a component, and as the core module in it.
//!
//! [`Linked`] is a module compiled and linked, [`Functions`] are those of one instance; callers need not know which of
//! the two ways is taken. Who may be called directly is decided by [`super::source`].

mod component;
mod core;
mod linked;

pub(super) use linked::{Functions, Linked};
