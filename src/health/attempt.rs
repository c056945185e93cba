//! One check of one server: a connect, a conversation of the kind that is wanted, an end in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::Instant;

use super::connect::{connect, end_with, header_of};
use super::kinds::{self, Talk};
use crate::base::clock;
use crate::group::check::{CheckKind, CheckResult, CheckSettings};
use crate::server::{SendProxy, Server};

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
pub(super) struct End {
    stream: TcpStream,
    goodbye: &'static [u8],
    /// Nothing was said on it, so what the server says is its greeting.
    is_bare: bool,
}

impl End {
    /// Ends it. True when nothing was said and the server had sent what MySQL greets with.
    pub(super) async fn greets_as_mysql(self) -> bool {
        let said = end_with(self.stream, self.goodbye).await;
        // A packet of MySQL: its length, the number 0, and version 10 of the protocol.
        self.is_bare && matches!(said[..], [length, 0, 0, 0, 10, ..] if said.len() == usize::from(length) + 4)
    }
}

/// Checks a server that gets this PROXY header first.
pub(super) async fn check(server: Arc<Server>, settings: Arc<CheckSettings>, header: SendProxy) -> Attempt {
    let (timeout, started, since_us) = (settings.timeout(), Instant::now(), clock::precise_us());
    let elapsed_us = || clock::precise_us().saturating_sub(since_us);
    let result = |outcome| {
        let says_nothing = Result::is_err(&outcome) && is_void(started.elapsed(), timeout);
        (!says_nothing).then(|| CheckResult { outcome, micros: elapsed_us(), connect_us: None, code: None })
    };
    let mut stream = match connect(&addresses(&server, settings.port), server.live.source(), timeout).await {
        None => return Attempt { result: None, end: None },
        Some(Err(why)) => return Attempt { result: result(Err(why)), end: None },
        Some(Ok(stream)) => stream,
    };
    let connect_us = (settings.port == 0).then(elapsed_us);
    let is_bare = settings.kind == CheckKind::Tcp;
    let header = header_of(header, &stream);
    let mut talk = Talk::new(&mut stream, started + timeout, timeout);
    let holding = async {
        if let Some(header) = header {
            talk.send(&header).await?;
        }
        kinds::hold(&mut talk, &settings, &server.settings.addr).await
    };
    let held = holding.await;
    let code = talk.take_code();
    let result = |outcome| result(outcome).map(|result| CheckResult { code: code.clone(), ..result });
    match held {
        Ok(goodbye) => {
            let result = result(Ok(())).map(|result| CheckResult { connect_us, ..result });
            Attempt { result, end: Some(End { stream, goodbye, is_bare }) }
        }
        // Such a server would not hear the end either, and waiting for its own would take the place of another check.
        Err(failure) if failure.is_late => {
            drain(&stream);
            Attempt { result: result(Err(failure.why)), end: None }
        }
        Err(failure) => Attempt { result: result(Err(failure.why)), end: Some(End { stream, goodbye: b"", is_bare }) },
    }
}

/// Takes what has come already: with that unread, closing would reset the connection.
fn drain(stream: &TcpStream) {
    // One buffer's worth: whoever sends more than that gets a reset.
    let _ = stream.try_read(&mut [0; 4_096]);
}

/// Where a session would go, those last that have failed, or another port there.
fn addresses(server: &Server, port: u16) -> Vec<SocketAddr> {
    let mut addresses = server.live.addresses().in_order();
    if port != 0 {
        addresses.iter_mut().for_each(|addr| addr.set_port(port));
    }
    addresses
}

/// True when a failure after so long says nothing of the server.
fn is_void(took: Duration, timeout: Duration) -> bool {
    took > timeout.mul_f64(STOPPED_FACTOR)
}
