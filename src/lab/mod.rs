//! Trying policies before they get traffic.
//!
//! [`check()`] loads one file as the proxy does and runs conformance checks on it, with servers that exist only in
//! memory. [`list()`] tries every module in the folder with its configuration in `proxy.json`. [`unusable`] finds the
//! groups whose module cannot be used. [`mod@simulate`] runs policies on made-up sessions,
//! [`mod@replay`] asks them again what was recorded. [`create()`] writes a policy to start from.
//!
//! Nothing here talks to a running proxy, opens a connection or changes `proxy.json`. A module's fault is a reason in a
//! report, never an error of this program. Flags, streams and exit codes are left to `cli`.

mod check;
mod cost;
mod create;
mod figures;
mod langs;
mod list;
mod page;
pub mod replay;
mod report;
mod rig;
mod scenes;
pub mod simulate;
mod subject;
mod table;

#[cfg(test)]
mod tests;

pub use check::check;
pub use create::{CreateError, create};
pub use figures::Quantiles;
pub use langs::{Lang, next_steps};
pub use list::{Listing, list, unusable};
pub use report::Report;
pub use subject::Subject;
pub use table::table as text_table;
