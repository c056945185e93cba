//! The files of modules: their names, which of them there are, reading them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::error::ModuleError;
use super::source::{self, PolicyKey, PolicyKeys, SourceError, sha256, signature_path};
use crate::policy::spec::is_module_name;

/// The ending of a module's file that comes first.
pub(super) const PREFERRED_ENDING: &str = "wasm";

/// The endings of a module's file.
const ENDINGS: [&str; 2] = [PREFERRED_ENDING, "wat"];

/// Why a file cannot be loaded.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {problem}")]
pub(super) struct LoadError {
    place: String,
    problem: String,
    /// The file ends in the middle, or does not go with its signature: somebody may still be writing one of them.
    pub(super) is_incomplete: bool,
}

/// A module's file as it was read, with what its signature says.
pub(super) struct Found {
    pub(super) path: PathBuf,
    pub(super) bytes: Vec<u8>,
    pub(super) sha256: [u8; 32],
    /// Of the file and of its signature.
    pub(super) content: [u8; 32],
    /// The key that signed it; `None` where signatures are not asked for.
    pub(super) signer: Result<Option<PolicyKey>, LoadError>,
}

impl Found {
    /// Reads the file, at most so many bytes of it, and checks its signature.
    ///
    /// # Errors
    ///
    /// The file cannot be read, is no file, or has more bytes.
    pub(super) fn read(path: PathBuf, file_bytes_max: u64, keys: &PolicyKeys) -> Result<Self, LoadError> {
        let bytes = read(&path, file_bytes_max)?;
        if keys.is_empty() {
            return Ok(Self::unsigned(path, bytes));
        }
        let sha256 = sha256(&bytes);
        let signature = source::read_signature(&path);
        let both = [&sha256[..], signature.as_deref().unwrap_or_default()].concat();
        let signer = keys.check(&path, &bytes, signature);
        let signer = signer.map_err(|error| LoadError {
            is_incomplete: error.is_incomplete(),
            ..LoadError::new(&path, error.to_string())
        });
        Ok(Self { path, bytes, sha256, content: source::sha256(&both), signer })
    }

    /// What was read of a file where signatures are not asked for.
    pub(super) fn unsigned(path: PathBuf, bytes: Vec<u8>) -> Self {
        let sha256 = sha256(&bytes);
        Self { path, bytes, sha256, content: sha256, signer: Ok(None) }
    }
}

/// The file of the module called `name`.
///
/// # Errors
///
/// There is none, or there are two.
pub(super) fn find(folder: &Path, name: &str) -> Result<PathBuf, LoadError> {
    let paths = paths(folder, name);
    let mut found = paths.iter().filter(|path| path.exists()).cloned();
    if let [Some(first), Some(second)] = [found.next(), found.next()] {
        let place = format!("{} and {}", first.display(), file_name(&second));
        let problem = "two files for one policy; expected one: remove the other".to_owned();
        return Err(LoadError { place, problem, is_incomplete: false });
    }
    let found = paths.iter().find(|path| path.exists()).cloned();
    found.ok_or_else(|| {
        LoadError::new(&paths[0], format!("there is no such file, nor {name}.wat; expected a policy module"))
    })
}

/// The name of the file at this path.
pub(super) fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

/// Reads the file, at most so many bytes of it.
///
/// # Errors
///
/// It cannot be read, is no file, or has more bytes.
pub(super) fn read(path: &Path, file_bytes_max: u64) -> Result<Vec<u8>, LoadError> {
    source::read(path, file_bytes_max).map_err(|error| LoadError::of_source(path, &error))
}

impl LoadError {
    pub(super) fn new(path: &Path, problem: String) -> Self {
        Self { place: path.display().to_string(), problem, is_incomplete: false }
    }

    pub(super) fn of_source(path: &Path, error: &SourceError) -> Self {
        Self { is_incomplete: error.is_incomplete(), ..Self::new(path, error.to_string()) }
    }
}

impl From<LoadError> for ModuleError {
    fn from(error: LoadError) -> Self {
        Self::File { place: error.place, problem: error.problem }
    }
}

/// The files that matter for a module of this name, with its signatures where they are asked for.
pub(super) fn watched(folder: &Path, name: &str, keys: &PolicyKeys) -> Vec<PathBuf> {
    let modules = paths(folder, name);
    let signatures = modules.iter().map(|path| signature_path(path)).filter(|_| !keys.is_empty());
    signatures.chain(modules.iter().cloned()).collect()
}

/// The paths that a module of this name may have.
pub(super) fn paths(folder: &Path, name: &str) -> [PathBuf; 2] {
    ENDINGS.map(|ending| folder.join(format!("{name}.{ending}")))
}

/// Names and files of the modules in a folder; where a name has two files, the preferred one.
pub(super) fn in_folder(folder: &Path) -> BTreeMap<String, String> {
    // A folder that is not there has no modules.
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found = BTreeMap::new();
    for file in entries.filter_map(|entry| entry.file_name().into_string().ok()) {
        let Some((name, ending)) = file.rsplit_once('.') else { continue };
        if is_module_name(name)
            && ENDINGS.contains(&ending)
            && (ending == PREFERRED_ENDING || !found.contains_key(name))
        {
            found.insert(name.to_owned(), file.clone());
        }
    }
    found
}
