//! Every key of `proxy.json`: one declaration each.
//!
//! [`settings!`](super::declare) explains declarations. The structs of groups, servers and modules are defined where
//! they are used, the others here. Conditions between values are left to `check`.

mod access;
mod admin;
mod check;
mod group;
mod limits;
mod log;
mod module;
mod on_down;
mod proxy;
mod route;
mod root;
mod server;
mod servers;
mod server_tls;
mod tcp;
mod tls;

pub use admin::AdminSettings;
pub use group::{GROUPS_MAX, GroupConfig};
pub(super) use group::{HEARTBEAT_TIMEOUT, IDLE_TIMEOUT};
pub use log::LogSettings;
pub(super) use log::STATUS_INTERVAL;
pub(super) use module::{COMPILE_BUDGET, DEADLINE, MEMORY};
pub use root::Config;
pub(super) use root::POLICY_MAX_BYTES;
pub(super) use server::server_text;
pub use servers::SERVERS_MAX;

const MINUTE_MS: u64 = 60_000;
const YEAR_MS: u64 = 365 * 86_400_000;
