//! An upgrade: a new process of this program takes over from the one that runs, and no client notices.
//!
//! The old process starts the new one, which gets one end of a socket pair in place of its stdin. Over that pair they
//! exchange messages:
//!
//! ```text
//! old                                                   new
//!  starts the program that is on disk now, with the
//!  arguments of this one                          ────▶
//!                                                 ◀──── Hello { protocol, pid, version }
//!  changes wait from now on
//!  Sockets { … } and the listening sockets        ────▶ reads the file, uses the sockets, binds what is new,
//!                                                       loads its modules; accepts nobody
//!                                                 ◀──── Ready { unused }
//!  accepts nobody any more: clients wait in the
//!  queues of the sockets that both have
//!  State { leases, checks, sessions, … }          ────▶ takes it over, accepts
//!                                                 ◀──── Serving: the point of no return
//!  closes its sockets; MAINPID to systemd
//!  Main                                           ────▶ READY=1
//!  drains
//!  Sessions { … }, once a second                  ────▶ counts them for its limits
//!  ends                                           ────▶ end of file: counts none
//! ```
//!
//! What holds, whatever happens:
//!
//! 1. The sockets are the same ones in both processes, and at no moment has neither of them. So nobody is refused or reset:
//!    a client waits in a queue for as long as no process accepts, some milliseconds.
//! 2. Until `Serving`, the old process can take everything back, as it has closed nothing and told nobody else: it kills the
//!    new one, accepts again, and makes the changes that have waited. It does so when a message is late (`HELLO_MAX`,
//!    `READY_MAX`, `SERVING_MAX`), when the new process ends, and when it says that it cannot.
//! 3. Each learns of the other's end by the end of file: nobody else has an end of the pair. A new process that has no
//!    `State` yet then ends. With it, it serves, whether the old process lives or not.
//! 4. From `Hello` until the outcome, the file is written by nobody, so what the new process reads is all there is; after it
//!    the new one alone writes it.
//! 5. A session ends in the process in which it began.
//! 6. The two may be of different versions, either way round. What is absent is as at a cold start, and what is unknown is
//!    passed over. `PROTOCOL` is for what could not be so.
//!
//! What is done to listeners, changes and sessions is the business of `proxy`, and what is carried over of a group is the
//! group's.

mod link;
mod message;
mod predecessor;
mod program;
mod successor;

use std::time::Duration;

pub(crate) use message::State;
pub use predecessor::Predecessor;
pub(crate) use predecessor::{Former, Told};
pub use program::Program;
pub(crate) use successor::{Shared, Successor};

/// The version of the protocol.
const PROTOCOL: u32 = 1;

/// Set for the new process.
const VARIABLE: &str = "GOPROXY_UPGRADE";

/// From the start of the new process to its first message.
const HELLO_MAX: Duration = Duration::from_secs(10);

/// How long the new process may take to be ready: it may have many modules to compile.
const READY_MAX: Duration = Duration::from_secs(60);

/// From then to its first client. No client is accepted meanwhile.
const SERVING_MAX: Duration = Duration::from_secs(10);

/// Processes that may drain at a time, so that frequent upgrades do not pile them up.
pub(crate) const DRAINING_MAX: u32 = 4;
