//! What every other part may use: the coarse clock, and noticing that files have changed.

pub mod clock;
pub mod label;
pub mod watch;
