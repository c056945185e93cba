//! What every other part may use: the coarse clock, threads that must not end, and noticing that files
//! have changed.

pub mod clock;
pub mod label;
pub mod vital;
pub mod watch;
