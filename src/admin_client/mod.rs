//! Asking a running proxy, as an operator does: over its admin port.
//!
//! Commands that need a running proxy ask through [`AdminClient`]: one request and its JSON answer, or an answer that goes
//! on ([`Subscription`], and [`Follow`], which connects again). Each request has a connection of its own, because a
//! command makes few. Every wait has a limit. Whoever answers is not trusted: what is no goproxy is told as such, and
//! an answer without end is cut off. How an answer is shown is left to the commands.

mod target;
mod address;
mod error;
mod messages;
mod connection;
mod client;
mod follow;

pub use address::AdminAddr;
pub use client::AdminClient;
pub use connection::Subscription;
pub use error::AskError;
pub use follow::{Follow, Told};
pub use messages::Message;
pub use target::encoded;

#[cfg(test)]
mod tests;
