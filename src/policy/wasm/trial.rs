//! A module tried by hand: loaded as the proxy loads it, with nobody's traffic on it. Its time is measured by the
//! processor's, not by the clock, so that what is found does not depend on what else the machine does.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::compiled::Compiled;
use super::error::ModuleError;
use super::files::{self, Found};
use super::host::{GuestLog, KeptLines};
use super::loader::Loader;
use super::policy::{WasmPolicy, fallback};
use super::record::ModuleRecord;
use super::slot::Slot;
use super::source::{KeyNumber, Limits, ModuleFile, PolicyKeys};
use crate::base::label::GroupLabel;
use crate::counters::ModuleCounters;
use crate::policy::balance::{IBalancePolicy, Outcome};
use crate::policy::oversee::{Birth, Overseer};
use crate::policy::spec::ModuleSpec;
use crate::server::ServerId;

/// A file that was compiled and fits the interface.
pub struct Trial {
    compiled: Arc<Compiled>,
    said: Arc<KeptLines>,
    /// The engine it was compiled with, and its clock.
    _loader: Loader,
}

/// A module at work for a group of its own. After a fault it is not made anew: the fallback answers from then on.
pub struct TrialPolicy {
    /// What the module calls itself.
    pub name: String,
    /// Its version as it says.
    pub version: String,
    /// The policy; it is prepared for no servers.
    pub policy: Arc<dyn IBalancePolicy>,
    slot: Arc<Slot>,
}

/// A module at work for a group that is replayed.
pub struct ReplayedModule {
    compiled: Arc<Compiled>,
    policy: Arc<WasmPolicy>,
    slots: [Arc<Slot>; 2],
}

impl Trial {
    /// Loads a file as the proxy would.
    ///
    /// # Errors
    ///
    /// It cannot be read, is no module, or is none that fits.
    pub fn load(path: &Path, limits: impl Into<Limits>) -> Result<Self, ModuleError> {
        Self::load_signed(path, limits, &PolicyKeys::default())
    }

    /// The same for a file that one of these keys has to have signed.
    ///
    /// # Errors
    ///
    /// As [`Trial::load`], or its signature will not do.
    pub fn load_signed(path: &Path, limits: impl Into<Limits>, keys: &PolicyKeys) -> Result<Self, ModuleError> {
        let limits = limits.into();
        let mut loader = Loader::by_processor_time();
        let compiled = loader.load(Found::read(path.to_owned(), limits.file_bytes_max, keys)?, limits)?;
        Ok(Self { compiled: Arc::new(compiled), said: Arc::default(), _loader: loader })
    }

    /// Loads what was in a file of this name.
    ///
    /// # Errors
    ///
    /// As [`Trial::load`].
    pub fn of_bytes(file_name: &str, bytes: Vec<u8>, limits: impl Into<Limits>) -> Result<Self, ModuleError> {
        let mut loader = Loader::by_processor_time();
        let compiled = loader.load(Found::unsigned(file_name.into(), bytes), limits.into())?;
        Ok(Self { compiled: Arc::new(compiled), said: Arc::default(), _loader: loader })
    }

    /// Loads the module of this name from a folder as the proxy would.
    ///
    /// # Errors
    ///
    /// As [`Trial::load_signed`], or there is none.
    pub fn find(folder: &Path, name: &str, limits: impl Into<Limits>, keys: &PolicyKeys) -> Result<Self, ModuleError> {
        Self::load_signed(&files::find(folder, name)?, limits, keys)
    }

    /// The key that signed the file; `None` when signatures were not asked for.
    pub fn signed_by(&self) -> Option<KeyNumber> {
        self.compiled.signer.as_ref().map(|key| key.number())
    }

    /// What was found in the file.
    pub fn file(&self) -> &ModuleFile {
        &self.compiled.file
    }

    /// The first lines that its instances wrote to `host.log`, with the level in front.
    pub fn said(&self) -> Vec<String> {
        self.said.lines()
    }

    /// How long it took to look through the file and to compile it.
    pub fn compile_time(&self) -> Duration {
        self.compiled.compile_time
    }

    /// Puts an instance to work for a group, as the proxy would.
    ///
    /// # Errors
    ///
    /// The module refuses its configuration or fails in its first calls.
    pub fn policy(&self, spec: &ModuleSpec, group: u16) -> Result<TrialPolicy, ModuleError> {
        self.seeded_policy(spec, group, None)
    }

    /// The same; with a seed, an instance that repeats: what it draws before its first pick follows from the seed.
    ///
    /// # Errors
    ///
    /// As [`Trial::policy`].
    pub fn seeded_policy(&self, spec: &ModuleSpec, group: u16, seed: Option<u64>) -> Result<TrialPolicy, ModuleError> {
        let slots = self.slots(spec, group, None);
        let log = Arc::new(GuestLog::keeping(&self.said));
        let birth = seed.map(|seed| Birth { now_ms: 0, seed });
        let (instance, said) = self.compiled.born_instance(spec, group, &log, birth)?;
        let slot = Arc::clone(&slots[0]);
        slot.put(instance, &self.compiled).map_err(|fault| ModuleError::Instance(fault.text))?;
        let policy = Arc::new(WasmPolicy::new(slots, fallback(spec)));
        Ok(TrialPolicy { name: said.name, version: said.version, policy, slot })
    }

    /// A policy whose instances come when its `overseer` says so. Until then the fallback answers.
    pub fn replayed(&self, spec: &ModuleSpec, group: u16, overseer: Arc<dyn Overseer>) -> ReplayedModule {
        let slots = self.slots(spec, group, Some(overseer));
        let policy = Arc::new(WasmPolicy::new(slots.clone(), fallback(spec)));
        ReplayedModule { compiled: Arc::clone(&self.compiled), policy, slots }
    }

    fn slots(&self, spec: &ModuleSpec, group: u16, overseer: Option<Arc<dyn Overseer>>) -> [Arc<Slot>; 2] {
        let (spec, shared) = (Arc::new(spec.clone()), Arc::new(ModuleRecord::new(spec.name.policy())));
        [false, true].map(|is_backup| {
            let slot = Slot::new(GroupLabel::new(group, None), Arc::clone(&spec), Arc::clone(&shared), None);
            Arc::new(slot.overseen(overseer.clone(), is_backup))
        })
    }
}

impl ReplayedModule {
    /// The policy; it is prepared for no servers.
    pub fn policy(&self) -> Arc<dyn IBalancePolicy> {
        Arc::clone(&self.policy) as _
    }

    /// An instance comes, which is born with what the overseer says.
    ///
    /// # Errors
    ///
    /// It cannot be made, or told its servers.
    pub fn instance_comes(&self, is_backup: bool) -> Result<(), ModuleError> {
        let put = self.compiled.put(None, &self.slots[usize::from(is_backup)]);
        put.map_err(|fault| ModuleError::Instance(fault.text))
    }

    /// The instance fails as if its deadline had passed in the call that comes next.
    pub fn time_runs_out(&self, is_backup: bool) {
        self.slots[usize::from(is_backup)].let_time_run_out();
    }
}

impl TrialPolicy {
    /// What it did so far.
    pub fn counters(&self) -> &ModuleCounters {
        &self.slot.shared.counters
    }

    /// Tells the instance what became of a pick, as if it had made that.
    pub fn report(&self, server: ServerId, outcome: Outcome) {
        if let Some(epoch) = self.slot.listening() {
            self.slot.report(epoch, server, outcome);
        }
    }

    /// The last thing that went wrong; `None` while all is well.
    pub fn last_fault(&self) -> Option<String> {
        self.slot.shared.last_fault()
    }

    /// Bytes of linear memory that its instance holds; `None` after a fault.
    pub fn memory_bytes(&self) -> Option<u64> {
        self.slot.memory_bytes()
    }
}
