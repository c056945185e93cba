//! Objects of keys, and lists.

use jsonc_parser::ast::Value;
use jsonc_parser::common::Ranged;
use serde_json::{Map, json};

use super::plain::wrong;
use crate::config::declare::Fields;
use crate::config::key::{Change, Describe, Effect, Key, Kind, Style, Table, keys};
use crate::config::object::Object;
use crate::config::problem::Place;
use crate::config::reader::Reader;

/// An object of keys that may be missing: then it is as if it were `{}`.
pub(in crate::config) struct Section<T> {
    check: fn(&mut Reader, &Object, &T),
    /// Fills the fields that are no keys.
    complete: fn(&mut Reader, &Object, &mut T),
    /// True for a key that is written; others mean nothing beside the rest.
    is_written: fn(&T, &str) -> bool,
}

/// An object of the keys that `T` declares.
pub(in crate::config) const fn section<T>() -> Section<T> {
    Section { check: |_, _, _| {}, complete: |_, _, _| {}, is_written: |_, _| true }
}

/// An object of the keys that `T` declares, and what must hold between them.
pub(in crate::config) const fn section_with<T>(check: fn(&mut Reader, &Object, &T)) -> Section<T> {
    Section { check, complete: |_, _, _| {}, is_written: |_, _| true }
}

/// The same, of which some fields are no keys: `complete` fills them.
pub(in crate::config) const fn section_completed<T>(complete: fn(&mut Reader, &Object, &mut T)) -> Section<T> {
    Section { check: |_, _, _| {}, complete, is_written: |_, _| true }
}

impl<T> Section<T> {
    /// The same, written with only these of its keys.
    pub(in crate::config) const fn written_where(self, is_written: fn(&T, &str) -> bool) -> Self {
        Self { is_written, ..self }
    }
}

impl<T: Fields> Section<T> {
    fn take(&self, reader: &mut Reader, object: &Object) -> Option<T> {
        let mut fields = T::read(reader, object, None)?;
        (self.complete)(reader, object, &mut fields);
        (self.check)(reader, object, &fields);
        Some(fields)
    }
}

impl<T: Fields> Describe for Section<T> {
    fn schema(&self) -> serde_json::Value {
        object_schema(T::TABLE, false)
    }

    fn expected(&self) -> String {
        "an object".to_owned()
    }

    fn implied_default(&self) -> Option<String> {
        Some("{}".to_owned())
    }

    fn tables(&self, name: &str) -> Vec<(String, Table)> {
        vec![(format!("{name}."), T::TABLE)]
    }
}

impl<T: Fields> Kind for Section<T> {
    type Value = T;

    fn read(&self, reader: &mut Reader, place: &Place, value: &Value) -> Option<T> {
        let object = Object::open(reader, value, place, T::TABLE, false)?;
        self.take(reader, &object)
    }

    fn absent(&self, reader: &mut Reader, place: &Place) -> Option<T> {
        self.take(reader, &Object::missing(place, false))
    }

    fn write(&self, value: &T, style: &Style) -> String {
        let mut values = value.write(&style.deeper());
        values.retain(|(name, _)| (self.is_written)(value, name));
        object_text(&values, style)
    }

    fn changes(&self, (path, _): (&str, Effect), old: &T, new: &T, found: &mut Vec<Change>) {
        new.changes(old, &format!("{path}."), found);
    }
}

/// A list of so many values of one kind at most.
pub(in crate::config) struct List<K> {
    of: K,
    max: usize,
}

pub(in crate::config) const fn list<K: Kind>(of: K, max: usize) -> List<K> {
    List { of, max }
}

impl<K: Kind> Describe for List<K> {
    fn schema(&self) -> serde_json::Value {
        json!({ "type": "array", "maxItems": self.max, "items": self.of.schema() })
    }

    fn expected(&self) -> String {
        format!("a list of at most {}", self.max)
    }

    fn tables(&self, name: &str) -> Vec<(String, Table)> {
        self.of.tables(&format!("{name}[]"))
    }
}

impl<K: Kind> Kind for List<K> {
    type Value = Vec<K::Value>;

    fn read(&self, reader: &mut Reader, place: &Place, value: &Value) -> Option<Self::Value> {
        let list = elements(reader, place, value, self.max)?;
        let values = list.iter().enumerate();
        // All of them are read, so that each mistake is told.
        let values: Vec<_> =
            values.map(|(index, value)| self.of.read(reader, &Place::Index(place, index), value)).collect();
        values.into_iter().collect()
    }

    fn write(&self, value: &Self::Value, style: &Style) -> String {
        let values: Vec<String> = value.iter().map(|value| self.of.write(value, style)).collect();
        format!("[{}]", values.join(", "))
    }
}

/// An object, one key a line. The values are written one level deeper than `style`.
pub(in crate::config) fn object_text(values: &[(&'static str, String)], style: &Style) -> String {
    let indent = style.indent;
    let lines: Vec<String> =
        values.iter().map(|(name, value)| format!("{:1$}\"{name}\": {value}", "", indent + 2)).collect();
    format!("{{\n{}\n{:indent$}}}", lines.join(",\n"), "")
}

/// The elements of a list; reports anything else and too many of them.
pub(in crate::config) fn elements<'v, 't>(
    reader: &mut Reader,
    place: &Place,
    value: &'v Value<'t>,
    max: usize,
) -> Option<&'v [Value<'t>]> {
    let Value::Array(list) = value else {
        reader.problems.add(value.start(), place, wrong(value, "a list, […]"));
        return None;
    };
    let len = list.elements.len();
    if len > max {
        let message = format!("{len} {} are too many; expected at most {max}", place.name());
        reader.problems.add(value.start(), place, message);
    }
    Some(&list.elements[..len.min(max)])
}

/// The schema of an object of these keys.
pub(in crate::config) fn object_schema(table: Table, is_shared: bool) -> serde_json::Value {
    let keys = keys(table, is_shared);
    let properties: Map<_, _> = keys.clone().map(|key| (key.name.to_owned(), key_schema(key))).collect();
    let required: Vec<&str> = keys.filter(|key| key.default().is_none()).map(|key| key.name).collect();
    let mut schema = json!({ "type": "object", "additionalProperties": false, "properties": properties });
    if !required.is_empty() {
        schema["required"] = required.into();
    }
    schema
}

/// The schema of one key.
pub(in crate::config) fn key_schema(key: &Key) -> serde_json::Value {
    let mut schema = key.kind.schema();
    let mut description = key.doc().to_owned();
    if key.kind.is_more_than_its_schema() {
        description.push_str(&format!(" Expected: {}.", key.kind.expected()));
    }
    if key.effect == Effect::NextStart {
        description.push_str(" Takes effect at the next start.");
    }
    schema["description"] = description.into();
    if let Some(default) = key.default() {
        schema["default"] = serde_json::from_str(&default).expect("a default is written as JSON");
    }
    schema
}
