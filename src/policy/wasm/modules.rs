//! The handle to all modules: what others ask of the thread that looks after them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, PoisonError};

use tokio::sync::oneshot;

use super::error::ModuleError;
use super::files;
use super::policy::fallback;
use super::registry::Registry;
use super::status::{Common, Job, Made};
use super::view::ModuleView;
use crate::base::vital;
use crate::policy::balance::IBalancePolicy;
use crate::policy::spec::ModuleSpec;

/// Stack of the thread that compiles: deeply nested code makes the compiler recurse deeply.
const COMPILER_STACK_BYTES: usize = 64 << 20;

/// The modules that groups use. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Modules {
    common: Arc<Common>,
}

impl Modules {
    /// Looks for modules in `folder`; files above `file_bytes_max` are refused.
    pub fn new(folder: PathBuf, file_bytes_max: u64) -> Self {
        Self { common: Arc::new(Common::new(folder, file_bytes_max)) }
    }

    /// Loads the module, if no group uses it yet, and makes a policy of it for the group of this port.
    ///
    /// # Errors
    ///
    /// There is no such file, it is no module that fits, or it refuses its configuration.
    pub async fn make(&self, spec: &Arc<ModuleSpec>, group: u16) -> Made {
        let made = self.ask(spec, group, false).await;
        if made.is_err() {
            self.common.miss(&spec.name);
        }
        made
    }

    /// The same, but when the module cannot be used its fallback serves until the file has become another.
    pub async fn make_anyway(&self, spec: &Arc<ModuleSpec>, group: u16) -> Arc<dyn IBalancePolicy> {
        let made = self.ask(spec, group, true).await;
        // Without the thread there will never be a module; what serves then is the same.
        made.unwrap_or_else(|error| {
            tracing::error!(group, %error, "policy cannot be made: its fallback serves");
            fallback(spec)
        })
    }

    /// Looks at the files of the modules in use: what has become another is loaded and takes over.
    pub async fn look(&self) {
        let jobs = self.common.jobs.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // Without the thread no module is in use.
        let Some(jobs) = jobs else { return };
        let (reply, done) = oneshot::channel();
        if jobs.send(Job::Look { reply }).is_ok() {
            let _ = done.await;
        }
    }

    /// The files that matter: those of the modules in use, there or not, and of the one that could not be used
    /// when it was wanted last.
    pub fn files(&self) -> Vec<PathBuf> {
        let missed = self.common.missed().clone();
        let names: BTreeSet<String> = self.common.in_use().keys().cloned().chain(missed).collect();
        names.iter().flat_map(|name| files::paths(&self.common.folder, name)).collect()
    }

    /// The modules in use, and those in the folder that no group names. Reads the folder, so it may block.
    pub fn views(&self) -> Vec<ModuleView> {
        let in_use = self.common.in_use().clone();
        let found = files::in_folder(&self.common.folder).into_iter();
        let mut views: BTreeMap<String, ModuleView> =
            found.map(|(name, file)| (name.clone(), ModuleView::available(&name, file))).collect();
        views.extend(in_use.iter().map(|(name, known)| (name.clone(), known.view())));
        views.into_values().collect()
    }

    async fn ask(&self, spec: &Arc<ModuleSpec>, group: u16, anyway: bool) -> Made {
        let (reply, made) = oneshot::channel();
        let gone = || ModuleError::Proxy("the thread that loads policies has ended; the log says why".to_owned());
        let jobs = self.jobs()?;
        let job = Job::Make { spec: Arc::clone(spec), group, anyway, jobs: jobs.clone(), reply };
        jobs.send(job).map_err(|_| gone())?;
        made.await.map_err(|_| gone())?
    }

    fn jobs(&self) -> Result<Sender<Job>, ModuleError> {
        let mut jobs = self.common.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(jobs) = &*jobs {
            return Ok(jobs.clone());
        }
        let (sender, queue) = mpsc::channel();
        let registry = Registry::new(&self.common);
        vital::spawn("policies", Some(COMPILER_STACK_BYTES), move || registry.run(&queue))
            .map_err(|error| ModuleError::Proxy(format!("cannot start the thread that loads policies: {error}")))?;
        Ok(jobs.insert(sender).clone())
    }
}
