//! What every other part may use: the coarse clock, what groups are called, and threads that must not end.

pub mod clock;
pub mod label;
pub mod vital;
