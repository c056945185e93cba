//! Lines of events, as text or as JSON.
//!
//! They look as the lines of `tracing` do, byte for byte: tests compare. They do not go through it because a busy proxy
//! writes three lines for each short session, and its visitors and formatter were a sixth of what such a session
//! cost with its log.

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use tracing::Level;

use super::format::LogFormat;
use super::logfmt;
use crate::base::clock::stamp;
use crate::events::{Event, SessionEvent, Value, Visitor};

/// Makes lines, and remembers the last time stamp: many events happen in the same millisecond.
#[derive(Debug)]
pub(super) struct EventLines {
    format: LogFormat,
    has_color: bool,
    stamp_ms: u128,
    stamp: String,
    /// The fields of the line that is being made: its message, which comes before them, is known after them.
    fields: Vec<u8>,
}

impl EventLines {
    pub(super) fn new(format: LogFormat, has_color: bool) -> Self {
        Self { format, has_color, stamp_ms: u128::MAX, stamp: String::new(), fields: Vec::new() }
    }

    /// Appends the line of `event`, which happened `at` that time.
    pub(super) fn write(&mut self, event: &Event, at: SystemTime, out: &mut Vec<u8>) {
        self.write_line(event.level(), at, out, |to| event.show(to));
    }

    /// Appends the line of a session's event.
    pub(super) fn write_session(&mut self, event: &SessionEvent, at: SystemTime, out: &mut Vec<u8>) {
        self.write_line(event.level(), at, out, |to| event.show(to));
    }

    fn write_line(
        &mut self,
        level: Level,
        at: SystemTime,
        out: &mut Vec<u8>,
        show: impl FnOnce(&mut Visitor<'_>) -> &'static str,
    ) {
        let at_ms = at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        if self.stamp_ms != at_ms {
            self.stamp_ms = at_ms;
            self.stamp = stamp(at);
        }
        self.fields.clear();
        let (format, has_color, fields) = (self.format, self.has_color, &mut self.fields);
        let message = show(&mut Visitor::new(&mut |name, value| match format {
            LogFormat::Json => json_field(fields, name, value),
            LogFormat::Text => text_field(fields, has_color, name, value),
        }));
        let stamp = &self.stamp;
        let _infallible = match (format, has_color) {
            (LogFormat::Json, _) => {
                write!(out, r#"{{"timestamp":"{stamp}","level":"{level}","message":"{message}""#)
            }
            (LogFormat::Text, false) => write!(out, "{stamp} {level:>5} {message}"),
            (LogFormat::Text, true) => {
                write!(out, "\x1b[2m{stamp}\x1b[0m \x1b[{}m{level:>5}\x1b[0m {message}", color(level))
            }
        };
        out.extend_from_slice(&self.fields);
        out.extend_from_slice(if format == LogFormat::Json { b"}\n" } else { b"\n" });
    }
}

/// Writing into memory cannot fail.
fn json_field(out: &mut Vec<u8>, name: &str, value: Value<'_>) {
    let _infallible = write!(out, r#","{name}":"#);
    value.write_json(out);
}

fn text_field(out: &mut Vec<u8>, has_color: bool, name: &str, value: Value<'_>) {
    let _infallible = write!(out, " {}", logfmt::Name { name, has_color });
    let _infallible = match value {
        Value::Number(number) => write!(out, "{number}"),
        Value::Fraction(number) => write!(out, "{number:?}"),
        Value::Text(text) => write!(out, "{}", logfmt::Value(text)),
        Value::Addr(addr) => write!(out, "{addr}"),
        Value::Switch(switch) => write!(out, "{switch}"),
        Value::List(list) => write!(out, "{}", logfmt::Value(&list.join(", "))),
    };
}

fn color(level: Level) -> u8 {
    match level {
        Level::ERROR => 31,
        Level::WARN => 33,
        Level::INFO => 32,
        Level::DEBUG => 34,
        Level::TRACE => 35,
    }
}
