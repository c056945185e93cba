//! The data plane: threads that accept clients and carry their sessions.
//!
//! `threads` is what management sees of it; `thread` is the loop of one of them, which waits in `poll`, accepts
//! with its `listeners` and advances its `sessions`. Nothing here waits for management.

mod deadlines;
pub(crate) mod listener;
pub(crate) mod poll;
pub mod session;
mod sessions;
mod listeners;
pub(crate) mod thread;
pub(crate) mod threads;
