//! goproxy: a TCP (layer 4) reverse proxy whose balancing policies are plugins.
//!
//! The crate is the whole program; `main.rs` only turns flags, signals and errors into a process.
//! `ARCHITECTURE.md` leads to the place to change. Each paragraph of the list is a floor of the house,
//! lowest first: a module imports only from those that stand above it here, and inside a folder there are no circles.

#![warn(clippy::unwrap_used, reason = "input never panics; `expect` names the invariant")]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "what a test starts ends with it"))]

pub mod base;
pub mod counters;
pub mod access;
pub mod events;
pub mod log;
pub mod server;
pub mod limits;
pub mod tls;

pub mod policy;

pub mod group;

mod net;
pub mod data;

pub mod config;

pub mod sources;
mod health;

pub mod control;

pub mod metrics;
pub mod frames;
pub mod admin;
pub mod status;
pub mod service;
pub mod upgrade;

pub mod proxy;

pub mod lab;
pub mod admin_client;
pub mod top;
pub mod cli;
pub mod demo;
pub mod fuzz;
