//! Listening sockets, as the data threads and the admin port need them, and what proxies say in front of a connection.

mod descriptors;
mod foreign;
mod listen;
mod overlap;
pub(crate) mod proxy_header;

pub(crate) use descriptors::admin_connections_max;
pub(crate) use listen::{BACKLOG, bind};
