//! Writing a whole configuration in the new form.
//!
//! Every key is written with the value that holds, so the text does not depend on defaults. Servers are
//! one line each, with the keys that say something.

use std::path::Path;

use super::declare::Fields;
use super::fields::Config;
use super::find::folder_of;
use super::key::Style;
use super::kinds::object_text;

/// The file at `path` that means `config`, in the new form.
///
/// Secrets that stand in the file are written as `***` unless `shows_secrets`; `env:` and `file:` stay references. A
/// `policies_dir` that was read relative to the folder of the file is written so.
pub fn dump(config: &Config, path: &Path, shows_secrets: bool) -> String {
    let style = Style { shows_secrets, folder: Some(folder_of(path)), indent: 0 };
    object_text(&config.write(&style.deeper()), &style) + "\n"
}
