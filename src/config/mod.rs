//! The shape of `proxy.json`: read it, check it, edit it, save it.
//!
//! [`parse()`] gives the checked [`Config`] or every mistake with its line and column. [`Document`] makes
//! the changes that come over HTTP in the text itself, so that all a user wrote around them stays byte
//! for byte. [`mod@file`] reads and replaces the file whole, [`watch`] notices that files have changed. Each key is declared once, in `fields`: reading, dumping,
//! comparing, the schema and `docs/configuration.md` follow from the declaration. What a change does to the running
//! proxy is left to `control`; nothing here knows what runs.

mod check;
mod declare;
mod dump;
mod fields;
mod find;
pub mod flags;
mod hints;
mod key;
mod kinds;
mod legacy;
mod loops;
mod object;
mod overlay;
mod problem;
mod reach;
mod read;
mod reader;
mod routes;
mod scenario;
mod schema;
mod syntax;
mod text;
mod units;
pub mod watch;

#[cfg(test)]
mod tests;

pub use crate::base::secret::Secret;
pub use crate::log::{LogFormat, LogLevel};

pub use dump::dump;
pub use fields::{AdminSettings, Config, GROUPS_MAX, GroupConfig, LogSettings, SERVERS_MAX};
pub use find::{FILE_NAME, NotFound, PATH_VARIABLE, find};
pub use key::{Change, Effect};
pub use kinds::{AdminListen, LABEL_LEN_MAX, LABELS_MAX, MODULE_CONFIG_LEN_MAX, SECRET_LEN_MAX};
pub use legacy::LEGACY_NOTE;
pub use overlay::{Overlay, Override, Overruled, Stored, StoredError};
pub use problem::Problem;
pub use read::{Inspection, Lists, inspect, parse, parse_after};
pub use scenario::{
    Arrivals, Clients, Durations, Happening, SERVERS_MAX as SIMULATED_SERVERS_MAX, Scenario, ServerPlan,
    parse_scenario, scenario_schema, server_index,
};
pub use schema::schema;
pub use syntax::FILE_BYTES_MAX;
pub use text::{Document, Edit, EditError, save as file};
