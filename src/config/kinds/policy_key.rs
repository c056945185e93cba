//! Keys that policy modules may be signed with: written in the file, or kept in another.

use std::path::Path;

use jsonc_parser::ast::Value;
use serde_json::json;

use super::plain::{check_path, report};
use crate::base::file::read_text;
use crate::config::key::{Describe, Kind, Style};
use crate::config::problem::Place;
use crate::config::reader::Reader;
use crate::config::units::quoted;
use crate::policy::wasm::source::PolicyKey;

const FILE: &str = "file:";

/// Largest file of a key: minisign's comment has 1 KiB at most.
const BYTES_MAX: u64 = 4 << 10;

/// A public key of minisign's.
pub(in crate::config) struct PolicyKeyKind;

/// A public key of minisign's, or the file that has it.
pub(in crate::config) const fn policy_key() -> PolicyKeyKind {
    PolicyKeyKind
}

/// A key that a flag gives; a path is relative to the working directory.
pub(in crate::config) fn policy_key_of(written: &str) -> Result<PolicyKey, String> {
    resolve(written, Path::new(""))
}

fn resolve(written: &str, folder: &Path) -> Result<PolicyKey, String> {
    let text = match written.strip_prefix(FILE) {
        None => written.to_owned(),
        Some(path) => {
            check_path(path)?;
            let path = folder.join(path);
            read_text(&path, BYTES_MAX)
                .map_err(|error| format!("cannot read the key from {}: {error}", path.display()))?
        }
    };
    PolicyKey::parse(&text, written).map_err(|error| match written.starts_with(FILE) {
        false => format!("{error}, or file:PATH"),
        true => error.to_string(),
    })
}

impl Describe for PolicyKeyKind {
    fn schema(&self) -> serde_json::Value {
        json!({ "type": "string" })
    }

    fn expected(&self) -> String {
        "a public key of minisign, or file:PATH".to_owned()
    }
}

impl Kind for PolicyKeyKind {
    type Value = PolicyKey;

    fn read(&self, reader: &mut Reader, place: &Place, value: &Value) -> Option<PolicyKey> {
        let Some(written) = value.as_string_lit() else {
            return report(reader, place, value, Err(format!("expected {}", self.expected())));
        };
        if let Some(path) = written.value.strip_prefix(FILE) {
            reader.other_files.push(reader.folder.join(path));
        }
        let key = resolve(&written.value, &reader.folder);
        report(reader, place, value, key)
    }

    fn write(&self, value: &PolicyKey, _: &Style) -> String {
        quoted(value.written())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";

    #[test]
    fn a_key_stands_in_the_file_or_in_the_one_that_minisign_writes() {
        let folder = tempfile::tempdir().unwrap();
        let write = |text: &str| std::fs::write(folder.path().join("ops.pub"), text).unwrap();
        let from_file = || resolve("file:ops.pub", folder.path());
        write(&format!("untrusted comment: minisign public key E7620F1842B4E81F\n{KEY}\n"));
        let (key, found) = (resolve(KEY, folder.path()).unwrap(), from_file().unwrap());
        assert!(key.is_same(&found));
        assert_eq!((key.written(), found.written()), (KEY, "file:ops.pub"));
        assert_eq!(found.number().to_string(), "E7620F1842B4E81F");
        write("untrusted comment: minisign encrypted secret key\nRWRTY0Iy\n");
        assert_eq!(from_file().unwrap_err(), "not a minisign public key; expected 56 characters that begin with RW");
        std::fs::remove_file(folder.path().join("ops.pub")).unwrap();
        assert!(from_file().unwrap_err().starts_with("cannot read the key from "));
        std::fs::create_dir(folder.path().join("ops.pub")).unwrap();
        assert!(from_file().unwrap_err().ends_with(": not a file"));
        for text in ["", "RW", &KEY[1..], &KEY.to_lowercase(), "file:"] {
            assert!(resolve(text, folder.path()).is_err(), "{text}");
        }
    }
}
