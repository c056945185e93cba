//! Turns flags, signals and an error chain into a process.

fn main() {}
