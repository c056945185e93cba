//! From a file to a module that instances can be made of.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Instant;

use super::compiled::Compiled;
use super::engine::{Runtime, Time};
use super::files::{self, Found, LoadError};
use super::host::shortened;
use super::source::{self, Limits};

/// Compiles files, with an engine that is started for the first.
#[derive(Default)]
pub(super) struct Loader {
    runtime: Option<Runtime>,
    /// What its modules' time is measured by.
    time: Time,
}

impl Loader {
    /// One that measures the time of its modules by the processor's, so that a busy machine does not matter.
    pub(super) fn by_processor_time() -> Self {
        Self { runtime: None, time: Time::Processor }
    }

    /// Compiles what was read of a file and checks it against the interface. What is not signed as it should be is not
    /// looked at.
    ///
    /// # Errors
    ///
    /// Its signature will not do, it is no module, or none that fits.
    pub(super) fn load(&mut self, found: Found, limits: Limits) -> Result<Compiled, LoadError> {
        let Found { path, bytes, content, signer, .. } = found;
        let signer = signer?;
        Ok(Compiled { signer, content, ..self.compile(&path, &bytes, limits)? })
    }

    fn compile(&mut self, path: &Path, bytes: &[u8], limits: Limits) -> Result<Compiled, LoadError> {
        let failed = |problem: String| LoadError::new(path, problem);
        let file_name = files::file_name(path);
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
            let file = source::source(&file_name, bytes, limits).map_err(|error| LoadError::of_source(path, &error))?;
            Compiled::new(runtime, path, file, began).map_err(|error| failed(shortened(&format!("{error:#}"))))
        }));
        loaded.unwrap_or_else(|_| Err(failed("the compiler fails on this module".to_owned())))
    }
}
