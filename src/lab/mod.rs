//! What a policy's author and an operator ask of modules before any traffic meets them.
//!
//! [`check()`] loads one file as the proxy does and puts it through a conformance run on servers that exist only
//! in memory; [`list()`] tries every module of the folder with the configuration that `proxy.json` gives it, and
//! [`unusable`] tells which groups name a module that cannot be used; [`create()`] writes a policy to start
//! from. Nothing here talks to a running proxy, opens a connection or changes `proxy.json`. What a module does
//! wrong is a reason in a report, never an error of ours; flags, streams and exit codes are left to the command
//! line.

mod check;
mod cost;
mod create;
mod langs;
mod list;
mod report;
mod rig;
mod scenes;
mod style;

#[cfg(test)]
mod tests;

pub use check::check;
pub use create::{CreateError, create};
pub use langs::{Lang, next_steps};
pub use list::{Listing, list, unusable};
pub use report::Report;
pub use style::Style;
pub(crate) use style::grouped;
