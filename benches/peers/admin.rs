//! Asking goproxy's admin port.

use std::{io, net::SocketAddr, time::Duration};

use goproxy::demo::http::Http;

/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// The status and the body of the answer to a request without a body.
pub(crate) fn ask(admin: SocketAddr, method: &str, path: &str) -> io::Result<(u16, String)> {
    let reply = Http::connect(admin, ANSWER_MAX)?.request(method, &format!("/{path}"))?;
    Ok((reply.status, reply.text()))
}
