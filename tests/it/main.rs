//! The promises of the program, checked from outside on the built binary. One file per promise.

mod support;

mod access_log;
mod admin_api;
mod admin_guard;
mod admin_observe;
mod admin_requests;
mod admin_workers;
mod bytes;
mod check_kinds;
mod checks;
mod checks_fail;
mod command_line;
mod command_line_policy;
mod config_churn;
mod config_mistakes;
mod config_reload;
mod config_secrets;
mod config_untouched;
mod connect_wait;
mod dashboard;
mod demo;
mod descriptors;
mod documents;
mod drain;
mod ends;
mod events;
mod events_command;
mod finding_a_server;
mod group_names;
mod half_close;
mod kept_leases;
mod layers;
mod limits;
mod listening;
mod log_keys;
mod memory;
mod operate_commands;
mod persist_changes;
mod persist_kill;
mod pinned_threads;
mod policy_dropped_in;
mod policy_explain;
mod policy_files;
mod policy_hostile;
mod policy_kit;
mod policy_record;
mod policy_servers;
mod policy_shadow;
mod policy_signed;
mod policy_simulate;
mod policy_swaps;
mod proxy_header;
mod registration_leases;
mod registration_rules;
mod resets;
mod routes;
mod server_down;
mod service_manager;
mod session_age;
mod shipped_config;
mod state_file;
mod starttls;
mod stderr;
mod surprises;
mod tcp_options;
mod timeouts;
#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "tls")]
mod tls_abuse;
#[cfg(feature = "tls")]
mod tls_checks;
#[cfg(feature = "tls")]
mod tls_clients;
#[cfg(feature = "tls")]
mod tls_kit;
#[cfg(feature = "tls")]
mod tls_reload;
#[cfg(feature = "tls")]
mod tls_secrets;
#[cfg(feature = "tls")]
mod tls_servers;
#[cfg(feature = "top")]
mod top;
mod upgrade;
mod upgrade_fails;
mod upgrade_state;
mod walk;
