//! Choosing the server for a new client.
//!
//! A policy is a function of what it is shown: the client's address, an immutable set of servers, which
//! of them are closed to this session, and the time and randomness that come with the request. It does
//! no I/O, never blocks and keeps no server between two calls. Its answer is an index, which the group
//! checks before it uses it.
//!
//! A policy that precomputes something (a weighted order, a hash table) does so in
//! [`IBalancePolicy::for_servers`], which the group calls off the data path whenever its servers change;
//! a pick then costs the same with 10 and with 10,000 servers. [`factory`] is the only place that turns a
//! configured name into a policy. Retrying is not a policy's business: after a failed connect the session
//! asks again with that server closed.

pub mod built_in;
pub mod factory;
pub mod follow;
pub mod recorded;
pub mod shadow;
pub mod spec;
pub mod wasm;

mod balance;
mod oversee;
#[cfg(test)]
mod testing;

pub use balance::{Closed, Epoch, IBalancePolicy, Outcome, PickRequest, Picked, RehearsalError, ServerSet};
pub use oversee::{Birth, InstanceChange, Overseer};
