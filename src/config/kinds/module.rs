//! Policies: a name, or an object that says more about a module.
//!
//! A policy is written back in the shortest form that means the same. A module's `config` is kept as JSON without
//! blanks and comments, with numbers and the order of keys as written: two files that give a module the same config are
//! equal. Whether the module exists and accepts its config is left to whoever makes the policy.

use std::collections::HashSet;

use jsonc_parser::ast::Value;
use jsonc_parser::common::Ranged;
use serde_json::json;

use super::plain::{report, text_of, wrong};
use super::section::object_schema;
use crate::base::text::{echo, hex};
use crate::config::declare::Fields;
use crate::config::hints::word_of_others;
use crate::config::key::{Describe, Kind, Style, Table};
use crate::config::object::{Object, shown};
use crate::config::problem::Place;
use crate::config::reader::Reader;
use crate::config::units::{quoted, size_text};
use crate::policy::built_in::BUILT_IN;
use crate::policy::spec::{
    self, MODULE_NAME_LEN_MAX, MODULE_PREFIX, ModuleSpec, PolicySpec, is_module_name, without_ending,
};

/// Longest `config` of a policy module, in bytes of JSON without blanks.
pub const MODULE_CONFIG_LEN_MAX: usize = 64 << 10;
/// Deepest nesting within it: well below what JSON parsers in modules refuse.
const MODULE_CONFIG_DEPTH_MAX: usize = 64;

/// A policy.
pub(in crate::config) struct Policy {
    /// The keys of a module; without them only a name is taken.
    module: Option<Table>,
    /// The old program's numbers are taken, too.
    may_be_number: bool,
}

/// The name of a policy, or an object for a module.
pub(in crate::config) const fn policy() -> Policy {
    Policy { module: Some(ModuleSpec::TABLE), may_be_number: false }
}

/// The name of a policy, or the number that the old program had for it.
pub(in crate::config) const fn policy_name() -> Policy {
    Policy { module: None, may_be_number: true }
}

impl Policy {
    fn by_name(&self, value: &Value) -> Result<PolicySpec, String> {
        let object = if self.module.is_some() { ", or an object for a module" } else { "" };
        let text = text_of(value, &format!("the name of a policy, such as \"round_robin\"{object}"))?;
        PolicySpec::parse(text).map_err(|error| match text.strip_prefix(MODULE_PREFIX) {
            Some(name) if !is_module_name(name) => {
                wrong(value, &format!("{MODULE_PREFIX}NAME, NAME being {}", ModuleName.expected()))
            }
            // Words of other programs come first: a policy's own error does not know them.
            None => match word_of_others(text, BUILT_IN.into_iter()) {
                Some(hint) => format!("{}{hint}", error.without_hint()),
                None => error.to_string(),
            },
            Some(_) => error.to_string(),
        })
    }

    /// A policy by the old program's number, as number or as text.
    fn by_number(&self, value: &Value) -> Option<Result<PolicySpec, String>> {
        let number = match value {
            Value::NumberLit(number) => number.value,
            Value::StringLit(text) => &text.value,
            _ => return None,
        };
        let name = match number {
            "1" => "ha",
            "2" => "round_robin",
            "3" => "ip_hash",
            _ if value.as_number_lit().is_some() => {
                let shown = shown(value);
                let expected = "1 (ha), 2 (round_robin), 3 (ip_hash) or a name";
                return Some(Err(format!("unknown policy {shown}; expected {expected}")));
            }
            _ => return None,
        };
        Some(Ok(PolicySpec::parse(name).expect("the old program's policies are built in")))
    }
}

impl Describe for Policy {
    fn schema(&self) -> serde_json::Value {
        let mut forms = vec![
            json!({ "type": "string", "enum": BUILT_IN }),
            json!({ "type": "string", "pattern": module_pattern(MODULE_PREFIX) }),
        ];
        forms.extend(self.module.map(|table| object_schema(table, false)));
        json!({ "anyOf": forms })
    }

    fn expected(&self) -> String {
        let object = if self.module.is_some() { " or an object" } else { "" };
        format!("{}, {MODULE_PREFIX}NAME{object}", BUILT_IN.join(", "))
    }

    fn tables(&self, name: &str) -> Vec<(String, Table)> {
        self.module.map(|table| (format!("{name}."), table)).into_iter().collect()
    }
}

impl Kind for Policy {
    type Value = PolicySpec;

    fn read(&self, reader: &mut Reader, place: &Place, value: &Value) -> Option<PolicySpec> {
        if let (Value::Object(_), Some(table)) = (value, self.module) {
            let object = Object::open(reader, value, place, table, false)?;
            return ModuleSpec::read(reader, &object, None).map(PolicySpec::module);
        }
        let by_number = self.may_be_number.then(|| self.by_number(value)).flatten();
        report(reader, place, value, by_number.unwrap_or_else(|| self.by_name(value)))
    }

    /// On one line: its name alone when nothing else is to be said.
    fn write(&self, value: &PolicySpec, style: &Style) -> String {
        let name = quoted(value.name());
        let Some(module) = value.as_module() else { return name };
        let keys = module.differing(&ModuleSpec::new(&module.name), style);
        if keys.is_empty() {
            return name;
        }
        let keys: String = keys.into_iter().map(|(name, value)| format!(", \"{name}\": {value}")).collect();
        format!("{{ \"wasm\": {}{keys} }}", quoted(&module.name))
    }
}

fn module_pattern(prefix: &str) -> String {
    format!("^{prefix}[a-zA-Z0-9_-][a-zA-Z0-9_.-]{{0,{}}}$", MODULE_NAME_LEN_MAX - 1)
}

/// The name of a module.
pub(in crate::config) struct ModuleName;

pub(in crate::config) const fn module_name() -> ModuleName {
    ModuleName
}

impl ModuleName {
    fn parse(value: &Value) -> Result<spec::ModuleName, String> {
        let text = text_of(value, &Self.expected())?;
        match without_ending(text) {
            Some(name) if is_module_name(text) => Err(format!(
                "\"{}\" is the name of a file; expected it without the ending, \"{}\"",
                echo(text),
                echo(name)
            )),
            None if is_module_name(text) => Ok(text.into()),
            _ => Err(wrong(value, &Self.expected())),
        }
    }
}

impl Describe for ModuleName {
    fn schema(&self) -> serde_json::Value {
        json!({ "type": "string", "pattern": module_pattern("") })
    }

    fn expected(&self) -> String {
        format!("1 to {MODULE_NAME_LEN_MAX} letters, digits, _, - and . (not in front)")
    }
}

impl Kind for ModuleName {
    type Value = spec::ModuleName;

    fn read(&self, reader: &mut Reader, place: &Place, value: &Value) -> Option<spec::ModuleName> {
        report(reader, place, value, Self::parse(value))
    }

    fn write(&self, value: &spec::ModuleName, _: &Style) -> String {
        quoted(value)
    }
}

/// A SHA-256 as text.
pub(in crate::config) struct Sha256;

pub(in crate::config) const fn sha256() -> Sha256 {
    Sha256
}

impl Sha256 {
    fn parse(&self, value: &Value) -> Result<[u8; 32], String> {
        let text = text_of(value, &self.expected())?;
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(wrong(value, &self.expected()));
        }
        let byte = |at: usize| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).expect("two hex digits are a byte");
        Ok(std::array::from_fn(byte))
    }
}

impl Describe for Sha256 {
    fn schema(&self) -> serde_json::Value {
        json!({ "type": "string", "pattern": "^[0-9a-fA-F]{64}$" })
    }

    fn expected(&self) -> String {
        "64 hex digits".to_owned()
    }
}

impl Kind for Sha256 {
    type Value = [u8; 32];

    fn read(&self, reader: &mut Reader, place: &Place, value: &Value) -> Option<[u8; 32]> {
        report(reader, place, value, self.parse(value))
    }

    fn write(&self, value: &[u8; 32], _: &Style) -> String {
        quoted(&hex(value))
    }
}

/// An object whose content is not ours to judge, as JSON text.
pub(in crate::config) struct Free;

pub(in crate::config) const fn free() -> Free {
    Free
}

impl Describe for Free {
    fn schema(&self) -> serde_json::Value {
        json!({ "type": "object" })
    }

    fn expected(&self) -> String {
        format!("an object of at most {}", size_text(MODULE_CONFIG_LEN_MAX as u64))
    }

    fn is_more_than_its_schema(&self) -> bool {
        true
    }
}

impl Kind for Free {
    type Value = String;

    fn read(&self, reader: &mut Reader, place: &Place, value: &Value) -> Option<String> {
        let mut text = String::new();
        if !matches!(value, Value::Object(_)) {
            return report(reader, place, value, Err(wrong(value, "an object, {…}")));
        }
        let written = write(&mut text, value, place, MODULE_CONFIG_DEPTH_MAX);
        if let Err((offset, place, message)) = written {
            reader.problems.add(offset, place, message);
            return None;
        }
        if text.len() > MODULE_CONFIG_LEN_MAX {
            let max = size_text(MODULE_CONFIG_LEN_MAX as u64);
            return report(reader, place, value, Err(format!("the config is too long; expected at most {max}")));
        }
        Some(text)
    }

    fn write(&self, value: &String, _: &Style) -> String {
        value.clone()
    }
}

/// What is wrong: at which byte, at which key, and how.
type Mistake = (usize, String, String);

/// Appends `value` without blanks. Stops, as if all were well, once the text is longer than it may be.
fn write(text: &mut String, value: &Value, place: &Place, depth_left: usize) -> Result<(), Mistake> {
    if text.len() > MODULE_CONFIG_LEN_MAX {
        return Ok(());
    }
    let Some(depth_left) = depth_left.checked_sub(1) else {
        let message = format!("this is nested too deep; expected at most {MODULE_CONFIG_DEPTH_MAX} levels");
        return Err((value.start(), place.to_string(), message));
    };
    match value {
        Value::StringLit(string) => text.push_str(&quoted(&string.value)),
        // As written: a float would be another number.
        Value::NumberLit(number) => text.push_str(number.value),
        Value::BooleanLit(switch) => text.push_str(if switch.value { "true" } else { "false" }),
        Value::NullKeyword(_) => text.push_str("null"),
        Value::Array(array) => {
            text.push('[');
            for (index, element) in array.elements.iter().enumerate() {
                text.push_str(if index > 0 { "," } else { "" });
                write(text, element, &Place::Index(place, index), depth_left)?;
            }
            text.push(']');
        }
        Value::Object(object) => {
            let mut seen = HashSet::new();
            text.push('{');
            for (index, property) in object.properties.iter().enumerate() {
                let name = property.name.as_str();
                let place = Place::Key(place, name);
                if !seen.insert(name) {
                    let message = format!("the key {} is there twice; expected it once", echo(name));
                    return Err((property.range.start, place.to_string(), message));
                }
                text.push_str(if index > 0 { "," } else { "" });
                text.push_str(&quoted(name));
                text.push(':');
                write(text, &property.value, &place, depth_left)?;
            }
            text.push('}');
        }
    }
    Ok(())
}
