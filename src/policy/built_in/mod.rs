//! The built-in policies, and what only they share.
//!
//! Each policy is one file and one entry of `table`, from which names, checks and listings follow.

mod alias;
mod choose;
mod ha;
mod hash;
mod ip_hash;
mod least_sessions;
mod maglev;
mod order;
mod p2c;
mod random;
mod round_robin;
mod table;
#[cfg(test)]
mod tests;

pub use table::{BUILT_IN, BuiltIn, describe, make};
