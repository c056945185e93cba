//! One check of one server: a connect, a handshake where TLS is spoken, a conversation of the kind that is wanted, an end in
//! order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::Instant;

use super::connect::{connect, end_with, header_of};
use super::kinds::{self, Failure, Talk};
use super::wire::Wire;
use crate::base::clock;
use crate::group::Snapshot;
use crate::group::check::{CheckKind, CheckResult, CheckSettings};
use crate::server::{SendProxy, Server};
use crate::tls::Connector;

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
    wire: Wire,
    goodbye: &'static [u8],
    /// Nothing was said on it, so what the server says is its greeting.
    is_bare: bool,
}

impl End {
    /// Ends it. True when nothing was said and the server had sent what MySQL greets with.
    pub(super) async fn greets_as_mysql(self) -> bool {
        let said = end_with(self.wire, self.goodbye).await;
        // A packet of MySQL: its length, the number 0, and version 10 of the protocol.
        self.is_bare && matches!(said[..], [length, 0, 0, 0, 10, ..] if said.len() == usize::from(length) + 4)
    }
}

/// How a check speaks to a server.
#[derive(Debug)]
pub(super) struct Manner {
    /// The PROXY header that the server gets first.
    header: SendProxy,
    /// How TLS is spoken; `None` for a check in plain.
    tls: Option<Arc<Connector>>,
    /// Once the conversation begins, the server has shown that sessions reach it.
    is_as_sessions: bool,
}

impl Manner {
    /// That of a check of this server, in a group as it is now.
    pub(super) fn new(settings: &CheckSettings, server: &Server, group: &Snapshot) -> Self {
        let of_sessions = group.server_tls.as_ref();
        let tls = match &settings.server_tls {
            Some(_) => group.check_tls.as_ref(),
            None => of_sessions.filter(|_| settings.speaks_tls_as_sessions()),
        };
        let is_as_sessions = settings.port == 0 && (of_sessions.is_none() || settings.speaks_tls_as_sessions());
        let header = settings.header(server.settings.send_proxy.unwrap_or(group.settings.send_proxy));
        Self { header, tls: tls.cloned(), is_as_sessions }
    }
}

/// Checks a server.
pub(super) async fn check(server: Arc<Server>, settings: Arc<CheckSettings>, manner: Manner) -> Attempt {
    if settings.kind == CheckKind::Tls && manner.tls.is_none() {
        // Its group has other settings since this moment: a connect alone says nothing.
        return Attempt { result: None, end: None };
    }
    let (timeout, started, since_us) = (settings.timeout(), Instant::now(), clock::precise_us());
    let elapsed_us = || clock::precise_us().saturating_sub(since_us);
    let result = |outcome| {
        let says_nothing = Result::is_err(&outcome) && is_void(started.elapsed(), timeout);
        (!says_nothing).then(|| CheckResult { outcome, micros: elapsed_us(), connect_us: None, code: None })
    };
    let stream = match connect(&addresses(&server, settings.port), server.live.source(), timeout).await {
        None => return Attempt { result: None, end: None },
        Some(Err(why)) => return Attempt { result: result(Err(why)), end: None },
        Some(Ok(stream)) => stream,
    };
    let is_bare = settings.kind == CheckKind::Tcp;
    let header = header_of(manner.header, &stream);
    let mut wire = Wire::from(stream);
    let mut talk = Talk::new(&mut wire, started + timeout, timeout);
    let holding = async {
        if let Some(tls) = &manner.tls {
            talk.send(header.as_deref().unwrap_or_default()).await?;
            talk.secure(tls, server.settings.addr.host()).await?;
        }
        let connect_us = manner.is_as_sessions.then(elapsed_us);
        if let (Some(header), None) = (header, &manner.tls) {
            talk.send(&header).await?;
        }
        let goodbye = kinds::hold(&mut talk, &settings, &server.settings.addr).await?;
        Ok::<_, Failure>((connect_us, goodbye))
    };
    let held = holding.await;
    let code = talk.take_code();
    let result = |outcome| result(outcome).map(|result| CheckResult { code: code.clone(), ..result });
    match held {
        Ok((connect_us, goodbye)) => {
            let result = result(Ok(())).map(|result| CheckResult { connect_us, ..result });
            Attempt { result, end: Some(End { wire, goodbye, is_bare }) }
        }
        // Such a server would not hear the end either, and waiting for its own would take the place of another check.
        Err(failure) if failure.is_late => {
            drain(wire.tcp());
            Attempt { result: result(Err(failure.why)), end: None }
        }
        Err(failure) => Attempt { result: result(Err(failure.why)), end: Some(End { wire, goodbye: b"", is_bare }) },
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
