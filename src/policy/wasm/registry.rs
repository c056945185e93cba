//! The thread that looks after modules: loads them, makes instances, swaps versions, retries.
//!
//! One thing after the other, at low priority, so that compiling never takes the processor from sessions.
//! A module is kept for as long as a group names it. A version that cannot be used changes nothing: the one
//! that is loaded goes on, and the list, the log and the metrics say why. The thread ends when nobody can
//! ask it for anything any more.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::loader::{self, Candidate, LoadError, Loader};
use super::modules::{Common, Job, Known, ModuleError, Version};
use super::policy::WasmPolicy;
use super::slot::{Shared, Slot};
use super::source;
use crate::policy::spec::ModuleSpec;
use crate::policy::{IBalancePolicy, factory};

/// A file that ends in the middle is looked at again after this time before it is called broken.
const INCOMPLETE_TIME: Duration = Duration::from_secs(1);

/// How nice the thread is to others.
const NICENESS: i32 = 10;

/// Looks after the modules in use.
pub(super) struct Registry {
    common: Weak<Common>,
    loader: Loader,
    modules: BTreeMap<String, Module>,
    /// Slots that get another instance, and when.
    due: Vec<(Instant, Weak<Slot>)>,
    /// When a file that was incomplete is looked at again.
    look_at: Option<Instant>,
}

/// A module in use.
struct Module {
    known: Known,
    /// The version that is loaded.
    candidate: Option<Candidate>,
    /// The content that was refused last.
    refused: Option<[u8; 32]>,
    /// The content that ended in the middle when it was seen last.
    incomplete: Option<[u8; 32]>,
}

/// The policy that answers when a module cannot.
pub(super) fn fallback(spec: &ModuleSpec) -> Arc<dyn IBalancePolicy> {
    factory::built_in(spec.fallback).expect("the fallback of a spec is built in")
}

impl Registry {
    pub(super) fn new(common: &Arc<Common>) -> Self {
        let common = Arc::downgrade(common);
        Self { common, loader: Loader::default(), modules: BTreeMap::new(), due: Vec::new(), look_at: None }
    }

    /// Does what is asked for until nobody can ask any more.
    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        // Refused: then the thread competes with sessions like any other.
        let _ = rustix::process::setpriority_process(None, NICENESS);
        loop {
            let next = self.due.iter().map(|(at, _)| *at).chain(self.look_at).min();
            let wait = next.map_or(Duration::MAX, |next| next.saturating_duration_since(Instant::now()));
            match jobs.recv_timeout(wait) {
                Ok(job) => self.take(job),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.do_due();
            self.publish();
        }
    }

    fn take(&mut self, job: Job) {
        match job {
            Job::Make { spec, group, anyway, jobs, reply } => {
                let made = self.make(&spec, group, anyway, jobs);
                // In the list before whoever asked can look.
                self.publish();
                // Whoever asked may be gone.
                let _ = reply.send(made);
            }
            Job::Remake { slot, dead, pause } => {
                drop(dead);
                self.due.push((Instant::now() + pause, slot));
            }
            Job::Look { reply } => {
                self.look();
                self.publish();
                let _ = reply.send(());
            }
        }
    }

    fn do_due(&mut self) {
        let now = Instant::now();
        if self.look_at.is_some_and(|at| at <= now) {
            self.look_at = None;
            self.look();
        }
        let due: Vec<_> = self.due.extract_if(.., |(at, _)| *at <= now).collect();
        for slot in due.iter().filter_map(|(_, slot)| slot.upgrade()) {
            self.remake(&slot);
        }
    }

    fn make(
        &mut self,
        spec: &Arc<ModuleSpec>,
        group: u16,
        anyway: bool,
        jobs: Sender<Job>,
    ) -> Result<Arc<dyn IBalancePolicy>, ModuleError> {
        let Some(common) = self.common.upgrade() else { return Err(ModuleError("the proxy is stopping".to_owned())) };
        let module = self.modules.entry(spec.name.clone()).or_insert_with(|| Module::new(&spec.name));
        let slot = |jobs: &Sender<Job>| {
            Arc::new(Slot::new(group, Arc::clone(spec), Arc::clone(&module.known.shared), Some(jobs.clone())))
        };
        let slots = [slot(&jobs), slot(&jobs)];
        let made = module.load_if_needed(&mut self.loader, &common).and_then(|()| module.put(&slots[0]));
        if let Err(error) = made {
            if !anyway {
                return Err(error);
            }
            tracing::error!(group, policy = &*module.known.shared.policy, %error, fallback = spec.fallback, "policy cannot be used: its fallback serves");
            module.known.error = Some(error.0);
        }
        module.known.slots.extend(slots.iter().map(Arc::downgrade));
        Ok(Arc::new(WasmPolicy::new(slots, fallback(spec))))
    }

    /// Gives a slot another instance of the version that is loaded.
    fn remake(&mut self, slot: &Arc<Slot>) {
        // Another version may have taken over meanwhile; what it has learned since is not to be lost.
        if !slot.is_awaiting() {
            return;
        }
        let candidate = self.modules.get(&slot.spec.name).and_then(|module| module.candidate.as_ref());
        // Without one the slot waits for the file to become another.
        let Some(candidate) = candidate.filter(|candidate| candidate.is_wanted(&slot.spec)) else { return slot.wait() };
        if let Err(fault) = candidate.put(None, slot) {
            slot.failed(fault);
        }
    }

    /// Looks at the files of all modules in use.
    fn look(&mut self) {
        let Some(common) = self.common.upgrade() else { return };
        for (name, module) in &mut self.modules {
            if module.look(name, &mut self.loader, &common) {
                self.look_at = Some(Instant::now() + INCOMPLETE_TIME);
            }
        }
    }

    /// Forgets what no group uses, and shows the rest to those who look.
    fn publish(&mut self) {
        self.modules.retain(|_, module| {
            module.known.slots.retain(|slot| slot.strong_count() > 0);
            !module.known.slots.is_empty()
        });
        if let Some(common) = self.common.upgrade() {
            common.show(self.modules.iter().map(|(name, module)| (name.clone(), module.known.clone())).collect());
        }
    }
}

impl Module {
    fn new(name: &str) -> Self {
        Self { known: Known::new(name), candidate: None, refused: None, incomplete: None }
    }

    fn load_if_needed(&mut self, loader: &mut Loader, common: &Common) -> Result<(), ModuleError> {
        if self.candidate.is_some() {
            return Ok(());
        }
        let mut load = |name: &str| {
            let path = loader::find(&common.folder, name)?;
            let bytes = loader::read(&path, common.file_bytes_max)?;
            loader.load(&path, &bytes, common.file_bytes_max)
        };
        let candidate = load(self.known.name()).map_err(|error: LoadError| ModuleError(error.text))?;
        self.candidate = Some(candidate);
        Ok(())
    }

    /// Puts an instance of the loaded version into a slot of a policy that is being made.
    fn put(&mut self, slot: &Slot) -> Result<(), ModuleError> {
        let candidate = self.candidate.as_ref().expect("loaded before");
        let (instance, description) = candidate.instance(&slot.spec, slot.group, &slot.voice)?;
        candidate.put(Some(instance), slot).map_err(|fault| ModuleError(fault.text))?;
        if self.known.version.is_none() {
            let version = Version::new(candidate, description.version);
            version.log(&self.known.shared, candidate, "policy loaded");
            self.known.version = Some(version);
        }
        Ok(())
    }

    /// Looks at the file. True when it has to be looked at again soon.
    fn look(&mut self, name: &str, loader: &mut Loader, common: &Common) -> bool {
        let read =
            loader::find(&common.folder, name).and_then(|path| Ok((loader::read(&path, common.file_bytes_max)?, path)));
        let (bytes, path) = match read {
            Ok(read) => read,
            Err(error) => {
                self.refuse(None, error.text);
                return false;
            }
        };
        let sha256 = source::sha256(&bytes);
        if self.known.version.as_ref().is_some_and(|version| version.sha256 == sha256) {
            (self.refused, self.incomplete) = (None, None);
            if self.known.error.take().is_some() {
                tracing::info!(
                    policy = &*self.known.shared.policy,
                    "the policy's file is the one that is loaded again"
                );
            }
            return false;
        }
        if self.refused == Some(sha256) {
            return false;
        }
        let loaded = loader.load(&path, &bytes, common.file_bytes_max);
        if let Err(error) = &loaded
            && error.is_incomplete
            && self.incomplete.replace(sha256) != Some(sha256)
        {
            return true;
        }
        let taken =
            loaded.map_err(|error| error.text).and_then(|candidate| self.take_over(candidate).map_err(|error| error.0));
        if let Err(text) = taken {
            self.refuse(Some(sha256), text);
        }
        false
    }

    /// Puts another version to work in every slot, or in none.
    fn take_over(&mut self, candidate: Candidate) -> Result<(), ModuleError> {
        let slots: Vec<Arc<Slot>> =
            self.known.slots.iter().filter_map(Weak::upgrade).filter(|slot| slot.is_needed()).collect();
        let mut ready = Vec::with_capacity(slots.len());
        let mut said = None;
        for slot in slots {
            let (instance, description) = candidate.instance(&slot.spec, slot.group, &slot.voice)?;
            said = Some(description.version);
            ready.push((slot, instance));
        }
        for (slot, instance) in ready {
            slot.forgive();
            if let Err(fault) = candidate.put(Some(instance), &slot) {
                // It took two servers and fails on those of the group: as if it had failed later.
                slot.failed(fault);
            }
        }
        let version = Version::new(&candidate, said.unwrap_or_default());
        let is_first = self.known.version.is_none();
        version.log(&self.known.shared, &candidate, if is_first { "policy loaded" } else { "policy swapped" });
        self.known.shared.counters.swaps.fetch_add(u64::from(!is_first), Relaxed);
        self.known.version = Some(version);
        self.known.error = None;
        (self.refused, self.incomplete) = (None, None);
        self.candidate = Some(candidate);
        Ok(())
    }

    /// The file as it is cannot be used; what is loaded stays.
    fn refuse(&mut self, sha256: Option<[u8; 32]>, text: String) {
        let is_another = sha256.is_some() && self.refused != sha256;
        self.known.shared.counters.refusals.fetch_add(u64::from(is_another), Relaxed);
        self.refused = sha256;
        self.incomplete = None;
        if self.known.error.as_ref() == Some(&text) {
            return;
        }
        let (policy, error) = (&*self.known.shared.policy, text.as_str());
        match &self.known.version {
            Some(version) => tracing::warn!(
                policy,
                error,
                version = version.version,
                "policy file refused: the loaded version stays"
            ),
            None => tracing::warn!(policy, error, "policy file refused: the fallback serves"),
        }
        self.known.error = Some(text);
    }
}

impl Version {
    fn new(candidate: &Candidate, version: String) -> Self {
        let file = candidate.path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        Self { file, version, sha256: candidate.source.sha256 }
    }

    fn log(&self, shared: &Shared, candidate: &Candidate, message: &'static str) {
        let (version, sha256) = (&self.version, source::hex(&self.sha256));
        let compile_ms = candidate.compile_time.as_millis() as u64;
        tracing::info!(policy = &*shared.policy, version, sha256, compile_ms, "{message}");
    }
}
