//! From a file to a module that instances can be made of, and the trial every module has to pass.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::engine::{Compiled, Runtime, Time};
use super::guest::{Voice, shortened};
use super::instance::{Description, Fault, Instance, patiently};
use super::modules::{ENDINGS, ModuleError};
use super::slot::Slot;
use super::source::{self, Source, SourceError};
use crate::policy::spec::ModuleSpec;
use crate::policy::{PickRequest, ServerSet};
use crate::server::{Live, Origin, Server, ServerSettings};

/// Of a file's bytes at most this part may be code, which is what takes time: compiling the mebibyte of code that
/// the default of 8 MiB allows takes at most about a second.
const CODE_SHARE: u64 = 8;

/// Compiles files, with an engine that is started for the first.
#[derive(Default)]
pub(super) struct Loader {
    runtime: Option<Runtime>,
    /// What its modules' time is measured by.
    time: Time,
}

/// A file that was compiled and fits the interface. Nothing of it has run.
pub(super) struct Candidate {
    pub(super) path: PathBuf,
    pub(super) source: Source,
    pub(super) compiled: Arc<Compiled>,
    pub(super) compile_time: Duration,
}

/// Why a file cannot be loaded.
#[derive(Debug)]
pub(super) struct LoadError {
    /// With the file's name in front.
    pub(super) text: String,
    /// The file ends in the middle: somebody may still be writing it.
    pub(super) is_incomplete: bool,
}

/// The file of the module called `name`; the preferred one where it has two.
///
/// # Errors
///
/// There is none.
pub(super) fn find(folder: &Path, name: &str) -> Result<PathBuf, LoadError> {
    let paths = ENDINGS.map(|ending| folder.join(format!("{name}.{ending}")));
    let found = paths.iter().find(|path| path.exists()).cloned();
    found.ok_or_else(|| {
        let text = format!("{}: there is no such file, nor {name}.wat; expected a policy module", paths[0].display());
        LoadError { text, is_incomplete: false }
    })
}

/// Reads the file, at most so many bytes of it.
///
/// # Errors
///
/// It cannot be read, is no file, or has more bytes.
pub(super) fn read(path: &Path, file_bytes_max: u64) -> Result<Vec<u8>, LoadError> {
    source::read(path, file_bytes_max).map_err(|error| LoadError::new(path, &error))
}

impl Loader {
    /// One whose modules may take their time while the machine is busy with others.
    pub(super) fn patient() -> Self {
        Self { runtime: None, time: Time::Processor }
    }

    /// Compiles what was read of a file and checks it against the interface.
    ///
    /// # Errors
    ///
    /// It is no module, or none that fits.
    pub(super) fn load(&mut self, path: &Path, bytes: &[u8], file_bytes_max: u64) -> Result<Candidate, LoadError> {
        let failed = |text: String| LoadError { text: format!("{}: {text}", path.display()), is_incomplete: false };
        let file_name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let runtime = match &self.runtime {
            Some(runtime) => runtime,
            None => {
                let runtime =
                    Runtime::start(self.time).map_err(|error| failed(format!("cannot start the engine: {error:#}")))?;
                self.runtime.insert(runtime)
            }
        };
        let began = Instant::now();
        // The compiler is large; a fault of its on one module must not end the loading of others.
        let loaded = catch_unwind(AssertUnwindSafe(|| {
            let source = source::source(&file_name, bytes, file_bytes_max / CODE_SHARE)
                .map_err(|error| LoadError::new(path, &error))?;
            let compiled = runtime.compile(&source);
            let compiled = compiled.map_err(|error| failed(shortened(&format!("{error:#}"))))?;
            Ok((source, compiled))
        }));
        let (source, compiled) =
            loaded.unwrap_or_else(|_| Err(failed("the compiler fails on this module".to_owned())))?;
        Ok(Candidate { path: path.to_owned(), source, compiled: Arc::new(compiled), compile_time: began.elapsed() })
    }
}

impl LoadError {
    fn new(path: &Path, error: &SourceError) -> Self {
        Self { text: format!("{}: {error}", path.display()), is_incomplete: error.is_incomplete() }
    }
}

impl Candidate {
    /// Makes an instance for a group, after a throw-away one has shown that the module works as configured:
    /// it describes itself, takes two servers, and names one of them or none.
    ///
    /// # Errors
    ///
    /// The content is not the one that is wanted, the configuration is refused, or a call fails.
    pub(super) fn instance(
        &self,
        spec: &ModuleSpec,
        group: u16,
        voice: &Arc<Voice>,
    ) -> Result<(Instance, Description), ModuleError> {
        let refused = |text: String| ModuleError(format!("{}: {text}", self.path.display()));
        if let Some(wanted) = spec.sha256.filter(|_| !self.is_wanted(spec)) {
            let (found, wanted) = (source::hex(&self.source.sha256), source::hex(&wanted));
            return Err(refused(format!("its sha256 is {found}; expected {wanted}, as the configuration says")));
        }
        let description = patiently(|| self.trial(spec, group)).map_err(|fault| refused(fault.text))?;
        let instance = patiently(|| Instance::new(&self.compiled, spec, group, Arc::clone(voice)));
        Ok((instance.map_err(|fault| refused(fault.text))?, description))
    }

    /// Puts an instance to work in a slot: this one, or one made now.
    ///
    /// # Errors
    ///
    /// It cannot be made, or cannot be told the servers; what is in the slot stays.
    pub(super) fn put(&self, mut instance: Option<Instance>, slot: &Slot) -> Result<(), Fault> {
        let make = || Instance::new(&self.compiled, &slot.spec, slot.group, Arc::clone(&slot.voice));
        patiently(|| slot.put(instance.take().map_or_else(make, Ok)?, &self.compiled))
    }

    /// False when the configuration wants another content.
    pub(super) fn is_wanted(&self, spec: &ModuleSpec) -> bool {
        spec.sha256.is_none_or(|wanted| wanted == self.source.sha256)
    }

    fn trial(&self, spec: &ModuleSpec, group: u16) -> Result<Description, Fault> {
        let mut instance = Instance::new(&self.compiled, spec, group, Arc::new(Voice::mute()))?;
        let description = instance.describe()?;
        let set = trial_servers();
        instance.set_servers(&set, &[])?;
        let client = "192.0.2.1:40000".parse().expect("this is an address");
        let picked = instance.pick(&PickRequest {
            client,
            group,
            attempt: 0,
            servers: &set,
            tried: &[],
            avoid_suspects: true,
            now_ms: crate::base::clock::coarse_ms(),
            random: fastrand::u64(..),
        })?;
        match picked.filter(|id| instance.index_of(*id).is_none()) {
            None => Ok(description),
            Some(id) => Err(Fault::unfit(format!(
                "pick answered {id} when there were the servers 1 and 2; expected one of them"
            ))),
        }
    }
}

/// Two servers that nobody connects to.
fn trial_servers() -> Arc<ServerSet> {
    let server = |id: u32| {
        let addr = std::net::SocketAddr::from(([192, 0, 2, 100 + id as u8], 9_000));
        let settings = ServerSettings::new(addr.into(), Origin::File);
        Arc::new(Server { id, settings, live: Arc::new(Live::new(vec![addr])) })
    };
    Arc::new(ServerSet { generation: 1, backup: false, servers: vec![server(1), server(2)] })
}
