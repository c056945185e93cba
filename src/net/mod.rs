//! Sockets, as the data threads, the checks and the admin port need them, and what proxies say in front of a connection.

pub(crate) mod client_hello;
mod descriptors;
mod foreign;
mod inherited;
mod listen;
mod liveness;
mod overlap;
pub(crate) mod postgresql;
pub(crate) mod proxy_header;
pub(crate) mod source;
mod window;

pub(crate) use descriptors::admin_connections_max;
pub(crate) use inherited::{Inherited, check};
pub(crate) use listen::{BACKLOG, bind};
pub(crate) use liveness::{set_liveness, set_user_timeout};
pub(crate) use window::Windows;
