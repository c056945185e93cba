//! Lines of access logs: as the log writes `session closed`, or as HAProxy writes a TCP session.

use std::fmt::{self, Display, Write as _};
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::format::LogFormat;
use super::lines::EventLines;
use crate::access::{self, AccessFormat, AccessPrefix, AccessTarget, termination_code};
use crate::events::SessionEvent;

/// Longest line; what is told of a session is bounded and never gets there.
const LINE_BYTES_MAX: usize = 8 * 1024;

/// Writes what sessions did to the access logs of their groups.
#[derive(Debug)]
pub(super) struct AccessLines {
    text: EventLines,
    json: EventLines,
    haproxy: HaproxyLines,
    /// The logs that have got lines since they were last written out.
    touched: Vec<Arc<AccessTarget>>,
    line: Vec<u8>,
}

impl AccessLines {
    pub(super) fn new() -> Self {
        Self {
            text: EventLines::new(LogFormat::Text, false),
            json: EventLines::new(LogFormat::Json, false),
            haproxy: HaproxyLines::default(),
            touched: Vec::new(),
            line: Vec::new(),
        }
    }

    /// Writes a step of a session for which its group's access log has a line. For stderr, the line is given to
    /// `to_stderr`; `logged` is the format in which the log of the process has said the same there.
    pub(super) fn write(
        &mut self,
        event: &SessionEvent,
        at: SystemTime,
        logged: Option<LogFormat>,
        to_stderr: impl FnOnce(&[u8]),
    ) {
        let Some(target) = event.access_target() else { return };
        let format = target.settings().format;
        let is_said = |as_what| !target.has_file() && logged == Some(as_what);
        self.line.clear();
        match format {
            AccessFormat::Text if is_said(LogFormat::Text) => return,
            AccessFormat::Json if is_said(LogFormat::Json) => return,
            AccessFormat::Text => self.text.write_session(event, at, &mut self.line),
            AccessFormat::Json => self.json.write_session(event, at, &mut self.line),
            AccessFormat::Haproxy => self.haproxy.write(event, at, target.settings().prefix, &mut self.line),
        }
        if self.line.is_empty() {
            return;
        }
        debug_assert!(self.line.len() <= LINE_BYTES_MAX, "{} bytes", self.line.len());
        if !target.has_file() {
            return to_stderr(&self.line);
        }
        target.add(|bytes| bytes.extend_from_slice(&self.line));
        if !self.touched.iter().any(|touched| Arc::ptr_eq(touched, target)) {
            self.touched.push(Arc::clone(target));
        }
    }

    /// Writes out what waits, and says what was lost.
    pub(super) fn flush(&mut self) {
        self.touched.drain(..).for_each(|target| target.flush());
    }

    /// Opens every file again.
    pub(super) fn reopen(&mut self) {
        self.flush();
        for target in access::live().iter().filter(|target| target.has_file()) {
            let path = target.path();
            if let Err(error) = target.reopen() {
                tracing::error!(path, %error, "cannot open the access log again: the old file goes on");
                continue;
            }
            tracing::info!(path, "access log opened again");
        }
    }
}

/// Says what access logs have lost, of each once a minute at most. True when something is left to be said later.
pub(super) fn tell_lost() -> bool {
    let now = Instant::now();
    let mut is_left = false;
    for target in access::live() {
        if let Some(lost) = target.take_lost(now) {
            let (path, dropped, error) = (target.path(), lost.lines, lost.error);
            tracing::warn!(path, dropped, error, "access log lines dropped");
        }
        is_left |= target.has_lost();
    }
    is_left
}

/// Lines as HAProxy writes them, and what nearly every line has in common.
#[derive(Debug)]
struct HaproxyLines {
    /// Of this process, as a syslog daemon writes them: `host goproxy[4711]: `.
    origin: String,
    prefix_s: u64,
    /// The time in front of lines of that second, and the origin.
    prefix: String,
    accepted_s: u64,
    /// The time of clients that were accepted in that second, but for its milliseconds.
    accepted: String,
}

impl Default for HaproxyLines {
    fn default() -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_else(|_| "localhost".to_owned());
        let host = host.trim().replace(|c: char| !c.is_ascii_graphic(), "_");
        let origin = format!("{host} goproxy[{}]: ", std::process::id());
        let (prefix, accepted) = (String::new(), String::new());
        Self { origin, prefix_s: u64::MAX, prefix, accepted_s: u64::MAX, accepted }
    }
}

impl HaproxyLines {
    /// Appends the line of a session that is over.
    fn write(&mut self, event: &SessionEvent, at: SystemTime, prefix: AccessPrefix, out: &mut Vec<u8>) {
        let SessionEvent::SessionClosed { group, client, client_facts, server, attempts, end, bytes_down, .. } = event
        else {
            return;
        };
        let SessionEvent::SessionClosed { connect_us, elapsed_ms, access: Some(facts), .. } = event else { return };
        if prefix == AccessPrefix::Syslog {
            self.write_prefix(at, out);
        }
        let accepted = at - Duration::from_millis(*elapsed_ms);
        let code = termination_code(*end, &facts.circumstances);
        // Nobody was asked for a server.
        let waited = if *attempts == 0 { -1 } else { 0 };
        let connect_ms = connect_us.map_or(-1, |us| i64::from(facts.failed_ms) + i64::from(us.get() / 1_000));
        let name = server.as_ref().or(facts.tried.as_ref());
        let on_backend = if server.is_some() { facts.group_sessions } else { 0 };
        let retries = attempts.saturating_sub(1);
        // Where a route has led the client to its group, it came in at another one.
        let routed = client_facts.as_ref().and_then(|known| known.routed.as_ref());
        let listener = routed.and_then(|routed| routed.listener.as_ref()).unwrap_or(group);
        let _infallible = writeln!(
            out,
            "{client} [{accepted}] {listener} {group}/{server} {waited}/{connect_ms}/{elapsed_ms} {bytes_down} {code} \
             {process}/{frontend}/{on_backend}/{on_server}/{plus}{retries} 0/0",
            client = Bare(*client),
            accepted = self.accepted(accepted),
            server = Plain(name.map_or("<NOSRV>", |name| name)),
            process = facts.process_sessions,
            frontend = facts.group_sessions,
            on_server = facts.server_sessions,
            plus = if facts.is_redispatched { "+" } else { "" },
        );
    }

    fn write_prefix(&mut self, at: SystemTime, out: &mut Vec<u8>) {
        let second = since_epoch(at).as_secs();
        if self.prefix_s != second {
            self.prefix_s = second;
            self.prefix = timestamp(at).strftime("%b %e %H:%M:%S ").to_string() + &self.origin;
        }
        out.extend_from_slice(self.prefix.as_bytes());
    }

    fn accepted(&mut self, at: SystemTime) -> impl Display {
        let (second, ms) = (since_epoch(at).as_secs(), since_epoch(at).subsec_millis());
        if self.accepted_s != second {
            self.accepted_s = second;
            self.accepted.clear();
            let _infallible = write!(self.accepted, "{}", timestamp(at).strftime("%d/%b/%Y:%H:%M:%S"));
        }
        fmt::from_fn(move |f| write!(f, "{}.{ms:03}", self.accepted))
    }
}

fn since_epoch(at: SystemTime) -> Duration {
    at.duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn timestamp(at: SystemTime) -> jiff::Timestamp {
    jiff::Timestamp::try_from(at).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
}

/// An address without brackets, as HAProxy writes those of IPv6.
struct Bare(SocketAddr);

impl Display for Bare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0.ip(), self.0.port())
    }
}

/// A name of which no character can end a field or a line.
struct Plain<'a>(&'a str);

impl Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| f.write_char(if c.is_whitespace() || c.is_control() { '_' } else { c }))
    }
}

#[cfg(test)]
mod tests;
