//! A policy beside which another one is tried on the same traffic.
//!
//! [`Tapped`] stands in the place of the policy that serves, which answers as ever. What it was asked and what became of it
//! goes into a [`Tap`], a bounded queue that somebody else empties: whoever asks the other policy does so on a thread of its
//! own, off the data path. When the queue is full, what comes is dropped and counted; nobody waits.

mod tap;
mod tapped;

pub use tap::{Batch, Tap, Told};
pub use tapped::Tapped;
