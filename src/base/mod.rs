//! What every other part may use: the clock, random numbers, texts, terminals, what groups are called, vital threads.

pub mod clock;
pub mod label;
pub mod random;
pub mod terminal;
pub mod text;
pub mod vital;
