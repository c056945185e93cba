//! goproxy: a TCP (layer 4) reverse proxy whose balancing policies are plugins.
//!
//! The crate is the whole program; `main.rs` only turns flags, signals and errors into a process.
//! `ARCHITECTURE.md` leads to the place to change. Modules are layers: each imports only from those
//! that stand above it in this list.

pub mod clock;
pub mod counters;
pub mod log;
mod reactor;
pub mod server;
pub mod watch;

pub mod policy;

pub mod group;

pub mod session;

mod listener;

mod data_thread;

mod threads;

pub mod config;

pub mod control;

pub mod admin;
pub mod metrics;
pub mod report;
mod resolve;

pub mod proxy;

pub mod workbench;

pub mod cli;

pub mod demo;
