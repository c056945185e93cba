//! What the thread that looks after modules and those who ask it share.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::oneshot;

use super::error::ModuleError;
use super::files::PREFERRED_ENDING;
use super::record::ModuleRecord;
use super::slot::{Request, Slot};
use super::source::{PolicyKey, PolicyKeys};
use super::view::{ModuleState, ModuleView};
use crate::base::label::GroupLabel;
use crate::base::text::hex;
use crate::events::{self, Event, PolicyEvent};
use crate::policy::balance::IBalancePolicy;
use crate::policy::oversee::Overseer;
use crate::policy::spec::{MODULE_PREFIX, ModuleSpec};

/// State shared by the thread that looks after modules and the handles to it.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) folder: PathBuf,
    pub(super) file_bytes_max: u64,
    /// Guards the keys that modules may be signed with.
    keys: Mutex<PolicyKeys>,
    /// Guards the status of each module in use, by its name in the folder.
    in_use: Mutex<BTreeMap<String, ModuleStatus>>,
    /// Guards the name of the module that was asked for last and could not be used.
    missed: Mutex<Option<String>>,
    /// Guards the queue of the thread, which is started with the first module.
    pub(super) jobs: Mutex<Option<SyncSender<Job>>>,
}

/// A module in use.
#[derive(Clone)]
pub(super) struct ModuleStatus {
    pub(super) shared: Arc<ModuleRecord>,
    /// The name of its file in the folder, or what that would be called.
    pub(super) file: String,
    /// The version that is loaded; none until one could be.
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
    /// The key that signed it; `None` when signatures were not asked for.
    pub(super) signer: Option<PolicyKey>,
}

/// A policy, or why there is none.
pub(super) type Made = Result<Arc<dyn IBalancePolicy>, ModuleError>;

/// What the thread is asked to do.
pub(super) enum Job {
    /// Make a policy; `anyway`: even if the module cannot be used now.
    Make {
        spec: Arc<ModuleSpec>,
        group: GroupLabel,
        anyway: bool,
        /// What the file may be signed with.
        keys: PolicyKeys,
        /// Who follows its instances.
        overseer: Option<Arc<dyn Overseer>>,
        jobs: SyncSender<Self>,
        reply: oneshot::Sender<Made>,
    },
    /// What a slot asks for.
    Slot(Request),
    /// Modules may be signed with other keys now.
    UseKeys { reply: oneshot::Sender<()> },
    /// A file may have changed.
    Look { reply: oneshot::Sender<()> },
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Make { .. } => "Make",
            Self::Slot(_) => "Slot",
            Self::UseKeys { .. } => "UseKeys",
            Self::Look { .. } => "Look",
        };
        f.write_str(name)
    }
}

impl fmt::Debug for ModuleStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModuleStatus")
            .field("version", &self.version)
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

impl Common {
    pub(super) fn new(folder: PathBuf, file_bytes_max: u64, keys: PolicyKeys) -> Self {
        Self {
            folder,
            file_bytes_max,
            keys: Mutex::new(keys),
            in_use: Mutex::default(),
            missed: Mutex::default(),
            jobs: Mutex::default(),
        }
    }

    /// What modules may be signed with.
    pub(super) fn keys(&self) -> PolicyKeys {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Modules may be signed with these keys from now on. True when they were others before.
    pub(super) fn set_keys(&self, keys: PolicyKeys) -> bool {
        let mut in_force = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let are_others = *in_force != keys;
        *in_force = keys;
        are_others
    }

    /// Shows what is in use.
    pub(super) fn show(&self, modules: BTreeMap<String, ModuleStatus>) {
        let mut in_use = self.in_use();
        let is_other_set = !in_use.keys().eq(modules.keys());
        *in_use = modules;
        drop(in_use);
        if is_other_set {
            events::publish(Event::Policy(PolicyEvent::FilesChanged));
        }
    }

    /// This module was asked for and cannot be used.
    pub(super) fn miss(&self, name: &str) {
        let is_news = self.missed().replace(name.to_owned()).as_deref() != Some(name);
        if is_news {
            events::publish(Event::Policy(PolicyEvent::FilesChanged));
        }
    }

    pub(super) fn missed(&self) -> MutexGuard<'_, Option<String>> {
        // The name is replaced whole.
        self.missed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn in_use(&self) -> MutexGuard<'_, BTreeMap<String, ModuleStatus>> {
        // The map is replaced whole.
        self.in_use.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ModuleStatus {
    pub(super) fn new(name: &str) -> Self {
        let shared = ModuleRecord::new(format!("{MODULE_PREFIX}{name}").into());
        let file = format!("{name}.{PREFERRED_ENDING}");
        Self { shared: Arc::new(shared), file, version: None, error: None, slots: Vec::new() }
    }

    /// The name in the folder.
    pub(super) fn name(&self) -> &str {
        self.shared.policy.strip_prefix(MODULE_PREFIX).expect("a module's policy is named so")
    }

    pub(super) fn view(&self) -> ModuleView {
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
            file: self.version.as_ref().map_or_else(|| self.file.clone(), |version| version.file.clone()),
            version: self.version.as_ref().map(|version| version.version.clone()),
            sha256: self.version.as_ref().map(|version| hex(&version.sha256)),
            signed_by: self.version.as_ref().and_then(|version| Some(version.signer.as_ref()?.number().to_string())),
            state,
            error: self.error.clone().or(last_fault),
            counters: Some(Arc::clone(&self.shared.counters)),
        }
    }
}
