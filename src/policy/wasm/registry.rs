//! The thread that looks after modules: loads them, makes instances, swaps versions, retries.
//!
//! One thing after the other, at low priority, so that compiling never takes the processor from sessions.
//! A module is kept for as long as a group names it. A version that cannot be used changes nothing: the one
//! that is loaded goes on, and the list, the log and the metrics say why. The thread ends when nobody can
//! ask it for anything any more.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::compiled::Compiled;
use super::error::ModuleError;
use super::fault::Fault;
use super::loader::Loader;
use super::module::Module;
use super::policy::{WasmPolicy, fallback};
use super::slot::{self, Replacement, Request, Slot};
use super::source::PolicyKeys;
use super::status::{Common, Job};
use crate::base::label::GroupLabel;
use crate::base::vital;
use crate::events::{self, Event, PolicyEvent};
use crate::policy::balance::IBalancePolicy;
use crate::policy::oversee::Overseer;
use crate::policy::spec::ModuleSpec;

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

/// Passes a slot's requests on to the thread with this queue.
fn send_to(jobs: SyncSender<Job>) -> slot::Send {
    Box::new(move |request| match jobs.try_send(Job::Slot(request)) {
        Err(TrySendError::Full(Job::Slot(request))) => Err(request),
        // The queue has gone only when the process ends.
        _ => Ok(()),
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
            Job::Make { spec, group, anyway, keys, overseer, jobs, reply } => {
                let made = self.make((&spec, &group), anyway, &keys, overseer, jobs);
                // In the list before whoever asked can look.
                self.publish();
                // Whoever asked may be gone.
                let _ = reply.send(made);
            }
            Job::Slot(Request::Replace(Replacement { slot, dead, pause, names_nobody })) => {
                drop(dead);
                if let Some((failed, fault)) = names_nobody {
                    self.return_to_former(&slot, &failed, &fault);
                }
                self.due.push((Instant::now() + pause, slot));
            }
            // What nobody uses any more is forgotten after every job.
            Job::Slot(Request::Gone) => {}
            Job::UseKeys { reply } => {
                self.modules.values_mut().for_each(|module| module.keys_changed());
                self.look();
                self.publish();
                let _ = reply.send(());
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
        (spec, group): (&Arc<ModuleSpec>, &GroupLabel),
        anyway: bool,
        keys: &PolicyKeys,
        overseer: Option<Arc<dyn Overseer>>,
        jobs: SyncSender<Job>,
    ) -> Result<Arc<dyn IBalancePolicy>, ModuleError> {
        let Some(common) = self.common.upgrade() else {
            return Err(ModuleError::Proxy("the proxy is stopping".to_owned()));
        };
        let module = self.modules.entry(spec.name.to_string()).or_insert_with(|| Module::new(&spec.name));
        let slots = [false, true].map(|is_backup| {
            let (spec, shared) = (Arc::clone(spec), Arc::clone(&module.status.shared));
            let slot = Slot::new(group.clone(), spec, shared, Some(send_to(jobs.clone())));
            Arc::new(slot.overseen(overseer.clone(), is_backup))
        });
        let loaded = module.load_if_needed(&mut self.loader, &common, spec.compile_budget, keys);
        let made = loaded.and_then(|()| module.put(&slots[0]));
        if let Err(error) = made {
            if !anyway {
                return Err(error);
            }
            let (policy, text) = (Arc::clone(&module.status.shared.policy), error.to_string().into());
            let (group, fallback) = (group.clone(), spec.fallback);
            events::publish(Event::Policy(PolicyEvent::Unusable { group, policy, error: text, fallback }));
            module.status.error = Some(error.to_string());
        }
        module.status.slots.extend(slots.iter().map(Arc::downgrade));
        Ok(Arc::new(WasmPolicy::new(slots, fallback(spec))))
    }

    fn return_to_former(&mut self, slot: &Weak<Slot>, failed: &Arc<Compiled>, fault: &Fault) {
        let Some(slot) = slot.upgrade() else { return };
        let keys = self.common.upgrade().map(|common| common.keys()).unwrap_or_default();
        if let Some(module) = self.modules.get_mut(&*slot.spec.name) {
            module.return_to_former(failed, fault, &keys);
        }
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
            if let Some(wait) = module.look(name, &mut self.loader, &common) {
                self.look_at = Some(Instant::now() + wait);
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
