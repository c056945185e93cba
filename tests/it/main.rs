//! The promises of the program, checked from outside on the built binary. One file per promise.

mod support;

mod bytes;
mod ends;
mod finding_a_server;
mod half_close;
mod resets;
mod timeouts;
