//! Switches, numbers, times and sizes; a value that may be `null`.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use jsonc_parser::ast::{NumberLit, Value};
use jsonc_parser::common::Ranged;
use serde_json::json;

use crate::base::text::{PEM_BEGIN, echo};
use crate::config::key::{Describe, Kind, Style, Table};
use crate::config::object::shown;
use crate::config::problem::Place;
use crate::config::reader::Reader;
use crate::config::units::{SIZE_PATTERN, TIME_PATTERN, quoted, size_of, size_text, time_of, time_text};

/// Longest path that Linux opens, in bytes (`PATH_MAX`).
const PATH_LEN_MAX: usize = 4_096;

/// The message for a value of the wrong kind.
pub(in crate::config) fn wrong(value: &Value, expected: &str) -> String {
    format!("expected {expected}, found {}", shown(value))
}

/// Reports what is wrong with the value at `place`.
pub(super) fn report<T>(reader: &mut Reader, place: &Place, value: &Value, read: Result<T, String>) -> Option<T> {
    read.map_err(|message| reader.problems.add(value.start(), place, message)).ok()
}

/// The text of a value that must not be empty.
pub(super) fn text_of<'v>(value: &'v Value, expected: &str) -> Result<&'v str, String> {
    match value.as_string_lit() {
        Some(text) if !text.value.is_empty() => Ok(&text.value),
        _ => Err(wrong(value, expected)),
    }
}

/// The text of a value that is a path; see [`check_path`].
pub(super) fn path_of<'v>(value: &'v Value, expected: &str) -> Result<&'v str, String> {
    let text = text_of(value, expected)?;
    check_path(text).map(|()| text)
}

/// What is wrong with a path wherever it is written. It is not repeated, as a key may have been pasted in its place, and every
/// later message about a path shows it whole.
pub(super) fn check_path(text: &str) -> Result<(), String> {
    if text.contains(PEM_BEGIN) || text.chars().any(char::is_control) {
        return Err("expected the path of a file, found the content of one".to_owned());
    }
    match text.len() {
        0..=PATH_LEN_MAX => Ok(()),
        len => Err(format!("a path of {len} bytes is too long; expected at most {PATH_LEN_MAX}")),
    }
}

/// `true` or `false`.
pub(in crate::config) struct Switch;

pub(in crate::config) const fn switch() -> Switch {
    Switch
}

impl Describe for Switch {
    fn schema(&self) -> serde_json::Value {
        json!({ "type": "boolean" })
    }

    fn expected(&self) -> String {
        "true or false".to_owned()
    }
}

impl Kind for Switch {
    type Value = bool;

    fn read(&self, reader: &mut Reader, place: &Place, value: &Value) -> Option<bool> {
        let read = value.as_boolean_lit().map(|switch| switch.value).ok_or_else(|| wrong(value, &self.expected()));
        report(reader, place, value, read)
    }

    fn write(&self, value: &bool, _: &Style) -> String {
        value.to_string()
    }
}

/// A whole number within bounds.
pub(in crate::config) struct Whole<T> {
    min: u64,
    max: u64,
    /// Also as text, as the old program took it.
    may_be_text: bool,
    of: PhantomData<fn() -> T>,
}

pub(in crate::config) const fn whole<T>(min: u64, max: u64) -> Whole<T> {
    Whole { min, max, may_be_text: false, of: PhantomData }
}

/// A whole number that may be written as text.
pub(in crate::config) const fn number_or_text<T>(min: u64, max: u64) -> Whole<T> {
    Whole { min, max, may_be_text: true, of: PhantomData }
}

impl<T> Whole<T> {
    fn number(&self, value: &Value) -> Result<u64, String> {
        let expected = || format!("a whole number of {} to {}", self.min, self.max);
        let number = match value {
            Value::NumberLit(number) => number.clone(),
            Value::StringLit(text) if self.may_be_text && is_digits(&text.value) => {
                NumberLit { value: &text.value, range: text.range }
            }
            _ => return Err(wrong(value, &expected())),
        };
        match number.value.parse::<u64>() {
            Ok(number) if (self.min..=self.max).contains(&number) => Ok(number),
            Err(_) if number.value.contains(['.', 'e', 'E']) => Err(wrong(value, &expected())),
            _ => Err(format!("{} is out of range; expected {}", shown(value), expected())),
        }
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

impl<T> Describe for Whole<T> {
    fn schema(&self) -> serde_json::Value {
        json!({ "type": "integer", "minimum": self.min, "maximum": self.max })
    }

    fn expected(&self) -> String {
        format!("{} to {}", self.min, self.max)
    }
}

impl<T: TryFrom<u64> + ToString + PartialEq> Kind for Whole<T> {
    type Value = T;

    fn read(&self, reader: &mut Reader, place: &Place, value: &Value) -> Option<T> {
        let number = report(reader, place, value, self.number(value))?;
        Some(T::try_from(number).ok().expect("the bounds fit the type"))
    }

    fn write(&self, value: &T, _: &Style) -> String {
        value.to_string()
    }
}

/// A time with a unit, within bounds.
pub(in crate::config) struct Time {
    /// Zero is accepted, too, for never.
    may_be_zero: bool,
    min_ms: u64,
    max_ms: u64,
}

/// A time of so many milliseconds at least and at most.
pub(in crate::config) const fn time(min_ms: u64, max_ms: u64) -> Time {
    Time { may_be_zero: false, min_ms, max_ms }
}

/// A time, or zero for never.
pub(in crate::config) const fn time_or_zero(min_ms: u64, max_ms: u64) -> Time {
    Time { may_be_zero: true, min_ms, max_ms }
}

impl Time {
    /// Reads a time.
    pub(in crate::config) fn parse(&self, value: &Value) -> Result<Duration, String> {
        let no_unit = |number: &str| {
            let found = shown(value);
            format!("{found} has no unit; expected a time such as \"{number}s\" or \"{number}ms\"")
        };
        if let Value::NumberLit(number) = value {
            return Err(no_unit(&echo(number.value)));
        }
        let text = text_of(value, "a time with a unit, such as \"2.5s\"")?;
        let time = time_of(text).ok_or_else(|| match text.parse::<f64>() {
            Ok(_) => no_unit(text),
            Err(_) => wrong(value, "a time with a unit (ms, s, m, h, d), such as \"2.5s\""),
        })?;
        let (min, max) = (Duration::from_millis(self.min_ms), Duration::from_millis(self.max_ms));
        if (self.may_be_zero && time.is_zero()) || (min..=max).contains(&time) {
            return Ok(time);
        }
        let zero = if self.may_be_zero { "0s, or " } else { "" };
        let (min, max) = (time_text(min), time_text(max));
        Err(format!("{} is out of range; expected {zero}{min} to {max}", shown(value)))
    }
}

impl Describe for Time {
    fn schema(&self) -> serde_json::Value {
        json!({ "type": "string", "pattern": TIME_PATTERN })
    }

    fn expected(&self) -> String {
        let zero = if self.may_be_zero { "0s, or " } else { "" };
        let time = |ms| time_text(Duration::from_millis(ms));
        format!("{zero}a time of {} to {}", time(self.min_ms), time(self.max_ms))
    }

    fn is_more_than_its_schema(&self) -> bool {
        true
    }
}

impl Kind for Time {
    type Value = Duration;

    fn read(&self, reader: &mut Reader, place: &Place, value: &Value) -> Option<Duration> {
        report(reader, place, value, self.parse(value))
    }

    fn write(&self, value: &Duration, _: &Style) -> String {
        quoted(&time_text(*value))
    }
}

/// A size with a unit, in bytes within bounds.
pub(in crate::config) struct Size {
    min: u64,
    max: u64,
}

pub(in crate::config) const fn size(min: u64, max: u64) -> Size {
    Size { min, max }
}

impl Size {
    /// Reads a size.
    pub(in crate::config) fn parse(&self, value: &Value) -> Result<u64, String> {
        let expected = "a whole number with a unit (B, KiB, MiB, GiB), such as \"64KiB\"";
        let has_no_unit = match value {
            Value::NumberLit(_) => true,
            Value::StringLit(text) => is_digits(&text.value),
            _ => false,
        };
        if has_no_unit {
            return Err(format!("{} has no unit; expected {expected}", shown(value)));
        }
        let size = size_of(text_of(value, expected)?).ok_or_else(|| wrong(value, expected))?;
        if (self.min..=self.max).contains(&size) {
            return Ok(size);
        }
        let (min, max) = (size_text(self.min), size_text(self.max));
        Err(format!("{} is out of range; expected {min} to {max}", shown(value)))
    }
}

impl Describe for Size {
    fn schema(&self) -> serde_json::Value {
        json!({ "type": "string", "pattern": SIZE_PATTERN })
    }

    fn expected(&self) -> String {
        format!("a size of {} to {}", size_text(self.min), size_text(self.max))
    }

    fn is_more_than_its_schema(&self) -> bool {
        true
    }
}

impl Kind for Size {
    type Value = u64;

    fn read(&self, reader: &mut Reader, place: &Place, value: &Value) -> Option<u64> {
        report(reader, place, value, self.parse(value))
    }

    fn write(&self, value: &u64, _: &Style) -> String {
        quoted(&size_text(*value))
    }
}

/// A value of another kind, or `null` for none.
pub(in crate::config) struct Optional<K>(K);

pub(in crate::config) const fn optional<K: Kind>(kind: K) -> Optional<K> {
    Optional(kind)
}

impl<K: Kind> Describe for Optional<K> {
    fn schema(&self) -> serde_json::Value {
        let mut schema = self.0.schema();
        if let Some(forms) = schema.get_mut("anyOf").and_then(serde_json::Value::as_array_mut) {
            forms.push(json!({ "type": "null" }));
        } else {
            match schema["type"].take() {
                serde_json::Value::Array(mut kinds) => {
                    kinds.push("null".into());
                    schema["type"] = kinds.into();
                }
                kind => schema["type"] = json!([kind, "null"]),
            }
        }
        if let Some(words) = schema.get_mut("enum").and_then(serde_json::Value::as_array_mut) {
            words.push(json!(null));
        }
        schema
    }

    fn expected(&self) -> String {
        self.0.expected()
    }

    fn is_more_than_its_schema(&self) -> bool {
        self.0.is_more_than_its_schema()
    }

    fn implied_default(&self) -> Option<String> {
        Some("null".to_owned())
    }

    fn tables(&self, name: &str) -> Vec<(String, Table)> {
        self.0.tables(name)
    }
}

impl<K: Kind> Kind for Optional<K> {
    type Value = Option<K::Value>;

    fn read(&self, reader: &mut Reader, place: &Place, value: &Value) -> Option<Self::Value> {
        match value {
            Value::NullKeyword(_) => Some(None),
            value => self.0.read(reader, place, value).map(Some),
        }
    }

    fn absent(&self, _: &mut Reader, _: &Place) -> Option<Self::Value> {
        Some(None)
    }

    fn write(&self, value: &Self::Value, style: &Style) -> String {
        value.as_ref().map_or_else(|| "null".to_owned(), |value| self.0.write(value, style))
    }
}

/// A value that many share: a group's settings are copied whenever its servers change.
pub(in crate::config) struct Shared<K>(K);

pub(in crate::config) const fn shared<K: Kind>(kind: K) -> Shared<K> {
    Shared(kind)
}

impl<K: Describe> Describe for Shared<K> {
    fn schema(&self) -> serde_json::Value {
        self.0.schema()
    }

    fn expected(&self) -> String {
        self.0.expected()
    }

    fn is_more_than_its_schema(&self) -> bool {
        self.0.is_more_than_its_schema()
    }

    fn tables(&self, name: &str) -> Vec<(String, Table)> {
        self.0.tables(name)
    }
}

impl<K: Kind> Kind for Shared<K> {
    type Value = Arc<K::Value>;

    fn read(&self, reader: &mut Reader, place: &Place, value: &Value) -> Option<Self::Value> {
        self.0.read(reader, place, value).map(Arc::new)
    }

    fn write(&self, value: &Self::Value, style: &Style) -> String {
        self.0.write(value, style)
    }
}
