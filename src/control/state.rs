//! The state file: keeps what changes over HTTP say where `proxy.json` is not to be written.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::ChangeError;
use super::blocking::blocking;
use crate::config::{self, Overlay, Overruled};
use crate::events::{self, ConfigEvent, Event};
use crate::group::GroupId;
use crate::server::ServerAddr;

/// What overrides are meant.
#[derive(Clone, Debug, Default)]
pub(super) struct Cleared {
    pub(super) group: Option<GroupId>,
    pub(super) server: Option<ServerAddr>,
}

/// The file, and what it says. Nobody else writes it.
#[derive(Debug)]
pub(super) struct StateFile {
    path: PathBuf,
    overlay: ArcSwap<Overlay>,
}

impl StateFile {
    /// The file at `path`, which says `overlay`.
    pub(super) fn new(path: PathBuf, overlay: Overlay) -> Self {
        Self { path, overlay: ArcSwap::from_pointee(overlay) }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn overlay(&self) -> Arc<Overlay> {
        self.overlay.load_full()
    }

    /// Keeps `overlay` from now on. One that a reload makes is kept here also when the file cannot be written.
    pub(super) async fn keep(&self, overlay: Overlay, is_reload: bool) -> Result<(), ChangeError> {
        if overlay == **self.overlay.load() {
            return Ok(());
        }
        let (path, text) = (self.path.clone(), overlay.text());
        blocking(move || match config::file::save(&path, &text) {
            Err(error) if is_reload => {
                not_written(&path, &error);
                Ok(())
            }
            saved => saved.map_err(|error| ChangeError::persist("write", &path, error)),
        })
        .await?;
        self.overlay.store(Arc::new(overlay));
        Ok(())
    }
}

/// Tells what the file overrules.
pub(super) fn tell(overruled: &[Overruled]) {
    for Overruled { it, by } in overruled {
        let (group, key) = (it.group.as_str().into(), it.key.as_str().into());
        let server = it.server.as_ref().map(|addr| addr.as_str().into());
        let (was, now) = (it.now.to_string().into(), by.as_str().into());
        events::publish(Event::Config(ConfigEvent::Overruled { group, server, key, was, now }));
    }
}

/// Tells that the file cannot be written.
pub(super) fn not_written(path: &Path, error: &std::io::Error) {
    let (path, error) = (path.display().to_string().into(), error.to_string().into());
    events::publish(Event::Config(ConfigEvent::StateNotWritten { path, error }));
}
