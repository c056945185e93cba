//! The handle to all modules: what others ask of the thread that looks after them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::mpsc::{self, SyncSender, TrySendError};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::error::ModuleError;
use super::files;
use super::policy::fallback;
use super::registry::Registry;
use super::source::PolicyKeys;
use super::status::{Common, Job, Made};
use super::view::ModuleView;
use crate::base::label::GroupLabel;
use crate::base::vital;
use crate::events::{self, Event, PolicyEvent};
use crate::policy::balance::IBalancePolicy;
use crate::policy::oversee::Overseer;
use crate::policy::spec::ModuleSpec;

/// Stack of the thread that compiles: deeply nested code makes the compiler recurse deeply.
const COMPILER_STACK_BYTES: usize = 64 << 20;

/// Jobs that may wait for the thread. Each slot has at most one there and one more when it goes; one policy is made at a
/// time, and one look is taken.
const JOBS_MAX: usize = 1_024;

/// Before a look for which there was no room is asked for again.
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// The modules that groups use. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Modules {
    common: Arc<Common>,
}

impl Modules {
    /// Looks for modules in `folder`; files above `file_bytes_max` are refused, and those that none of `keys` has signed.
    pub fn new(folder: PathBuf, file_bytes_max: u64, keys: PolicyKeys) -> Self {
        Self { common: Arc::new(Common::new(folder, file_bytes_max, keys)) }
    }

    /// Loads the module, if no group uses it yet, and makes a policy of it for this group. It may be signed with `keys`,
    /// which are those that will be in force.
    ///
    /// # Errors
    ///
    /// There is no such file, it is not signed as it should be, it is no module that fits, or it refuses its configuration.
    pub async fn make(&self, spec: &Arc<ModuleSpec>, group: &GroupLabel, keys: &PolicyKeys) -> Made {
        self.make_overseen(spec, group, keys, None).await
    }

    /// The same with somebody who follows the module's instances.
    ///
    /// # Errors
    ///
    /// As [`Modules::make`].
    pub async fn make_overseen(
        &self,
        spec: &Arc<ModuleSpec>,
        group: &GroupLabel,
        keys: &PolicyKeys,
        overseer: Option<Arc<dyn Overseer>>,
    ) -> Made {
        let made = self.ask(spec, group, false, keys.clone(), overseer).await;
        if made.is_err() {
            self.common.miss(&spec.name);
        }
        made
    }

    /// The same, but when the module cannot be used its fallback serves until the file has become another.
    pub async fn make_anyway(&self, spec: &Arc<ModuleSpec>, group: &GroupLabel) -> Arc<dyn IBalancePolicy> {
        let made = self.ask(spec, group, true, self.common.keys(), None).await;
        // Without the thread there will never be a module; what serves then is the same.
        made.unwrap_or_else(|error| {
            let (group, policy) = (group.clone(), spec.name.policy());
            let event =
                PolicyEvent::NotMade { group, policy, error: error.to_string().into(), fallback: spec.fallback };
            events::publish(Event::Policy(event));
            fallback(spec)
        })
    }

    /// Modules may be signed with these keys from now on. When this returns, no module serves that was signed with
    /// another.
    pub async fn use_keys(&self, keys: PolicyKeys) {
        if self.common.set_keys(keys) {
            self.tell(|reply| Job::UseKeys { reply }).await;
            // Signatures are watched, or no longer.
            events::publish(Event::Policy(PolicyEvent::FilesChanged));
        }
    }

    /// Looks at the files of the modules in use: what has become another is loaded and takes over.
    pub async fn look(&self) {
        self.tell(|reply| Job::Look { reply }).await;
    }

    /// Has the thread do a job that must not be forgotten, and waits until it is done.
    async fn tell(&self, job: impl Fn(oneshot::Sender<()>) -> Job) {
        let jobs = self.common.jobs.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // Without the thread no module is in use.
        let Some(jobs) = jobs else { return };
        loop {
            let (reply, done) = oneshot::channel();
            match jobs.try_send(job(reply)) {
                Ok(()) => _ = done.await,
                // A change that is not looked at now would go unnoticed.
                Err(TrySendError::Full(_)) => {
                    tokio::time::sleep(LOOK_PAUSE).await;
                    continue;
                }
                Err(TrySendError::Disconnected(_)) => {}
            }
            return;
        }
    }

    /// The files that matter: those of the modules in use, there or not, and of the one that could not be used
    /// when it was wanted last.
    pub fn files(&self) -> Vec<PathBuf> {
        let missed = self.common.missed().clone();
        let names: BTreeSet<String> = self.common.in_use().keys().cloned().chain(missed).collect();
        let keys = self.common.keys();
        names.iter().flat_map(|name| files::watched(&self.common.folder, name, &keys)).collect()
    }

    /// The file of a module by its name, and what is in it. Reads it, so it may block.
    ///
    /// # Errors
    ///
    /// There is no such file, or it cannot be read.
    pub fn read(&self, name: &str) -> Result<(String, Vec<u8>), ModuleError> {
        let path = files::find(&self.common.folder, name)?;
        let bytes = files::read(&path, self.common.file_bytes_max)?;
        Ok((files::file_name(&path), bytes))
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

    async fn ask(
        &self,
        spec: &Arc<ModuleSpec>,
        group: &GroupLabel,
        anyway: bool,
        keys: PolicyKeys,
        overseer: Option<Arc<dyn Overseer>>,
    ) -> Made {
        let (reply, made) = oneshot::channel();
        let gone = || ModuleError::Proxy("the thread that loads policies has ended; the log says why".to_owned());
        let jobs = self.jobs()?;
        let (spec, group) = (Arc::clone(spec), group.clone());
        let job = Job::Make { spec, group, anyway, keys, overseer, jobs: jobs.clone(), reply };
        jobs.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => {
                ModuleError::Proxy("the thread that loads policies is busy; try again later".to_owned())
            }
            TrySendError::Disconnected(_) => gone(),
        })?;
        made.await.map_err(|_| gone())?
    }

    fn jobs(&self) -> Result<SyncSender<Job>, ModuleError> {
        let mut jobs = self.common.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(jobs) = &*jobs {
            return Ok(jobs.clone());
        }
        let (sender, queue) = mpsc::sync_channel(JOBS_MAX);
        let registry = Registry::new(&self.common);
        vital::spawn("policies", Some(COMPILER_STACK_BYTES), move || registry.run(&queue))
            .map_err(|error| ModuleError::Proxy(format!("cannot start the thread that loads policies: {error}")))?;
        Ok(jobs.insert(sender).clone())
    }
}
