//! The keys of the whole file.

use std::path::PathBuf;
use std::time::Duration;

use super::YEAR_MS;
use super::access::access_log;
use super::admin::{AdminSettings, check_admin};
use super::group::{GroupConfig, groups, shared_by_groups};
use super::log::LogSettings;
use crate::access::AccessSettings;
use crate::base::secret::Secret;
use crate::config::declare::{Fields, settings};
use crate::config::key::Change;
use crate::config::kinds::{
    Size, file, folder, list, optional, policy_key, rate, section, section_with, size, switch, text, time_or_zero,
    whole,
};
use crate::group::GroupSettings;
use crate::limits::Rate;
use crate::policy::wasm::source::PolicyKey;

/// Most keys that modules may be signed with.
const POLICY_KEYS_MAX: usize = 16;

/// What `policy_max_bytes` may be.
pub(in crate::config) const POLICY_MAX_BYTES: Size = size(1 << 10, 1 << 30);

settings! {
    /// `proxy.json`, read and checked: every value is usable as it is.
    pub struct Config {
        /// Where editors find the schema.
        schema("$schema"): Option<String> as optional(text()), Nothing;
        /// The admin port: HTTP requests that show and change what runs.
        admin: AdminSettings as section_with(check_admin), AtOnce;
        /// Log lines on stderr.
        log: LogSettings as section::<LogSettings>(), AtOnce;
        /// A line for each session that is over, in a file or in another format than that of the log; null for none.
        access_log: Option<AccessSettings> as optional(access_log()), AtOnce;
        /// A file that keeps what changes over HTTP say, so that this one is never written (relative to the folder of this file);
        /// null: changes are written into this file.
        state_file: Option<PathBuf> as optional(file()), NextStart;
        /// The folder of policy modules, relative to the folder of this file.
        policies_dir: PathBuf as folder("policies"), NextStart;
        /// The folder in which goproxy policy record writes what it records, relative to the folder of this file; null: nothing can be
        /// recorded. Recordings hold the addresses of clients.
        record_dir: Option<PathBuf> as optional(file()), AtOnce;
        /// How long sessions may go on after a TERM.
        drain_timeout: Duration as time_or_zero(1, YEAR_MS) => Duration::from_secs(30), AtOnce;
        /// Sessions of the whole process at a time; 0 for what its descriptors allow, which is the most in any case.
        max_sessions: u32 as whole::<u32>(0, u32::MAX as u64) => 0, NewSessions;
        /// New sessions of the whole process; null for no limit.
        session_rate: Option<Rate> as optional(rate()), NewSessions;
        /// How long clients are still taken after a TERM or an INT, while /ready says no, so that a balancer in front notices and
        /// sends no more; 0s for not at all. It comes before the time of drain_timeout.
        shutdown_delay: Duration as time_or_zero(1, YEAR_MS) => Duration::ZERO, AtOnce;
        /// How long sessions may go on in the old process after an upgrade; 0s for as long as they last.
        upgrade_drain_timeout: Duration as time_or_zero(1, YEAR_MS) => Duration::ZERO, AtOnce;
        /// Threads that carry data; 0 for one per core.
        threads: usize as whole::<usize>(0, 1_024) => 0, NextStart;
        /// True: each thread that carries data stays on a core of its own, or shares one where there are more threads
        /// than cores.
        pin_threads: bool as switch() => false, NextStart;
        /// The largest policy module that is read.
        policy_max_bytes: u64 as POLICY_MAX_BYTES => 8 << 20, NextStart;
        /// Public keys of minisign, or file:PATH of such a key. With at least one, every policy module needs a signature beside it,
        /// NAME.wasm.minisig, that one of them made.
        policy_keys: Vec<PolicyKey> as list(policy_key(), POLICY_KEYS_MAX) => Vec::new(), AtOnce;
        /// Settings of every group that does not say otherwise: any key of a group except name, listen and servers.
        defaults: GroupSettings as shared_by_groups(), AtOnce;
        /// The groups; no two have the same name, nor the same port unless both have a name.
        groups: Vec<GroupConfig> as groups() => Vec::new(), AtOnce;
        beside:
        /// True when the file had the flat form of the old program.
        is_legacy: bool = false;
        /// The other files that this one names, with secrets, lists of networks and certificates.
        other_files: Vec<PathBuf> = Vec::new();
        /// Secrets that are the former ones because theirs cannot be read, and why.
        kept_secrets: Vec<String> = Vec::new();
        /// Lists of networks that are the former ones because their files cannot be read, and why.
        kept_lists: Vec<String> = Vec::new();
        /// Certificates that are the former ones because theirs cannot be used, and why.
        kept_certificates: Vec<String> = Vec::new();
    }
}

impl Config {
    /// All secrets of the file.
    pub(in crate::config) fn secrets(&self) -> impl Iterator<Item = &Secret> {
        let groups = self.groups.iter().map(|group| &group.settings).chain([&self.defaults]);
        let passwords = groups.filter_map(|settings| settings.check.as_ref()?.password.as_ref());
        let tokens = [&self.admin.token, &self.admin.register_token, &self.admin.read_token];
        tokens.into_iter().flatten().chain(passwords)
    }

    /// The access log of a group with these settings.
    pub fn access_log_of<'a>(&'a self, group: &'a GroupSettings) -> Option<&'a AccessSettings> {
        group.access_log.or(self.access_log.as_ref())
    }

    /// The keys that are not those of `old`, but for groups and defaults: those are compared group by group.
    pub fn changes_since(&self, old: &Self) -> Vec<Change> {
        let mut found = Vec::new();
        self.changes(old, "", &mut found);
        found
    }
}
