//! From the text of `proxy.json` to the checked [`Config`], or to every mistake in it.
//!
//! One walk over the file reads all keys. A wrong value is reported and its default stands in, so that the rest is
//! still checked; what stands in never leaves this module, because one problem is enough to refuse the file. What must
//! hold between values is checked at the end.

use std::path::Path;

use super::check::check;
use super::declare::Fields;
use super::fields::Config;
use super::find::folder_of;
use super::legacy;
use super::object::Object;
use super::problem::{Place, Problem};
use super::reader::Reader;
use super::syntax::{syntax, without_bom};

/// Reads and checks `text`, the content of the file at `path`.
///
/// Relative paths in the file start from its folder. Secrets are looked up, so the answer depends on
/// the environment and on the files they are kept in.
///
/// # Errors
///
/// Every mistake in the order of the file; of the syntax only the first.
pub fn parse(path: &Path, text: &str) -> Result<Config, Vec<Problem>> {
    parse_with(path, text, &|name| std::env::var(name).ok())
}

/// [`parse`] with the environment given.
pub(super) fn parse_with(
    path: &Path,
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, Vec<Problem>> {
    let text = without_bom(text);
    let root = syntax(text)?;
    let mut reader = Reader::new(folder_of(path), env);
    let config = if legacy::is_legacy(&root) {
        legacy::read(&mut reader, &root)
    } else {
        let object = Object::open(&mut reader, &root, &Place::Root, Config::TABLE, false);
        object.and_then(|object| Config::read(&mut reader, &object, None))
    };
    check(&mut reader);
    match config {
        Some(config) if reader.problems.is_empty() => Ok(config),
        _ => Err(reader.problems.finish(text)),
    }
}
