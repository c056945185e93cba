//! Writing a whole configuration in the new form.
//!
//! Every key is written with its value in force, so the text does not depend on defaults. Each server is one line, with
//! the keys that are not at their defaults.

use std::path::Path;

use super::declare::Fields;
use super::fields::Config;
use super::find::folder_of;
use super::key::Style;
use super::kinds::object_text;

/// `config` as the text of a file at `path`, in the new form.
///
/// Secrets in the file are written as `***` unless `shows_secrets`; `env:` and `file:` references stay. A
/// `policies_dir` below the file's folder is written relative to it.
pub fn dump(config: &Config, path: &Path, shows_secrets: bool) -> String {
    let style = Style { shows_secrets, folder: Some(folder_of(path)), indent: 0 };
    object_text(&config.write(&style.deeper()), &style) + "\n"
}
