//! The value of `policy`: a name, or an object that says more about a module.
//!
//! Read once, written back in the shortest form that means the same. `config` is the module's own: it is
//! kept as JSON without blanks and comments, numbers and the order of keys as they were written, so that
//! two files which tell a module the same are the same. Whether there is such a module, and whether it
//! takes its config, is found out by whoever makes the policy.

use std::collections::HashSet;

use jsonc_parser::ast::Value;
use jsonc_parser::common::Ranged;

use super::dump::quoted;
use super::keys::{MODULE, MODULE_CONFIG_DEPTH_MAX, MODULE_CONFIG_LEN_MAX};
use super::problem::{Place, Problems, shortened};
use super::reader::{Fields, fields};
use super::units::{size_text, time_text};
use super::value;
use crate::policy::spec::{ModuleSpec, PolicySpec};

/// Reads the policy of a group or of `defaults`, or else takes `base`, or else the default of the table.
pub(super) fn read(problems: &mut Problems, f: &Fields, name: &str, base: Option<PolicySpec>) -> PolicySpec {
    match f.value(name) {
        Some(value @ Value::Object(_)) => {
            let module = module(problems, value, &Place::Key(f.place, name));
            module.map(PolicySpec::module).unwrap_or_default()
        }
        _ => f.get_or(problems, name, base, value::policy),
    }
}

/// `policy` as JSON on one line: its name alone when nothing else is to be said.
pub(super) fn text(policy: &PolicySpec) -> String {
    let name = quoted(policy.name());
    let Some(module) = policy.as_module() else { return name };
    let plain = ModuleSpec::new(&module.name);
    let mut keys = String::new();
    let mut key = |name, is_plain: bool, value: String| {
        if !is_plain {
            keys.push_str(&format!(", \"{name}\": {value}"));
        }
    };
    key("config", module.config == plain.config, module.config.clone());
    key("fallback", module.fallback == plain.fallback, quoted(module.fallback));
    key("deadline", module.deadline == plain.deadline, quoted(&time_text(module.deadline)));
    key("memory", module.memory == plain.memory, quoted(&size_text(module.memory)));
    let sha256 = || module.sha256.iter().flatten().map(|byte| format!("{byte:02x}")).collect::<String>();
    key("sha256", module.sha256 == plain.sha256, quoted(&sha256()));
    if keys.is_empty() { name } else { format!("{{ \"wasm\": {}{keys} }}", quoted(&module.name)) }
}

/// A module as an object; `None` when it has no usable name.
fn module(problems: &mut Problems, value: &Value, place: &Place) -> Option<ModuleSpec> {
    let f = fields(problems, value, place, MODULE)?;
    let name = f.get_required(problems, "wasm", value::module);
    let fallback = f.get_or(problems, "fallback", None, value::word);
    let deadline = f.get_or(problems, "deadline", None, value::time);
    let memory = f.get_or(problems, "memory", None, value::size);
    let sha256 = f.get(problems, "sha256", value::sha256);
    let config = f.value("config").map(|value| config(problems, value, &Place::Key(f.place, "config")));
    let config = config.unwrap_or_else(|| "{}".to_owned());
    Some(ModuleSpec { name: name?.as_str().into(), config, fallback, deadline, memory, sha256 })
}

/// What the module is told, as JSON text. Of what is wrong within it, only the first is reported.
pub(super) fn config(problems: &mut Problems, value: &Value, place: &Place) -> String {
    let mut text = String::new();
    if !matches!(value, Value::Object(_)) {
        let shown = value::shown(value);
        problems.add(value.start(), place, format!("{shown} is no object; expected {{…}}"));
        return text;
    }
    let written = write(&mut text, value, place, MODULE_CONFIG_DEPTH_MAX);
    if let Err((offset, place, message)) = written {
        problems.add(offset, place, message);
    } else if text.len() > MODULE_CONFIG_LEN_MAX {
        let max = size_text(MODULE_CONFIG_LEN_MAX as u64);
        problems.add(value.start(), place, format!("the config is too long; expected at most {max}"));
    }
    text
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
                    let message = format!("the key {} is there twice; expected it once", shortened(name));
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
