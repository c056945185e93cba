//! What is found in the place of the state file.
//!
//! Only a file that begins as ours and was torn may give way to a new one. Everything else may be somebody's, or says
//! what this version does not understand: it is an error, and nothing is done to it.

use std::io::{self, ErrorKind};
use std::path::Path;

use serde_json::Value;

use super::{Overlay, VERSION, head};
use crate::base::file;
use crate::base::text::echo;
use crate::config::syntax::FILE_BYTES_MAX;

/// What is found in the place of the state file.
#[derive(Debug, PartialEq)]
pub enum Stored {
    /// Nothing yet.
    Nothing,
    /// What it says.
    Whole(Overlay),
    /// A file of ours that cannot be understood, and why.
    Torn(String),
}

/// Why what is found there is left as it is.
#[derive(Debug, thiserror::Error)]
pub enum StoredError {
    /// It cannot be read, or is no regular file.
    #[error("{0}; expected a regular file that can be read and written, or none")]
    System(#[from] io::Error),
    /// Another version wrote it.
    #[error("its version is {0}; expected {VERSION}: another version of goproxy wrote it")]
    Version(String),
    /// It is a file of somebody else's.
    #[error("not a state file of goproxy; expected one, or no file")]
    Foreign,
}

impl Overlay {
    /// Reads the state file at `path`.
    ///
    /// # Errors
    ///
    /// [`StoredError`] for what is not to be replaced.
    pub fn stored(path: &Path) -> Result<Stored, StoredError> {
        match file::read(path, FILE_BYTES_MAX as u64) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Stored::Nothing),
            bytes => understood(&bytes?),
        }
    }
}

fn understood(bytes: &[u8]) -> Result<Stored, StoredError> {
    let head = head();
    let is_ours = bytes.starts_with(head.as_bytes()) || head.as_bytes().starts_with(bytes);
    // What is wrong with another file may be a part of it.
    let torn = |why: String| if is_ours { Ok(Stored::Torn(why)) } else { Err(StoredError::Foreign) };
    let Ok(text) = std::str::from_utf8(bytes) else { return torn("not UTF-8 text".to_owned()) };
    let value: Value = match serde_json::from_str(text) {
        Ok(value) => value,
        Err(error) => return torn(error.to_string()),
    };
    match (value.get("version"), value.get("overrides")) {
        (Some(version), Some(_)) if *version != VERSION => Err(StoredError::Version(echo(&version.to_string()))),
        _ => Overlay::parse(text).map(Stored::Whole).or_else(torn),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_torn_file_that_begins_as_ours_may_be_replaced() {
        let text = Overlay::default().text();
        let said = |bytes: &[u8]| match understood(bytes) {
            Ok(Stored::Torn(why)) => format!("torn: {why}"),
            Ok(found) => format!("{found:?}"),
            Err(error) => error.to_string(),
        };
        assert_eq!(understood(text.as_bytes()).unwrap(), Stored::Whole(Overlay::default()));
        for end in 0..text.len() - 2 {
            assert!(said(&text.as_bytes()[..end]).starts_with("torn: EOF"), "{end}");
        }
        assert_eq!(said(&[text.as_bytes(), b"\xff"].concat()), "torn: not UTF-8 text");
        assert!(said(text.replace("[\n]", "[7]").as_bytes()).starts_with("torn: "));
        // Whoever writes it by hand need not write as we do.
        assert!(said(br#"{"overrides":[],"version":1}"#).starts_with("Whole("));
        let newer = text.replace("\"version\": 1", "\"version\": 2");
        assert_eq!(said(newer.as_bytes()), "its version is 2; expected 1: another version of goproxy wrote it");
        let key = "-----BEGIN PRIVATE KEY-----\nMIGH\n";
        let torn_newer = &newer[..newer.len() - 3];
        for foreign in [key, torn_newer, "{}", "[]", "\"MIGH\"", "{\n", " ", r#"{ "version": "1.0.2" }"#] {
            let expected =
                if foreign == "{\n" { "torn: EOF" } else { "not a state file of goproxy; expected one, or no" };
            assert!(said(foreign.as_bytes()).starts_with(expected), "{foreign}: {}", said(foreign.as_bytes()));
        }
    }
}
