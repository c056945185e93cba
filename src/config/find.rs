//! Where `proxy.json` is.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

/// The file's name within a folder.
pub const FILE_NAME: &str = "proxy.json";

/// The environment variable that names the file or its folder.
pub const PATH_VARIABLE: &str = "PROXY_CONFIG_PATH";

/// None of the places holds a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct NotFound {
    /// Where it was looked for, in order.
    pub places: Vec<PathBuf>,
}

impl fmt::Display for NotFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no {FILE_NAME}; looked at ")?;
        for (index, place) in self.places.iter().enumerate() {
            write!(f, "{}{}", if index > 0 { ", " } else { "" }, place.display())?;
        }
        write!(f, "; name the file with --config or {PATH_VARIABLE}")
    }
}

/// Finds the file: `flag` (a file, or a folder that holds it), else `$PROXY_CONFIG_PATH` (same), else
/// `./proxy.json`, else `./config/proxy.json`.
///
/// What is named explicitly is not searched for elsewhere: serving from another file than the one that
/// was asked for would be worse than not starting.
///
/// # Errors
///
/// [`NotFound`] with every place that was looked at.
pub fn find(flag: Option<&Path>) -> Result<PathBuf, NotFound> {
    find_from(flag, std::env::var_os(PATH_VARIABLE), Path::new(""))
}

/// Where relative paths of the file at `path` start, absolute.
pub(super) fn folder_of(path: &Path) -> PathBuf {
    let folder = path.parent().unwrap_or(Path::new(""));
    // Only an empty path and a lost working folder have no absolute form; then the relative one serves.
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned())
}

/// [`find`] with the environment variable and the working folder given.
pub(super) fn find_from(flag: Option<&Path>, variable: Option<OsString>, here: &Path) -> Result<PathBuf, NotFound> {
    let variable = variable.filter(|value| !value.is_empty()).map(PathBuf::from);
    let places = match flag.map(Path::to_owned).or(variable) {
        Some(named) => {
            let named = here.join(named);
            vec![if named.is_dir() { named.join(FILE_NAME) } else { named }]
        }
        None => vec![here.join(FILE_NAME), here.join("config").join(FILE_NAME)],
    };
    // Not only regular files: a shell's `<(…)` is a pipe.
    match places.iter().find(|place| place.exists() && !place.is_dir()) {
        Some(found) => Ok(found.clone()),
        None => Err(NotFound { places }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_flag_wins_over_the_variable_and_both_over_the_usual_places() {
        let here = tempfile::tempdir().unwrap();
        let here = here.path();
        for folder in ["config", "a", "b"] {
            fs::create_dir(here.join(folder)).unwrap();
            fs::write(here.join(folder).join(FILE_NAME), "{}").unwrap();
        }
        fs::write(here.join("own.json"), "{}").unwrap();
        let find = |flag: Option<&str>, variable: Option<&str>| {
            find_from(flag.map(Path::new), variable.map(OsString::from), here)
                .map(|found| found.strip_prefix(here).unwrap().display().to_string())
        };
        assert_eq!(find(Some("a"), Some("b")).unwrap(), "a/proxy.json");
        assert_eq!(find(Some("own.json"), None).unwrap(), "own.json");
        assert_eq!(find(None, Some("b")).unwrap(), "b/proxy.json");
        assert_eq!(find(None, Some("own.json")).unwrap(), "own.json");
        assert_eq!(find(None, Some("")).unwrap(), "config/proxy.json");
        fs::write(here.join(FILE_NAME), "{}").unwrap();
        assert_eq!(find(None, None).unwrap(), "proxy.json");
        assert_eq!(find(Some("gone"), Some("b")).unwrap_err().places, [here.join("gone")]);
    }

    #[test]
    fn every_place_that_was_looked_at_is_told() {
        let error = find_from(None, None, Path::new("nowhere")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no proxy.json; looked at nowhere/proxy.json, nowhere/config/proxy.json; \
             name the file with --config or PROXY_CONFIG_PATH"
        );
        let folder = tempfile::tempdir().unwrap();
        let error = find_from(Some(folder.path()), None, Path::new("")).unwrap_err();
        assert_eq!(error.places, [folder.path().join(FILE_NAME)]);
    }
}
