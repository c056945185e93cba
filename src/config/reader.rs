//! Walking the parsed file: which keys an object has, and one value at a time out of it.

use std::collections::HashSet;

use jsonc_parser::ast::{Object, Value};
use jsonc_parser::common::Ranged;
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};

use super::keys::{self, Key};
use super::problem::{Place, Problem, Problems, did_you_mean, shortened};
use super::schema::range;
use super::value::shown;

/// Largest file that is read, in bytes.
pub const FILE_BYTES_MAX: usize = 16 << 20;

/// Comments and trailing commas, and nothing else beyond JSON.
const SYNTAX: ParseOptions = ParseOptions {
    allow_comments: true,
    allow_trailing_commas: true,
    allow_loose_object_property_names: false,
    allow_missing_commas: false,
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};

/// Parses `text`, which has no byte order mark, into a tree with positions.
///
/// # Errors
///
/// The first mistake in the syntax; behind it nothing can be told for sure.
pub(super) fn syntax(text: &str) -> Result<Value<'_>, Vec<Problem>> {
    let fail = |offset: usize, message: String| {
        let mut problems = Problems::default();
        problems.add(offset, "", message);
        Err(problems.finish(text))
    };
    if text.len() > FILE_BYTES_MAX {
        return fail(0, format!("the file has {} bytes; expected at most {FILE_BYTES_MAX}", text.len()));
    }
    let parsed = match parse_to_ast(text, &CollectOptions::default(), &SYNTAX) {
        Ok(parsed) => parsed,
        Err(error) => {
            let message = error.kind().to_string();
            let mut letters = message.chars();
            let first = letters.next().map_or(' ', |letter| letter.to_ascii_lowercase());
            return fail(error.range().start, format!("this is no JSON: {first}{}", letters.as_str()));
        }
    };
    let Some(value) = parsed.value else {
        return fail(0, "the file is empty; expected an object, {…}".to_owned());
    };
    match raw_control(text, &value) {
        Some(at) => fail(at, "a line break or control character within a string; expected \\n or such".to_owned()),
        None => Ok(value),
    }
}

/// The first control character that stands in a string as it is: no JSON, though the parser takes it.
fn raw_control(text: &str, root: &Value) -> Option<usize> {
    let in_string = |start: usize, end: usize| {
        text.as_bytes()[start..end].iter().position(|b| *b < b' ').map(|position| start + position)
    };
    let mut first: Option<usize> = None;
    let mut rest = vec![root];
    while let Some(value) = rest.pop() {
        let found = match value {
            Value::StringLit(string) => in_string(string.range.start, string.range.end),
            Value::Array(array) => {
                rest.extend(&array.elements);
                None
            }
            Value::Object(object) => {
                rest.extend(object.properties.iter().map(|property| &property.value));
                object.properties.iter().find_map(|property| in_string(property.name.start(), property.name.end()))
            }
            _ => None,
        };
        first = [first, found].into_iter().flatten().min();
    }
    first
}

/// An object of the file and the keys it may have.
#[derive(Clone, Copy)]
pub(super) struct Fields<'v, 't, 'p> {
    pub(super) object: &'v Object<'t>,
    pub(super) place: &'p Place<'p>,
    keys: &'static [Key],
}

impl<'v, 't> Fields<'v, 't, '_> {
    /// The value of a key, unless it is missing or `null` where that means the same.
    pub(super) fn value(&self, name: &str) -> Option<&'v Value<'t>> {
        let property = self.object.properties.iter().find(|property| property.name.as_str() == name)?;
        let may_be_null = self.key(name).default == Some("null");
        (!(may_be_null && property.value.as_null_keyword().is_some())).then_some(&property.value)
    }

    fn key(&self, name: &str) -> &'static Key {
        keys::find(self.keys, name).expect("only keys of the table are read")
    }

    /// Where the value of a key starts; the object itself when the key is missing.
    pub(super) fn offset(&self, name: &str) -> usize {
        self.value(name).map_or(self.object.range.start, |value| value.start())
    }

    /// Reads the value of a key: `None` when it is missing, or wrong and reported.
    pub(super) fn get<T>(
        &self,
        problems: &mut Problems,
        name: &str,
        read: impl FnOnce(&Key, &Value) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.value(name)?;
        let read = read(self.key(name), value);
        read.map_err(|message| problems.add(value.start(), Place::Key(self.place, name), message)).ok()
    }

    /// Reads the value of a key, or else takes `base`, or else the default of the table.
    pub(super) fn get_or<T>(
        &self,
        problems: &mut Problems,
        name: &str,
        base: Option<T>,
        read: impl Fn(&Key, &Value) -> Result<T, String>,
    ) -> T {
        self.get(problems, name, &read).or(base).unwrap_or_else(|| {
            let key = self.key(name);
            let default = key.default.expect("only a key with a default is read without a base");
            let default = syntax(default).expect("a default of the table is JSON");
            read(key, &default).expect("a default of the table is in order")
        })
    }

    /// Reads a key that must be there: `None` when it is missing or wrong, which is reported.
    pub(super) fn get_required<T>(
        &self,
        problems: &mut Problems,
        name: &str,
        read: impl FnOnce(&Key, &Value) -> Result<T, String>,
    ) -> Option<T> {
        if self.value(name).is_none() {
            let expected = range(self.key(name).shape);
            problems.add(self.object.range.start, self.place, format!("{name} is missing; expected {expected}"));
        }
        self.get(problems, name, read)
    }
}

/// Takes `value` as an object of these keys; reports anything else, unknown keys and keys that are there twice.
pub(super) fn fields<'v, 't, 'p>(
    problems: &mut Problems,
    value: &'v Value<'t>,
    place: &'p Place<'p>,
    keys: &'static [Key],
) -> Option<Fields<'v, 't, 'p>> {
    let Value::Object(object) = value else {
        problems.add(value.start(), place, format!("{} is no object; expected {{…}}", shown(value)));
        return None;
    };
    let mut seen = HashSet::new();
    for property in &object.properties {
        let name = property.name.as_str();
        let mut report = |message| problems.add(property.range.start, Place::Key(place, name), message);
        if keys::find(keys, name).is_none() {
            let known = keys::names(keys).collect::<Vec<_>>().join(", ");
            let near = did_you_mean(name, keys::names(keys));
            report(format!("unknown key \"{}\"; expected one of {known}{near}", shortened(name)));
        } else if !seen.insert(name) {
            report(format!("the key {name} is there twice; expected it once"));
        }
    }
    Some(Fields { object, place, keys })
}
