//! What changes over HTTP had said before a restart.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::ChangeError;
use super::blocking::blocking;
use super::plan;
use super::state::{StateFile, not_written, tell};
use crate::config::{self, Config, Overlay};
use crate::events::{self, ConfigEvent, Event};

/// Reads the file that `config`, the meaning of `text`, names, if it names one. Gives what is in force. A file that cannot be
/// used is set aside.
pub(super) async fn restore(
    path: &Path,
    text: &str,
    config: Config,
) -> Result<(Config, Option<StateFile>), ChangeError> {
    let Some(state) = config.state_file.clone() else { return Ok((config, None)) };
    let (path, text) = (path.to_owned(), text.to_owned());
    blocking(move || {
        let (config, overlay) = read(&state, &path, &text, config);
        // Also where nothing is new: it shows whether changes can be kept.
        if let Err(error) = config::file::save(&state, &overlay.text()) {
            not_written(&state, &error);
        }
        Ok((config, Some(StateFile::new(state, overlay))))
    })
    .await
}

fn read(state: &Path, path: &Path, text: &str, said: Config) -> (Config, Overlay) {
    let found = match config::file::read(state) {
        Ok(found) => Overlay::parse(&found),
        Err(config::file::ReadError::System(error)) if error.kind() == ErrorKind::NotFound => Ok(Overlay::default()),
        Err(error) => Err(error.to_string()),
    };
    let laid =
        found.and_then(|overlay| plan::at_start(path, text, &said, &overlay).map_err(|problem| problem.to_string()));
    match laid {
        Ok((config, overlay, overruled)) => {
            tell(&overruled);
            (config, overlay)
        }
        Err(error) => {
            set_aside(state, &error);
            (said, Overlay::default())
        }
    }
}

fn set_aside(state: &Path, error: &str) {
    let mut kept = state.as_os_str().to_owned();
    kept.push(".damaged");
    let (path, error) = (state.display().to_string().into(), error.into());
    let event = match fs::rename(state, &kept) {
        Ok(()) => ConfigEvent::StateSetAside { path, kept: kept.to_string_lossy().into(), error },
        Err(refused) => ConfigEvent::StateNotWritten { path, error: format!("{error}; {refused}").into() },
    };
    events::publish(Event::Config(event));
}
