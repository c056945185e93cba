//! How an event says what it is made of.
//!
//! The one list of an event's fields: log lines as text and as JSON, and whatever else shows events, walk through
//! it, so that a field is named in one place.

use std::io::Write;
use std::net::SocketAddr;

use crate::base::label::GroupLabel;

/// The value of one field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// A whole number.
    Number(u64),
    /// A number with a fraction.
    Fraction(f64),
    /// A word or free text; lines of text quote what needs it.
    Text(&'a str),
    /// The address of a client or a server.
    Addr(SocketAddr),
    /// True or false.
    Switch(bool),
    /// Words or short texts; a list in JSON, one text with commas between them in text.
    List(&'a [Box<str>]),
}

impl Value<'_> {
    /// Appends the value as JSON.
    pub fn write_json(self, out: &mut Vec<u8>) {
        // Writing into memory cannot fail.
        let _infallible = match self {
            Self::Number(number) => serde_json::to_writer(out, &number),
            Self::Fraction(number) => serde_json::to_writer(out, &number),
            Self::Switch(switch) => serde_json::to_writer(out, &switch),
            Self::Text(text) => serde_json::to_writer(out, text),
            Self::List(list) => serde_json::to_writer(out, list),
            Self::Addr(addr) => {
                // It has no character that JSON would have escaped.
                let _infallible = write!(out, r#""{addr}""#);
                Ok(())
            }
        };
    }
}

/// Takes an event's fields, one after the other.
pub struct Visitor<'a>(pub(super) &'a mut dyn FnMut(&'static str, Value<'_>));

impl<'a> Visitor<'a> {
    /// A visitor that calls `take` with each field.
    pub fn new(take: &'a mut dyn FnMut(&'static str, Value<'_>)) -> Self {
        Self(take)
    }

    pub(super) fn number(&mut self, name: &'static str, number: impl Into<u64>) -> &mut Self {
        self.add(name, Value::Number(number.into()))
    }

    pub(super) fn fraction(&mut self, name: &'static str, number: f64) -> &mut Self {
        self.add(name, Value::Fraction(number))
    }

    pub(super) fn text(&mut self, name: &'static str, text: &str) -> &mut Self {
        self.add(name, Value::Text(text))
    }

    pub(super) fn switch(&mut self, name: &'static str, switch: bool) -> &mut Self {
        self.add(name, Value::Switch(switch))
    }

    pub(super) fn list(&mut self, name: &'static str, list: &[Box<str>]) -> &mut Self {
        self.add(name, Value::List(list))
    }

    pub(super) fn addr(&mut self, name: &'static str, addr: SocketAddr) -> &mut Self {
        self.add(name, Value::Addr(addr))
    }

    /// The group's port, and its name where it has one.
    pub(super) fn group(&mut self, group: &GroupLabel) -> &mut Self {
        self.number("group", group.port());
        if let Some(name) = group.name() {
            self.text("group.name", name);
        }
        self
    }

    fn add(&mut self, name: &'static str, value: Value<'_>) -> &mut Self {
        (self.0)(name, value);
        self
    }
}
