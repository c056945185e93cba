//! Listening sockets, as the data threads and the admin port need them.

mod listen;

pub(crate) use listen::{BACKLOG, bind};
