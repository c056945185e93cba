//! The lines of sessions as JSON, without the way through `tracing`.
//!
//! A busy proxy writes three lines for each short session, and its way through `tracing` was a tenth of what such a
//! session cost with its log. Byte for byte they are what `tracing` makes of the same event: a test compares. Text is
//! for people, who read fewer lines, and goes through `tracing`.

use std::fmt::Display;
use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use super::event::{SessionEvent, as_ms};
use super::format::stamp;

/// Makes lines, and remembers the last time stamp: many events happen in the same millisecond.
#[derive(Debug, Default)]
pub(super) struct JsonLines {
    stamp_ms: u128,
    stamp: String,
}

/// One object that is being written. Writing into memory cannot fail.
struct Object<'a>(&'a mut Vec<u8>);

impl JsonLines {
    /// Appends the line of `event`, which happened `at` that time.
    pub(super) fn write(&mut self, event: &SessionEvent, at: SystemTime, out: &mut Vec<u8>) {
        let at_ms = at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        if self.stamp_ms != at_ms {
            self.stamp_ms = at_ms;
            self.stamp = stamp(at);
        }
        let _infallible = write!(out, r#"{{"timestamp":"{}","level":"INFO","message":"#, self.stamp);
        let mut object = Object(out);
        match event {
            SessionEvent::ClientConnected { id, group, client } => {
                object.message("client connected", *id, *group);
                object.plain("client.addr", client);
            }
            SessionEvent::ServerConnected { id, group, client, server, attempt, connect_us } => {
                object.message("server connected", *id, *group);
                object.plain("client.addr", client);
                object.text("server.addr", server);
                object.number("attempt", *attempt);
                object.fraction("connect_ms", as_ms(*connect_us));
            }
            SessionEvent::SessionClosed {
                id,
                group,
                policy,
                client,
                server,
                attempts,
                end,
                bytes_up,
                bytes_down,
                connect_us,
                elapsed_ms,
                error,
            } => {
                object.message("session closed", *id, *group);
                object.text("policy", policy);
                object.plain("client.addr", client);
                if let Some(server) = server {
                    object.text("server.addr", server);
                }
                object.number("attempts", *attempts);
                object.text("end", end);
                object.number("bytes.up", *bytes_up);
                object.number("bytes.down", *bytes_down);
                if let Some(connect_us) = connect_us {
                    object.fraction("connect_ms", as_ms(*connect_us));
                }
                object.number("elapsed_ms", *elapsed_ms);
                if let Some(error) = error {
                    object.text("error", error);
                }
            }
        }
        out.extend_from_slice(b"}\n");
    }
}

impl Object<'_> {
    fn message(&mut self, message: &str, id: u64, group: u16) {
        self.value(message);
        self.number("session.id", id);
        self.number("group", group);
    }

    fn number(&mut self, name: &str, number: impl Into<u64>) {
        self.name(name);
        self.value(&number.into());
    }

    fn fraction(&mut self, name: &str, number: f64) {
        self.name(name);
        self.value(&number);
    }

    fn text(&mut self, name: &str, text: &str) {
        self.name(name);
        self.value(text);
    }

    /// What has no character that JSON would have escaped.
    fn plain(&mut self, name: &str, value: impl Display) {
        self.name(name);
        let _infallible = write!(self.0, r#""{value}""#);
    }

    fn name(&mut self, name: &str) {
        self.0.extend_from_slice(b",\"");
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    fn value(&mut self, value: &(impl serde::Serialize + ?Sized)) {
        let _infallible = serde_json::to_writer(&mut *self.0, value);
    }
}
