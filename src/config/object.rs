//! An object of the file, read one key at a time.

use std::collections::HashSet;

use jsonc_parser::ast::{self, Value};
use jsonc_parser::common::Ranged;

use super::hints::key_of_others;
use super::key::{Kind, Table, keys};
use super::problem::Place;
use super::reader::Reader;
use crate::base::text::{did_you_mean, echo};

/// An object of the file, or one that is missing and counts as empty.
#[derive(Clone, Copy)]
pub(super) struct Object<'v, 't, 'p> {
    value: Option<&'v ast::Object<'t>>,
    /// Where it stands.
    pub(super) place: &'p Place<'p>,
    /// It is `defaults`, which takes only keys that groups can share.
    pub(super) is_shared: bool,
}

impl<'v, 't, 'p> Object<'v, 't, 'p> {
    /// Takes `value` as an object of these keys; reports anything else, unknown keys and keys that are there twice.
    pub(super) fn open(
        reader: &mut Reader,
        value: &'v Value<'t>,
        place: &'p Place<'p>,
        table: Table,
        is_shared: bool,
    ) -> Option<Self> {
        let Value::Object(object) = value else {
            reader.problems.add(value.start(), place, format!("expected an object, {{…}}, found {}", shown(value)));
            return None;
        };
        let mut seen = HashSet::new();
        for property in &object.properties {
            let name = property.name.as_str();
            let mut report = |message| reader.problems.add(property.range.start, Place::Key(place, name), message);
            let mut names = keys(table, is_shared).map(|key| key.name);
            if !names.clone().any(|known| known == name) {
                let near = key_of_others(name, names.clone()).unwrap_or_else(|| did_you_mean(name, names.clone()));
                let first = names.next().unwrap_or_default();
                let known = names.fold(first.to_owned(), |list, name| format!("{list}, {name}"));
                report(format!("unknown key \"{}\"; expected one of {known}{near}", echo(name)));
            } else if !seen.insert(name) {
                report(format!("the key {name} is there twice; expected it once"));
            }
        }
        Some(Self { value: Some(object), place, is_shared })
    }

    /// An object that is not there.
    pub(super) fn missing(place: &'p Place<'p>, is_shared: bool) -> Self {
        Self { value: None, place, is_shared }
    }

    /// The value of a key.
    pub(super) fn value(&self, name: &str) -> Option<&'v Value<'t>> {
        let property = self.value?.properties.iter().find(|property| property.name.as_str() == name)?;
        Some(&property.value)
    }

    /// True when a key is there and not `null`.
    pub(super) fn says(&self, name: &str) -> bool {
        self.value(name).is_some_and(|value| value.as_null_keyword().is_none())
    }

    /// Where the value of a key starts; the object itself when the key is missing.
    pub(super) fn offset(&self, name: &str) -> usize {
        self.value(name).map_or(self.start(), Ranged::start)
    }

    fn start(&self) -> usize {
        self.value.map_or(0, |object| object.range.start)
    }

    /// Reads the value of a key; falls back to `base`, then to the default. `None`, and a problem, for a required key
    /// that is missing or wrong.
    pub(super) fn field<K: Kind>(
        &self,
        reader: &mut Reader,
        name: &str,
        kind: &K,
        base: Option<K::Value>,
        default: impl FnOnce() -> Option<K::Value>,
    ) -> Option<K::Value> {
        let place = Place::Key(self.place, name);
        let value = self.value(name);
        let read = value.and_then(|value| kind.read(reader, &place, value));
        let read = read.or(base).or_else(default).or_else(|| kind.absent(reader, &place));
        if read.is_none() && value.is_none() {
            let message = format!("{name} is missing; expected {}", kind.expected());
            reader.problems.add(self.start(), self.place, message);
        }
        read
    }
}

/// The value as a message shows it.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::StringLit(text) => format!("\"{}\"", echo(&text.value)),
        Value::NumberLit(number) => echo(number.value),
        Value::BooleanLit(switch) => switch.value.to_string(),
        Value::NullKeyword(_) => "null".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        Value::Array(_) => "a list".to_owned(),
    }
}
