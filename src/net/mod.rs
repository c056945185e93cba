//! Listening sockets, as the data threads and the admin port need them.

mod descriptors;
pub(crate) mod failure;
mod foreign;
mod listen;
mod overlap;

pub(crate) use descriptors::admin_connections_max;
pub(crate) use listen::{BACKLOG, bind};
