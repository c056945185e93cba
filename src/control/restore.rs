//! What changes over HTTP had said before a restart.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::blocking::blocking;
use super::state::{StateFile, not_written, tell};
use super::{ChangeError, plan};
use crate::config::{self, Config, Overlay, Overruled, Stored, StoredError};
use crate::events::{self, ConfigEvent, Event};

/// Reads the file that `config`, the meaning of `text`, names, if it names one. Gives what is in force. A file of ours that is torn
/// is set aside.
///
/// # Errors
///
/// [`ChangeError::StateFile`] for anything else that cannot be used: what it says must not be forgotten.
pub(super) async fn restore(
    path: &Path,
    text: &str,
    config: Config,
) -> Result<(Config, Option<StateFile>), ChangeError> {
    let Some(state) = config.state_file.clone() else { return Ok((config, None)) };
    let (path, text) = (path.to_owned(), text.to_owned());
    blocking(move || {
        let refused = |why: String| ChangeError::StateFile { path: state.display().to_string(), why };
        let found = Overlay::stored(&state).map_err(|error| refused(error.to_string()))?;
        let overlay = match found {
            Stored::Nothing => Overlay::default(),
            Stored::Whole(overlay) => overlay,
            Stored::Torn(error) => {
                set_aside(&state, &error).map_err(refused)?;
                Overlay::default()
            }
        };
        let (config, overlay, overruled) = lay(&path, &text, &config, &overlay).map_err(refused)?;
        tell(&overruled);
        // Also where nothing is new: it shows whether changes can be kept.
        if let Err(error) = config::file::save(&state, &overlay.text()) {
            not_written(&state, &error);
        }
        Ok((config, Some(StateFile::new(state, overlay))))
    })
    .await
}

/// What a start would say of the state file that `config` names: a doubt, or why it would be refused.
///
/// # Errors
///
/// Why the start would be refused.
pub fn check_state_file(path: &Path, text: &str, config: &Config) -> Result<Option<String>, String> {
    let Some(state) = &config.state_file else { return Ok(None) };
    let wrong = |why: &str| format!("{}: {why}", state.display());
    match Overlay::stored(state) {
        Ok(Stored::Nothing) => Ok(None),
        Ok(Stored::Whole(overlay)) => lay(path, text, config, &overlay).map(|_| None).map_err(|why| wrong(&why)),
        Ok(Stored::Torn(error)) => Ok(Some(wrong(&format!("torn, the next start sets it aside: {error}")))),
        // The proxy may run as somebody else.
        Err(StoredError::System(error)) if error.kind() == ErrorKind::PermissionDenied => {
            Ok(Some(wrong(&format!("not checked: {error}"))))
        }
        Err(error) => Err(wrong(&error.to_string())),
    }
}

/// Lays what the state file says over the file.
fn lay(path: &Path, text: &str, said: &Config, overlay: &Overlay) -> Result<(Config, Overlay, Vec<Overruled>), String> {
    plan::at_start(path, text, said, overlay).map_err(|problems| {
        let first = super::error::first(&problems);
        format!("what it says does not fit the file any more: {first}; expected that it fits, or no file")
    })
}

/// Renames a torn file, not a link to it, so that the new one is written to the same place.
fn set_aside(state: &Path, error: &str) -> Result<(), String> {
    let rename = || -> io::Result<PathBuf> {
        let real = fs::canonicalize(state)?;
        let mut kept = real.clone().into_os_string();
        kept.push(".damaged");
        fs::rename(&real, &kept)?;
        Ok(kept.into())
    };
    let kept = rename().map_err(|refused| {
        format!(
            "torn ({error}), and it cannot be renamed to end with .damaged: {refused}; expected a whole file, or none"
        )
    })?;
    let (path, kept) = (state.display().to_string().into(), kept.to_string_lossy().into());
    events::publish(Event::Config(ConfigEvent::StateSetAside { path, kept, error: error.into() }));
    Ok(())
}
