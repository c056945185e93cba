//! Values of the file where they come from elsewhere: from flags of the command line.
//!
//! They are read by the same table and with the same bounds as in the file, so that a module tried by hand
//! is tried with what the file may say, and a mistake is told in the same words.

use std::time::Duration;

use jsonc_parser::ast::Value;

use super::keys::{self, Key, MODULE, ROOT};
use super::problem::{Place, Problems};
use super::{dump, policy, reader, value};

/// A module's `config`: JSON text of an object, given back as the module is told it.
///
/// # Errors
///
/// The first mistake, with its line and column.
pub fn module_config(text: &str) -> Result<String, String> {
    let first = |problems: Vec<super::Problem>| problems.first().map_or_else(String::new, ToString::to_string);
    let value = reader::syntax(text).map_err(first)?;
    let mut problems = Problems::default();
    let config = policy::config(&mut problems, &value, &Place::Root);
    if problems.is_empty() { Ok(config) } else { Err(first(problems.finish(text))) }
}

/// A module's `deadline`: `5ms`.
///
/// # Errors
///
/// It is no time, or out of bounds.
pub fn module_deadline(text: &str) -> Result<Duration, String> {
    flag(MODULE, "deadline", text, value::time)
}

/// A module's `memory`: `16MiB`.
///
/// # Errors
///
/// It is no size, or out of bounds.
pub fn module_memory(text: &str) -> Result<u64, String> {
    flag(MODULE, "memory", text, value::size)
}

/// `policy_max_bytes`: `8MiB`.
///
/// # Errors
///
/// It is no size, or out of bounds.
pub fn policy_max_bytes(text: &str) -> Result<u64, String> {
    flag(ROOT, "policy_max_bytes", text, value::size)
}

fn flag<T>(
    keys: &'static [Key],
    name: &str,
    text: &str,
    read: fn(&Key, &Value) -> Result<T, String>,
) -> Result<T, String> {
    let key = keys::find(keys, name).expect("the table has the key");
    let json = dump::quoted(text);
    let value = reader::syntax(&json).expect("a quoted text is JSON");
    read(key, &value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read_as_the_file_is() {
        assert_eq!(module_deadline("7.5ms"), Ok(Duration::from_micros(7_500)));
        assert_eq!((module_memory("1MiB"), policy_max_bytes("2KiB")), (Ok(1 << 20), Ok(2 << 10)));
        assert_eq!(module_deadline("5").unwrap_err(), "\"5\" has no unit; expected a time such as \"5s\" or \"5ms\"");
        assert!(module_deadline("1h").unwrap_err().contains("out of range"));
        assert!(module_memory("1\u{1}").unwrap_err().contains("is no size"));
        assert!(policy_max_bytes("1B").unwrap_err().contains("out of range"));
    }

    #[test]
    fn a_config_is_an_object_and_a_mistake_in_it_has_its_place() {
        assert_eq!(module_config("{ \"a\": [1.50, null] }").as_deref(), Ok("{\"a\":[1.50,null]}"));
        for (text, error) in [
            ("", "1:1: the file is empty; expected an object, {…}"),
            ("{\"a\": }", "1:7: this is no JSON: "),
            ("{\n\"a\":1,\n\"a\":2}", "3:1: a: the key a is there twice; expected it once"),
            ("[1]", "1:1: a list is no object; expected {…}"),
        ] {
            let found = module_config(text).unwrap_err();
            assert!(found.starts_with(error), "{text}: {found}");
        }
    }
}
