//! The keys of `log`.

use std::time::Duration;

use super::YEAR_MS;
use crate::config::declare::settings;
use crate::config::kinds::{Time, time_or_zero, word};
use crate::events::{RequestLines, SessionLines};
use crate::log::{LogFormat, LogLevel};

/// What `status_interval` may be.
pub(in crate::config) const STATUS_INTERVAL: Time = time_or_zero(100, YEAR_MS);

settings! {
    /// Logs as configured.
    pub struct LogSettings {
        /// Lines for people or for machines.
        format: LogFormat as word::<LogFormat>() => LogFormat::Text, NextStart;
        /// The least important level that is written.
        level: LogLevel as word::<LogLevel>() => LogLevel::Info, AtOnce;
        /// Which lines there are of each session. all: the client, the server, the end; closed: the end; refused: the end of those
        /// that got no server; none.
        sessions: SessionLines as word::<SessionLines>() => SessionLines::All, AtOnce;
        /// Which requests of the admin port are written. all: every one but heartbeats that change nothing; changes: those that
        /// change something, and those that are refused.
        requests: RequestLines as word::<RequestLines>() => RequestLines::All, AtOnce;
        /// How often the line with the numbers of clients and servers is written; 0s for never.
        status_interval: Duration as STATUS_INTERVAL => Duration::from_secs(5), AtOnce;
    }
}
