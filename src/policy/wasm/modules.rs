//! The handle to all modules: what others ask of the thread that looks after them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

use super::instance::Instance;
use super::registry::Registry;
use super::slot::{Shared, Slot};
use super::source;
use super::view::{ModuleState, ModuleView};
use crate::policy::IBalancePolicy;
use crate::policy::spec::{MODULE_PREFIX, ModuleSpec, is_module_name};

/// The endings of a module's file, the preferred one first.
pub(super) const ENDINGS: [&str; 2] = ["wasm", "wat"];

/// Stack of the thread that compiles: deeply nested code makes the compiler recurse deeply.
const COMPILER_STACK_BYTES: usize = 64 << 20;

/// Why a module cannot be used, for people: place, what is wrong, what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ModuleError(pub String);

/// The modules that groups use. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Modules {
    common: Arc<Common>,
}

/// What everybody who holds a [`Modules`] sees, and the thread that looks after them.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) folder: PathBuf,
    pub(super) file_bytes_max: u64,
    /// Guards what is known of each module in use, by its name in the folder.
    known: Mutex<BTreeMap<String, Known>>,
    /// Guards the name of the module that somebody wanted to use last and could not.
    missed: Mutex<Option<String>>,
    /// Told when the set of files that matter becomes another.
    pub(super) set_changed: Arc<Notify>,
    /// Guards the way to the thread, which is started with the first module.
    thread: Mutex<Option<Sender<Job>>>,
}

/// A module in use, for those who look.
#[derive(Clone)]
pub(super) struct Known {
    pub(super) shared: Arc<Shared>,
    /// Once a version was loaded.
    pub(super) version: Option<Version>,
    /// Why the file as it is cannot be used.
    pub(super) error: Option<String>,
    pub(super) slots: Vec<Weak<Slot>>,
}

/// A version of a module as it is loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Version {
    /// The file's name.
    pub(super) file: String,
    /// What the module says of itself.
    pub(super) version: String,
    pub(super) sha256: [u8; 32],
}

/// A policy, or why there is none.
type Made = Result<Arc<dyn IBalancePolicy>, ModuleError>;

/// What the thread is asked to do.
pub(super) enum Job {
    /// Make a policy; `anyway`: even if the module cannot be used now.
    Make { spec: Arc<ModuleSpec>, group: u16, anyway: bool, jobs: Sender<Self>, reply: oneshot::Sender<Made> },
    /// Make another instance after a while, and drop the one that failed.
    Remake { slot: Weak<Slot>, dead: Option<Box<Instance>>, pause: Duration },
    /// A file may have changed.
    Look { reply: oneshot::Sender<()> },
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = match self {
            Self::Make { .. } => "Make",
            Self::Remake { .. } => "Remake",
            Self::Look { .. } => "Look",
        };
        f.write_str(name)
    }
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Known").field("version", &self.version).field("error", &self.error).finish_non_exhaustive()
    }
}

impl Modules {
    /// Looks for modules in `folder`; files above `file_bytes_max` are refused.
    pub fn new(folder: PathBuf, file_bytes_max: u64) -> Self {
        let common = Common {
            folder,
            file_bytes_max,
            known: Mutex::default(),
            missed: Mutex::default(),
            set_changed: Arc::default(),
            thread: Mutex::default(),
        };
        Self { common: Arc::new(common) }
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
            super::registry::fallback(spec)
        })
    }

    /// Looks at the files of the modules in use: what has become another is loaded and takes over.
    pub async fn look(&self) {
        let jobs = self.common.thread.lock().unwrap_or_else(PoisonError::into_inner).clone();
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
        let names: BTreeSet<String> = self.common.known().keys().cloned().chain(missed).collect();
        let of = |name: &String| ENDINGS.map(|ending| self.common.folder.join(format!("{name}.{ending}")));
        names.iter().flat_map(of).collect()
    }

    /// Told whenever [`Modules::files`] has become another list.
    pub fn files_changed(&self) -> Arc<Notify> {
        Arc::clone(&self.common.set_changed)
    }

    /// The modules in use, and those in the folder that no group names. Reads the folder, so it may block.
    pub fn views(&self) -> Vec<ModuleView> {
        let known = self.common.known().clone();
        let mut views: BTreeMap<String, ModuleView> =
            self.in_folder().into_iter().map(|(name, file)| (name.clone(), available(&name, file))).collect();
        views.extend(known.iter().map(|(name, known)| (name.clone(), known.view())));
        views.into_values().collect()
    }

    /// Names and files; where a name has two files, the preferred one.
    fn in_folder(&self) -> BTreeMap<String, String> {
        // A folder that is not there has no modules.
        let entries = fs::read_dir(&self.common.folder).into_iter().flatten().flatten();
        let mut found = BTreeMap::new();
        for file in entries.filter_map(|entry| entry.file_name().into_string().ok()) {
            let Some((name, ending)) = file.rsplit_once('.') else { continue };
            if is_module_name(name) && ENDINGS.contains(&ending) && (ending == ENDINGS[0] || !found.contains_key(name))
            {
                found.insert(name.to_owned(), file.clone());
            }
        }
        found
    }

    async fn ask(&self, spec: &Arc<ModuleSpec>, group: u16, anyway: bool) -> Made {
        let (reply, made) = oneshot::channel();
        let gone = || ModuleError("the thread that loads policies has ended; the log says why".to_owned());
        let jobs = self.jobs()?;
        let job = Job::Make { spec: Arc::clone(spec), group, anyway, jobs: jobs.clone(), reply };
        jobs.send(job).map_err(|_| gone())?;
        made.await.map_err(|_| gone())?
    }

    fn jobs(&self) -> Result<Sender<Job>, ModuleError> {
        let mut thread = self.common.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(jobs) = &*thread {
            return Ok(jobs.clone());
        }
        let (sender, jobs) = mpsc::channel();
        let registry = Registry::new(&self.common);
        thread::Builder::new()
            .name("policies".to_owned())
            .stack_size(COMPILER_STACK_BYTES)
            .spawn(move || registry.run(&jobs))
            .map_err(|error| ModuleError(format!("cannot start the thread that loads policies: {error}")))?;
        Ok(thread.insert(sender).clone())
    }
}

impl Common {
    /// Shows what is in use.
    pub(super) fn show(&self, modules: BTreeMap<String, Known>) {
        let mut known = self.known();
        let is_other_set = !known.keys().eq(modules.keys());
        *known = modules;
        drop(known);
        if is_other_set {
            self.set_changed.notify_one();
        }
    }

    /// Somebody wanted this module and could not have it.
    fn miss(&self, name: &str) {
        let is_news = self.missed().replace(name.to_owned()).as_deref() != Some(name);
        if is_news {
            self.set_changed.notify_one();
        }
    }

    fn missed(&self) -> MutexGuard<'_, Option<String>> {
        // The name is replaced whole.
        self.missed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, Known>> {
        // The map is replaced whole.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    pub(super) fn new(name: &str) -> Self {
        let shared = Shared::new(format!("{MODULE_PREFIX}{name}").into());
        Self { shared: Arc::new(shared), version: None, error: None, slots: Vec::new() }
    }

    /// The name in the folder.
    pub(super) fn name(&self) -> &str {
        self.shared.policy.strip_prefix(MODULE_PREFIX).expect("a module's policy is named so")
    }

    fn view(&self) -> ModuleView {
        let slots: Vec<Arc<Slot>> = self.slots.iter().filter_map(Weak::upgrade).collect();
        slots.iter().for_each(|slot| slot.count());
        let state = match &self.version {
            None => ModuleState::Refused,
            Some(_) if slots.iter().any(|slot| slot.is_quarantined()) => ModuleState::Quarantined,
            Some(_) => ModuleState::Loaded,
        };
        let last_fault = (state == ModuleState::Quarantined).then(|| self.shared.last_fault()).flatten();
        ModuleView {
            name: Arc::clone(&self.shared.policy),
            file: self
                .version
                .as_ref()
                .map_or_else(|| format!("{}.{}", self.name(), ENDINGS[0]), |version| version.file.clone()),
            version: self.version.as_ref().map(|version| version.version.clone()),
            sha256: self.version.as_ref().map(|version| source::hex(&version.sha256)),
            state,
            error: self.error.clone().or(last_fault),
            counters: Some(Arc::clone(&self.shared.counters)),
        }
    }
}

/// A file that no group names.
fn available(name: &str, file: String) -> ModuleView {
    ModuleView {
        name: format!("{MODULE_PREFIX}{name}").into(),
        file,
        version: None,
        sha256: None,
        state: ModuleState::Available,
        error: None,
        counters: None,
    }
}
