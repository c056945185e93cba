//! Who says that a server works.
//!
//! The proxy itself tries servers by connects of its own, on a thread of its own, so that no client has to find out: those
//! that clients could not reach, until they answer, and those whose lease is kept although their heartbeats have stopped
//! (`probes`); and those whose group wants them checked (`checks`), by a conversation of the wanted kind (`kinds`). It also
//! lets servers in again that were kept out for a time (`ejections`). What an outcome means for a server is its group's
//! business.

mod attempt;
mod checks;
mod connect;
mod ejections;
mod fuzz;
mod kinds;
mod plan;
mod probes;
mod wire;

pub(crate) use checks::IN_FLIGHT_MAX;
#[cfg(fuzzing)]
pub(crate) use fuzz::fuzz;
use std::io;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::base::vital;
use crate::counters::ProcessCounters;
use crate::events;
use crate::sources::Running;

/// Starts the thread that tries servers, which runs until `stop`. Its end by surprise ends the process.
///
/// # Errors
///
/// The system refuses a thread, or what the thread waits with.
pub(crate) fn start(running: Arc<Running>, counters: Arc<ProcessCounters>, stop: CancellationToken) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let changes = [events::subscribe(), events::subscribe(), events::subscribe()];
    let run = move || {
        let [of_probes, of_checks, of_ejections] = changes;
        let probing = probes::run(Arc::clone(&running), of_probes, stop.clone());
        let ending = ejections::run(Arc::clone(&running), of_ejections, stop.clone());
        let checking = checks::run(running, counters, of_checks, stop);
        runtime.block_on(async { tokio::join!(probing, ending, checking) });
    };
    vital::spawn("checks", None, run).map(drop)
}
