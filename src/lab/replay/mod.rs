//! `goproxy policy replay`: asks policies again what was recorded.
//!
//! [`repeat`] asks the policy that was recorded and compares each answer: on any machine they are the same, bit for bit.
//! [`compare`] asks another policy the same questions; see [`follow`](crate::policy::follow). A recording is not trusted: what makes no sense in it is an error.

mod compare;
mod notes;
mod repeat;
mod survey;
mod text;
#[cfg(test)]
mod tests;

pub use compare::{Compared, Comparison, compare};
pub use notes::ReplayError;
pub use repeat::{Difference, Repeated, repeat};
pub use survey::{Survey, survey};
pub use text::{compared_page, compared_text, repeated_text};
