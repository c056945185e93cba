//! A check that connects.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::Instant;

use super::connect::{connect, end_in_order};
use crate::base::clock;
use crate::group::check::{CheckResult, CheckSettings};
use crate::server::Server;

/// A failure that took longer than its time-out by this factor says nothing: the process was stopped meanwhile.
const STOPPED_FACTOR: f64 = 1.5;

/// The check of one server, when it is over.
pub(super) struct Attempt {
    /// What it has shown; `None` when it says nothing of the server.
    pub(super) result: Option<CheckResult>,
    /// The connection, to be ended in order.
    pub(super) end: Option<End>,
}

/// A connection that is to be ended in order.
pub(super) struct End(TcpStream);

impl End {
    /// Ends it. True when the server had sent what MySQL greets with.
    pub(super) async fn greets_as_mysql(self) -> bool {
        let said = end_in_order(self.0).await;
        // A packet of MySQL: its length, the number 0, and version 10 of the protocol.
        matches!(said[..], [length, 0, 0, 0, 10, ..] if said.len() == usize::from(length) + 4)
    }
}

/// Checks a server by a connect.
pub(super) async fn check(server: Arc<Server>, settings: Arc<CheckSettings>) -> Attempt {
    let (timeout, started, since_us) = (settings.timeout(), Instant::now(), clock::precise_us());
    let connected = connect(&addresses(&server, settings.port), timeout).await;
    let micros = clock::precise_us().saturating_sub(since_us);
    let (outcome, end) = match connected {
        None => return Attempt { result: None, end: None },
        Some(Ok(stream)) => (Ok(()), Some(End(stream))),
        Some(Err(_)) if is_void(started.elapsed(), timeout) => return Attempt { result: None, end: None },
        Some(Err(why)) => (Err(why), None),
    };
    let connect_us = (settings.port == 0 && outcome.is_ok()).then_some(micros);
    Attempt { result: Some(CheckResult { outcome, micros, connect_us }), end }
}

/// Where a session would go, the address that answered last first, or another port there.
fn addresses(server: &Server, port: u16) -> Vec<SocketAddr> {
    let mut addresses = server.live.addresses_in_order();
    if port != 0 {
        addresses.iter_mut().for_each(|addr| addr.set_port(port));
    }
    addresses
}

/// True when a failure after so long says nothing of the server.
fn is_void(took: Duration, timeout: Duration) -> bool {
    took > timeout.mul_f64(STOPPED_FACTOR)
}
