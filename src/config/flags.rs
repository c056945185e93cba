//! Values of the kinds of the file that are given as flags of the command line, or with a request.
//!
//! The declarations of the file read them, with the same bounds, defaults and error texts: what can be tried by hand
//! can be configured.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use jsonc_parser::ast::Value;

use super::declare::Fields;
use super::fields::{COMPILE_BUDGET, Config, DEADLINE, MEMORY, POLICY_MAX_BYTES};
use super::key::{Kind, keys};
use super::kinds::{Size, Time, free, policy_key_of, size, time, time_or_zero, token_of};
use super::problem::{Place, Problem};
use super::reader::Reader;
use super::syntax::syntax;
use super::units::quoted;
use crate::base::secret::Secret;
use crate::policy::spec::ModuleSpec;
use crate::policy::wasm::source::PolicyKey;

/// What `wait` of a request may be.
const WAIT: Time = time_or_zero(1, 10 * 60_000);

/// How long picks may be recorded.
const RECORD_TIME: Time = time(1_000, 30 * 86_400_000);

/// How large a recording may become.
const RECORD_MAX: Size = size(64 << 10, 64 << 30);

/// The default of every key that a flag has, as the flag writes it.
static DEFAULTS: LazyLock<HashMap<&'static str, String>> = LazyLock::new(|| {
    let keys = keys(ModuleSpec::TABLE, false).chain(keys(Config::TABLE, false));
    keys.filter_map(|key| Some((key.name, key.default()?.trim_matches('"').to_owned()))).collect()
});

/// The default of a key of a module, or of the whole file: `5ms`.
///
/// # Panics
///
/// There is no such key, or it has no default.
pub fn default_of(key: &str) -> &'static str {
    DEFAULTS.get(key).expect("a key with a default")
}

/// A module's `config`: JSON text of an object. Returns the text that the module gets.
///
/// # Errors
///
/// The first mistake, with its line and column.
pub fn module_config(text: &str) -> Result<String, String> {
    let first = |problems: Vec<Problem>| problems.first().map_or_else(String::new, ToString::to_string);
    let value = syntax(text).map_err(first)?;
    let mut reader = Reader::new(PathBuf::new(), &|_| None);
    let config = free().read(&mut reader, &Place::Root, &value);
    config.ok_or_else(|| first(reader.problems.finish(text)))
}

/// A module's `deadline`: `5ms`.
///
/// # Errors
///
/// It is no time, or out of bounds.
pub fn module_deadline(text: &str) -> Result<Duration, String> {
    flag(text, |value| DEADLINE.parse(value))
}

/// A module's `memory`: `16MiB`.
///
/// # Errors
///
/// It is no size, or out of bounds.
pub fn module_memory(text: &str) -> Result<u64, String> {
    flag(text, |value| MEMORY.parse(value))
}

/// `compile_budget` of a module: `1s`.
///
/// # Errors
///
/// It is no time, or out of bounds.
pub fn module_compile_budget(text: &str) -> Result<Duration, String> {
    flag(text, |value| COMPILE_BUDGET.parse(value))
}

/// `policy_max_bytes`: `8MiB`.
///
/// # Errors
///
/// It is no size, or out of bounds.
pub fn policy_max_bytes(text: &str) -> Result<u64, String> {
    flag(text, |value| POLICY_MAX_BYTES.parse(value))
}

/// How long a request may wait for sessions: `30s`.
///
/// # Errors
///
/// It is no time, or out of bounds.
pub fn wait(text: &str) -> Result<Duration, String> {
    flag(text, |value| WAIT.parse(value))
}

/// A token of the admin port: the token itself, `env:NAME` or `file:PATH`.
///
/// # Errors
///
/// It cannot be read, or no header can carry it.
pub fn token(text: &str) -> Result<Secret, String> {
    token_of(text)
}

/// A key of `policy_keys`: the key itself or `file:PATH`.
///
/// # Errors
///
/// It cannot be read, or is none.
pub fn policy_key(text: &str) -> Result<PolicyKey, String> {
    policy_key_of(text)
}

/// A time of a scenario: `10m`.
///
/// # Errors
///
/// It is no time.
pub fn simulated_time(text: &str) -> Result<Duration, String> {
    flag(text, |value| time_or_zero(0, 366 * 86_400_000).parse(value))
}

/// How long picks are recorded: `10m`.
///
/// # Errors
///
/// It is no time, or out of bounds.
pub fn record_time(text: &str) -> Result<Duration, String> {
    flag(text, |value| RECORD_TIME.parse(value))
}

/// How large a recording may become: `256MiB`.
///
/// # Errors
///
/// It is no size, or out of bounds.
pub fn record_max(text: &str) -> Result<u64, String> {
    flag(text, |value| RECORD_MAX.parse(value))
}

fn flag<T>(text: &str, read: impl Fn(&Value) -> Result<T, String>) -> Result<T, String> {
    read(&syntax(&quoted(text)).expect("a quoted text is JSON"))
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
        assert!(module_memory("1\u{1}").unwrap_err().contains("expected a whole number with a unit"));
        assert!(policy_max_bytes("1B").unwrap_err().contains("out of range"));
    }

    #[test]
    fn a_token_is_written_as_in_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "from-a-file\n").unwrap();
        let exposed = |text: &str| token(text).map(|secret| secret.expose().to_owned());
        assert_eq!(exposed("plain").as_deref(), Ok("plain"));
        assert_eq!(exposed(&format!("file:{}", path.display())).as_deref(), Ok("from-a-file"));
        for text in ["", "two words", "file:/nowhere/token", "env:GOPROXY_NO_SUCH_VARIABLE"] {
            assert!(exposed(text).is_err(), "{text}");
        }
    }

    #[test]
    fn flags_have_the_defaults_of_the_file() {
        let defaults = ["config", "deadline", "memory", "compile_budget", "policy_max_bytes"].map(default_of);
        assert_eq!(defaults, ["{}", "5ms", "16MiB", "1s", "8MiB"]);
    }

    #[test]
    fn a_config_is_an_object_and_a_mistake_in_it_has_its_place() {
        assert_eq!(module_config("{ \"a\": [1.50, null] }").as_deref(), Ok("{\"a\":[1.50,null]}"));
        for (text, error) in [
            ("", "1:1: the file is empty; expected an object, {…}"),
            ("{\"a\": }", "1:7: not valid JSON: "),
            ("{\n\"a\":1,\n\"a\":2}", "3:1: a: the key a is there twice; expected it once"),
            ("[1]", "1:1: expected an object, {…}, found a list"),
        ] {
            let found = module_config(text).unwrap_err();
            assert!(found.starts_with(error), "{text}: {found}");
        }
    }
}
