//! What every other part may use: the coarse clock, random numbers, texts and terminals, threads that must not end, and
//! noticing that files have changed.

pub mod clock;
pub mod label;
pub mod random;
pub mod terminal;
pub mod text;
pub mod vital;
pub mod watch;
