//! What every other part may use: the clock, files, random numbers, secrets, texts, terminals, what groups are called, vital threads.

pub mod clock;
pub(crate) mod failure;
pub mod file;
pub mod label;
pub mod random;
pub mod secret;
pub mod terminal;
pub mod text;
pub mod vital;
