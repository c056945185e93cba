//! The promises of the program, checked from outside on the built binary. One file per promise.

mod support;

mod bytes;
mod command_line;
mod descriptors;
mod drain;
mod ends;
mod finding_a_server;
mod half_close;
mod layers;
mod memory;
mod resets;
mod shipped_config;
mod timeouts;
