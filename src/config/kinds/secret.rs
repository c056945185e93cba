//! Tokens: written in the file, or kept elsewhere and referred to.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use jsonc_parser::ast::Value;
use serde_json::json;

use super::plain::report;
use crate::config::key::{Describe, Kind, Style};
use crate::config::problem::Place;
use crate::config::reader::Reader;
use crate::config::units::quoted;

/// Longest accepted secret, in bytes; it travels in one HTTP header.
pub const SECRET_LEN_MAX: usize = 1_024;

/// What stands before the name of an environment variable, and before the path of a file, that holds a secret.
const ENV: &str = "env:";
const FILE: &str = "file:";

/// A secret that no `Debug`, log or error shows.
///
/// It remembers how it was written, so that a dump of the file keeps `env:NAME` and `file:PATH`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    value: String,
    written: String,
}

impl Secret {
    /// Wraps a secret.
    pub fn new(text: String) -> Self {
        Self { written: text.clone(), value: text }
    }

    /// The secret itself, for comparing.
    pub fn expose(&self) -> &str {
        &self.value
    }

    /// What the file says: the secret itself, `env:NAME` or `file:PATH`.
    pub(in crate::config) fn written(&self) -> &str {
        &self.written
    }

    /// Looks up what `written` stands for. The error says what is wrong and never shows a secret.
    fn resolve(written: &str, folder: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, String> {
        let value = if let Some(name) = written.strip_prefix(ENV) {
            env(name).ok_or_else(|| format!("the environment has no variable \"{name}\" of plain text"))?
        } else if let Some(path) = written.strip_prefix(FILE) {
            read(&folder.join(path))?
        } else {
            written.to_owned()
        };
        match value.len() {
            0 => Err("the secret is empty; expected at least one character".to_owned()),
            1..=SECRET_LEN_MAX if value.bytes().all(|b| b.is_ascii_graphic()) => {
                Ok(Self { value, written: written.to_owned() })
            }
            1..=SECRET_LEN_MAX => Err("the secret has blanks or signs that an HTTP header cannot carry; \
                                       expected letters, digits and punctuation of ASCII"
                .to_owned()),
            _ => Err(format!("the secret is too long; expected at most {SECRET_LEN_MAX} bytes")),
        }
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
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
pub(in crate::config) struct SecretText;

pub(in crate::config) const fn secret() -> SecretText {
    SecretText
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
            return report(reader, place, value, Err("expected a token, env:NAME or file:PATH".to_owned()));
        };
        if let Some(path) = written.value.strip_prefix(FILE) {
            reader.other_files.push(reader.folder.join(path));
        }
        let secret = Secret::resolve(&written.value, &reader.folder, reader.env);
        let in_force = reader.secrets.iter().find(|(in_force, _)| *in_force == written.value).cloned();
        match (secret, in_force) {
            (Err(error), Some((written, value))) => {
                reader.kept_secrets.push(format!("{place}: {error}"));
                Some(Secret { value, written })
            }
            (secret, _) => report(reader, place, value, secret),
        }
    }

    fn write(&self, value: &Secret, style: &Style) -> String {
        let is_reference = [ENV, FILE].iter().any(|prefix| value.written().starts_with(prefix));
        quoted(if is_reference || style.shows_secrets { value.written() } else { HIDDEN })
    }
}
