//! A module's file, compiled.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::abi::Linked;
use super::engine::{Runtime, Ticker};
use super::source::{ModuleFile, PolicyKey};
use crate::policy::spec::ModuleSpec;

/// A file that was compiled and fits the interface: instances are made of it. Nothing of it has run.
pub(super) struct Compiled {
    pub(super) path: PathBuf,
    /// What was found in the file.
    pub(super) file: ModuleFile,
    /// Of the file and of its signature.
    pub(super) content: [u8; 32],
    /// The key that signed it; `None` when signatures were not asked for.
    pub(super) signer: Option<PolicyKey>,
    pub(super) linked: Linked,
    /// Stops calls that take too long.
    pub(super) ticker: Arc<Ticker>,
    /// How long it took to look through the file and to compile it.
    pub(super) compile_time: Duration,
}

impl Compiled {
    /// Compiles what was found in a file, which somebody began to read at `began`. Takes as long as
    /// [`super::source`] let it take, by its estimate.
    ///
    /// # Errors
    ///
    /// What is wrong with it, as the engine puts it.
    pub(super) fn new(runtime: &Runtime, path: &Path, file: ModuleFile, began: Instant) -> wasmtime::Result<Self> {
        let linked = Linked::new(&runtime.engine, &file)?;
        let ticker = Arc::clone(&runtime.ticker);
        Ok(Self {
            path: path.to_owned(),
            content: file.sha256,
            file,
            signer: None,
            linked,
            ticker,
            compile_time: began.elapsed(),
        })
    }

    /// False when the configuration wants another content.
    pub(super) fn is_wanted(&self, spec: &ModuleSpec) -> bool {
        spec.sha256.is_none_or(|wanted| wanted == self.file.sha256)
    }
}
