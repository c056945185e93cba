//! Recording what a policy is asked and answers, so that it can be asked the same again, anywhere and bit for bit.
//!
//! A pick is a function of what the policy is shown. Time and randomness come with the request; the servers' figures come
//! from a [`Mirror`], which changes only between two requests and only by what is noted. So what is noted is what
//! was seen, however many sessions come and go meanwhile. [`Recorded`] stands in the place of the policy that is
//! recorded and gives each [`Note`] to a [`Tape`], which never waits. Writing notes to a file is left to the caller, and
//! so is reading them: [`Blocks`] and [`Decoder`] are for that.

mod about;
mod blocks;
mod bytes;
mod epochs;
mod mirror;
mod note;
mod policy;
mod tape;

pub use about::{About, AboutModule};
pub use blocks::{Blocks, FIRST_LINE, NoRecording, block};
pub use epochs::{Epochs, PickNumber};
pub use mirror::{Mirror, take_over};
pub use note::{Asked, BadNote, Decoder, Note, Reported, Servers, Shown, end_note};
pub use policy::{AfterRecording, Recorded, servers_note};
pub use tape::{Noted, SERVERS_MAX, Tape, TapeOptions};
