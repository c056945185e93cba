//! Tokens and passwords: written in the file, or kept elsewhere and referred to.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use jsonc_parser::ast::Value;
use serde_json::json;

use super::plain::{check_path, report};
use crate::base::secret::Secret;
use crate::base::text::echo;
use crate::config::key::{Describe, Kind, Style};
use crate::config::problem::Place;
use crate::config::reader::Reader;
use crate::config::units::quoted;

/// Longest accepted secret, in bytes; a token travels in one HTTP header.
pub const SECRET_LEN_MAX: usize = 1_024;

/// What stands before the name of an environment variable, and before the path of a file, that holds a secret.
const ENV: &str = "env:";
const FILE: &str = "file:";

/// Looks up what `written` stands for. The error says what is wrong and never shows a secret.
fn resolve(
    written: &str,
    is_fit: fn(&str) -> Result<(), &'static str>,
    folder: &Path,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Secret, String> {
    let value = if let Some(name) = written.strip_prefix(ENV) {
        env(name).ok_or_else(|| format!("the environment has no variable \"{}\" of plain text", echo(name)))?
    } else if let Some(path) = written.strip_prefix(FILE) {
        check_path(path)?;
        read(&folder.join(path))?
    } else {
        written.to_owned()
    };
    match value.len() {
        0 => Err("the secret is empty; expected at least one character".to_owned()),
        1..=SECRET_LEN_MAX => {
            is_fit(&value)?;
            Ok(Secret::referred_to(value, written.to_owned()))
        }
        _ => Err(format!("the secret is too long; expected at most {SECRET_LEN_MAX} bytes")),
    }
}

/// A token that a flag gives; a path is relative to the working directory.
pub(in crate::config) fn token_of(written: &str) -> Result<Secret, String> {
    resolve(written, for_a_header, Path::new(""), &|name| std::env::var(name).ok())
}

/// What an HTTP header can carry.
fn for_a_header(value: &str) -> Result<(), &'static str> {
    match value.bytes().all(|b| b.is_ascii_graphic()) {
        true => Ok(()),
        false => Err("the secret has blanks or signs that an HTTP header cannot carry; \
                      expected letters, digits and punctuation of ASCII"),
    }
}

/// What somebody can type.
fn on_one_line(value: &str) -> Result<(), &'static str> {
    match value.chars().any(char::is_control) {
        false => Ok(()),
        true => Err("the secret has a control character; expected text on one line"),
    }
}

/// The first line's worth of a secret's file: all of it, without the newline that editors add.
fn read(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let limit = SECRET_LEN_MAX as u64 + 3;
    File::open(path)
        .and_then(|file| file.take(limit).read_to_string(&mut text))
        .map_err(|error| format!("cannot read the secret from {}: {error}", path.display()))?;
    let trimmed = text.strip_suffix('\n').map(|text| text.strip_suffix('\r').unwrap_or(text)).unwrap_or(&text);
    Ok(trimmed.to_owned())
}

/// What a dump writes in the place of a secret that stands in the file.
pub(in crate::config) const HIDDEN: &str = "***";

/// A secret; unlike other kinds it never shows the value.
pub(in crate::config) struct SecretText {
    what: &'static str,
    is_fit: fn(&str) -> Result<(), &'static str>,
}

/// A token that travels in an HTTP header.
pub(in crate::config) const fn secret() -> SecretText {
    SecretText { what: "a token", is_fit: for_a_header }
}

/// A password of any text.
pub(in crate::config) const fn password() -> SecretText {
    SecretText { what: "a password", is_fit: on_one_line }
}

impl Describe for SecretText {
    fn schema(&self) -> serde_json::Value {
        json!({ "type": "string", "minLength": 1 })
    }

    fn expected(&self) -> String {
        "a string".to_owned()
    }
}

impl Kind for SecretText {
    type Value = Secret;

    fn read(&self, reader: &mut Reader, place: &Place, value: &Value) -> Option<Secret> {
        let Some(written) = value.as_string_lit() else {
            return report(reader, place, value, Err(format!("expected {}, env:NAME or file:PATH", self.what)));
        };
        if let Some(path) = written.value.strip_prefix(FILE) {
            reader.other_files.push(reader.folder.join(path));
        }
        let secret = resolve(&written.value, self.is_fit, &reader.folder, reader.env);
        let in_force = reader.secrets.iter().find(|(in_force, _)| *in_force == written.value).cloned();
        match (secret, in_force) {
            (Err(error), Some((written, value))) => {
                reader.kept_secrets.push(format!("{place}: {error}"));
                Some(Secret::referred_to(value, written))
            }
            (secret, _) => report(reader, place, value, secret),
        }
    }

    fn write(&self, value: &Secret, style: &Style) -> String {
        let is_reference = [ENV, FILE].iter().any(|prefix| value.written().starts_with(prefix));
        quoted(if is_reference || style.shows_secrets { value.written() } else { HIDDEN })
    }
}
