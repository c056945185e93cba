//! The promises of the program, checked from outside on the built binary. One file per promise.

mod support;

mod admin_guard;
mod admin_kit;
mod admin_observe;
mod admin_requests;
mod bytes;
mod command_line;
mod command_line_policy;
mod config_churn;
mod config_reload;
mod config_untouched;
mod descriptors;
mod documents;
mod drain;
mod ends;
mod finding_a_server;
mod half_close;
mod layers;
mod memory;
mod persist_changes;
mod persist_kill;
mod pinned_threads;
mod policy_dropped_in;
mod policy_explain;
mod policy_files;
mod policy_hostile;
mod policy_kit;
mod policy_servers;
mod policy_swaps;
mod registration_leases;
mod registration_rules;
mod resets;
mod service_manager;
mod shipped_config;
mod timeouts;
