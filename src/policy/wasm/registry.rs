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

use super::compiled::Compiled;
use super::error::ModuleError;
use super::files::{self, LoadError};
use super::loader::Loader;
use super::policy::{WasmPolicy, fallback};
use super::slot::{ModuleRecord, Replace, Replacement, Slot};
use super::source;
use super::status::{Common, Job, ModuleStatus, Version};
use crate::base::vital;
use crate::policy::balance::IBalancePolicy;
use crate::policy::spec::ModuleSpec;

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
    status: ModuleStatus,
    /// The version that is loaded.
    compiled: Option<Arc<Compiled>>,
    /// The content that was refused last.
    refused: Option<[u8; 32]>,
    /// The content that ended in the middle when it was seen last.
    incomplete: Option<[u8; 32]>,
}

/// Requests other instances from the thread with this queue.
fn replace_by(jobs: Sender<Job>) -> Replace {
    Box::new(move |replacement| {
        // The queue has gone only when the process ends.
        let _ = jobs.send(Job::Replace(replacement));
    })
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
        vital::panic_at("modules");
        match job {
            Job::Make { spec, group, anyway, jobs, reply } => {
                let made = self.make(&spec, group, anyway, jobs);
                // In the list before whoever asked can look.
                self.publish();
                // Whoever asked may be gone.
                let _ = reply.send(made);
            }
            Job::Replace(Replacement { slot, dead, pause }) => {
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
        let module = self.modules.entry(spec.name.to_string()).or_insert_with(|| Module::new(&spec.name));
        let slot = |jobs: &Sender<Job>| {
            Arc::new(Slot::new(
                group,
                Arc::clone(spec),
                Arc::clone(&module.status.shared),
                Some(replace_by(jobs.clone())),
            ))
        };
        let slots = [slot(&jobs), slot(&jobs)];
        let made = module.load_if_needed(&mut self.loader, &common).and_then(|()| module.put(&slots[0]));
        if let Err(error) = made {
            if !anyway {
                return Err(error);
            }
            tracing::error!(group, policy = &*module.status.shared.policy, %error, fallback = spec.fallback, "policy cannot be used: its fallback serves");
            module.status.error = Some(error.0);
        }
        module.status.slots.extend(slots.iter().map(Arc::downgrade));
        Ok(Arc::new(WasmPolicy::new(slots, fallback(spec))))
    }

    /// Gives a slot another instance of the version that is loaded.
    fn remake(&mut self, slot: &Arc<Slot>) {
        // Another version may have taken over meanwhile; what it has learned since is not to be lost.
        if !slot.is_awaiting() {
            return;
        }
        let compiled = self.modules.get(&*slot.spec.name).and_then(|module| module.compiled.as_ref());
        // Without one the slot waits for the file to become another.
        let Some(compiled) = compiled.filter(|compiled| compiled.is_wanted(&slot.spec)) else { return slot.wait() };
        if let Err(fault) = compiled.put(None, slot) {
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
            module.status.slots.retain(|slot| slot.strong_count() > 0);
            !module.status.slots.is_empty()
        });
        if let Some(common) = self.common.upgrade() {
            common.show(self.modules.iter().map(|(name, module)| (name.clone(), module.status.clone())).collect());
        }
    }
}

impl Module {
    fn new(name: &str) -> Self {
        Self { status: ModuleStatus::new(name), compiled: None, refused: None, incomplete: None }
    }

    fn load_if_needed(&mut self, loader: &mut Loader, common: &Common) -> Result<(), ModuleError> {
        if self.compiled.is_some() {
            return Ok(());
        }
        let mut load = |name: &str| {
            let path = files::find(&common.folder, name)?;
            let bytes = files::read(&path, common.file_bytes_max)?;
            loader.load(&path, &bytes, common.file_bytes_max)
        };
        let compiled = load(self.status.name()).map_err(|error: LoadError| ModuleError(error.text))?;
        self.compiled = Some(Arc::new(compiled));
        Ok(())
    }

    /// Puts an instance of the loaded version into a slot of a policy that is being made.
    fn put(&mut self, slot: &Slot) -> Result<(), ModuleError> {
        let compiled = self.compiled.as_ref().expect("loaded before");
        let (instance, description) = compiled.instance(&slot.spec, slot.group, &slot.log)?;
        compiled.put(Some(instance), slot).map_err(|fault| ModuleError(fault.text))?;
        if self.status.version.is_none() {
            let version = Version::new(compiled, description.version);
            version.log(&self.status.shared, compiled, "policy loaded");
            self.status.version = Some(version);
        }
        Ok(())
    }

    /// Looks at the file. True when it has to be looked at again soon.
    fn look(&mut self, name: &str, loader: &mut Loader, common: &Common) -> bool {
        let read =
            files::find(&common.folder, name).and_then(|path| Ok((files::read(&path, common.file_bytes_max)?, path)));
        let (bytes, path) = match read {
            Ok(read) => read,
            Err(error) => {
                self.refuse(None, error.text);
                return false;
            }
        };
        let sha256 = source::sha256(&bytes);
        if self.status.version.as_ref().is_some_and(|version| version.sha256 == sha256) {
            (self.refused, self.incomplete) = (None, None);
            if self.status.error.take().is_some() {
                tracing::info!(
                    policy = &*self.status.shared.policy,
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
        let taken = loaded
            .map_err(|error| error.text)
            .and_then(|compiled| self.take_over(Arc::new(compiled)).map_err(|error| error.0));
        if let Err(text) = taken {
            self.refuse(Some(sha256), text);
        }
        false
    }

    /// Puts another version to work in every slot, or in none.
    fn take_over(&mut self, compiled: Arc<Compiled>) -> Result<(), ModuleError> {
        let slots: Vec<Arc<Slot>> =
            self.status.slots.iter().filter_map(Weak::upgrade).filter(|slot| slot.is_needed()).collect();
        let mut ready = Vec::with_capacity(slots.len());
        let mut said = None;
        for slot in slots {
            let (instance, description) = compiled.instance(&slot.spec, slot.group, &slot.log)?;
            said = Some(description.version);
            ready.push((slot, instance));
        }
        for (slot, instance) in ready {
            slot.forgive();
            if let Err(fault) = compiled.put(Some(instance), &slot) {
                // It took two servers and fails on those of the group: as if it had failed later.
                slot.failed(fault);
            }
        }
        let version = Version::new(&compiled, said.unwrap_or_default());
        let is_first = self.status.version.is_none();
        version.log(&self.status.shared, &compiled, if is_first { "policy loaded" } else { "policy swapped" });
        self.status.shared.counters.swaps.fetch_add(u64::from(!is_first), Relaxed);
        self.status.version = Some(version);
        self.status.error = None;
        (self.refused, self.incomplete) = (None, None);
        self.compiled = Some(compiled);
        Ok(())
    }

    /// The file as it is cannot be used; what is loaded stays.
    fn refuse(&mut self, sha256: Option<[u8; 32]>, text: String) {
        let is_another = sha256.is_some() && self.refused != sha256;
        self.status.shared.counters.refusals.fetch_add(u64::from(is_another), Relaxed);
        self.refused = sha256;
        self.incomplete = None;
        if self.status.error.as_ref() == Some(&text) {
            return;
        }
        let (policy, error) = (&*self.status.shared.policy, text.as_str());
        match &self.status.version {
            Some(version) => tracing::warn!(
                policy,
                error,
                version = version.version,
                "policy file refused: the loaded version stays"
            ),
            None => tracing::warn!(policy, error, "policy file refused: the fallback serves"),
        }
        self.status.error = Some(text);
    }
}

impl Version {
    fn new(compiled: &Compiled, version: String) -> Self {
        let file = compiled.path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        Self { file, version, sha256: compiled.file.sha256 }
    }

    fn log(&self, shared: &ModuleRecord, compiled: &Compiled, message: &'static str) {
        let (version, sha256) = (&self.version, source::hex(&self.sha256));
        let compile_ms = compiled.compile_time.as_millis() as u64;
        tracing::info!(policy = &*shared.policy, version, sha256, compile_ms, "{message}");
    }
}
