//! What every other part may use: the clock, random numbers, texts, terminals, vital threads, and a file watcher.

pub mod clock;
pub mod label;
pub mod random;
pub mod terminal;
pub mod text;
pub mod vital;
pub mod watch;
