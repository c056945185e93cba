//! Listening sockets, as the data threads and the admin port need them.

mod foreign;
mod listen;
mod overlap;

pub(crate) use listen::{BACKLOG, bind};
