//! Where an instance is put to work: one place per group and server set.
//!
//! A slot answers picks with its instance, or says that the fallback has to. It trusts no answer: one that
//! is no open server counts as a fault, unless the module could not know better because the server became
//! full or suspect since it was told. After a fault the instance is thrown away and another is requested
//! ([`Request`]); a module that keeps failing is quarantined for a while. Sessions wait for a
//! slot only while another session is being answered: one deadline at most.

mod overseen;
mod request;

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::answers::{Asked, Work};
use super::compiled::Compiled;
use super::fault::Fault;
use super::host::{GuestLog, RateLimit};
use super::instance::Instance;
use super::record::ModuleRecord;
use crate::base::clock;
use crate::base::label::GroupLabel;
use crate::counters::FaultKind;
use crate::events::{self, Event, PolicyEvent};
use crate::policy::balance::{Epoch, Outcome, PickRequest, ServerSet};
use crate::policy::oversee::Overseer;
use crate::policy::spec::ModuleSpec;
use crate::server::{Avoided, ServerId};
pub(super) use request::{Replacement, Request, Send};

/// After so many faults without [`GOOD_PICKS`] between them the module is quarantined.
const FAULTS_MAX: u32 = 5;

/// After so many good picks, faults are forgotten.
const GOOD_PICKS: u32 = 100;

/// A version that names nobody to its first so many clients has failed.
const NONES_MAX: u32 = 100;

/// How long the first quarantine lasts; each further one twice as long, up to [`PAUSE_MAX`].
const PAUSE_FIRST: Duration = Duration::from_secs(1);

/// The longest quarantine.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// The place of one instance.
pub(super) struct Slot {
    pub(super) group: GroupLabel,
    pub(super) spec: Arc<ModuleSpec>,
    pub(super) shared: Arc<ModuleRecord>,
    pub(super) log: Arc<GuestLog>,
    /// Lines about faults of this slot.
    rate_limit: RateLimit,
    /// Sends requests; none for a rehearsal, which is thrown away.
    send: Option<Send>,
    /// Follows its instances, where they are recorded or replayed.
    overseer: Option<Arc<dyn Overseer>>,
    /// It is the one for backups.
    is_backup: bool,
    /// The epoch of the instance at work if it wants to hear what becomes of its picks, otherwise 0. Spares those who
    /// report to an instance that has gone the lock.
    listening: AtomicU64,
    is_quarantined: AtomicBool,
    inner: Padded,
}

/// Guards the instance and what it was told. On cache lines of its own: data threads write to it in turns, and the
/// rest of the slot is only read, several times for each session.
#[derive(Default)]
#[repr(align(128))]
struct Padded(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    work: Option<Work>,
    /// The servers it is for.
    set: Arc<ServerSet>,
    /// Faults without enough good picks between them.
    faults: u32,
    good_picks: u32,
    /// The version at work has named a server to somebody.
    has_named: bool,
    /// Clients to whom it named nobody, before that.
    nones: u32,
    /// It was said that it named nobody.
    has_warned: bool,
    /// Quarantines without enough good picks between them.
    pauses: u32,
    /// Another instance was requested and has not come yet.
    is_awaited: bool,
    /// The request for which there was no room; sent again with the next pick.
    unsent: Option<Box<Replacement>>,
    /// Picks that are not in the counters yet: all slots share those, and each write to a shared cache line costs.
    picks: u64,
}

impl Slot {
    pub(super) fn new(group: GroupLabel, spec: Arc<ModuleSpec>, shared: Arc<ModuleRecord>, send: Option<Send>) -> Self {
        let log = Arc::new(GuestLog::new(Arc::clone(&shared.policy), group.clone()));
        Self {
            group,
            spec,
            shared,
            log,
            rate_limit: RateLimit::default(),
            send,
            overseer: None,
            is_backup: false,
            listening: AtomicU64::new(0),
            is_quarantined: AtomicBool::new(false),
            inner: Padded::default(),
        }
    }

    /// True while the module is not asked because it failed too often.
    pub(super) fn is_quarantined(&self) -> bool {
        self.is_quarantined.load(Relaxed)
    }

    /// True when an instance is, or should be, at work: there is none for backups that are not there.
    pub(super) fn is_needed(&self) -> bool {
        let inner = self.inner();
        inner.work.is_some() || !inner.set.servers.is_empty()
    }

    /// True when another instance was requested and has not come yet.
    pub(super) fn is_awaiting(&self) -> bool {
        self.inner().is_awaited
    }

    /// No instance can be made now; one will be put here when the file has become another.
    pub(super) fn wait(&self) {
        self.inner().is_awaited = false;
    }

    /// Bytes of memory that the instance holds, when there is one.
    pub(super) fn memory_bytes(&self) -> Option<u64> {
        self.inner().work.as_ref().map(|work| work.instance.memory_bytes())
    }

    /// The servers the slot is for.
    pub(super) fn set(&self) -> Arc<ServerSet> {
        Arc::clone(&self.inner().set)
    }

    /// What the instance was made from, when there is one.
    pub(super) fn compiled(&self) -> Option<Arc<Compiled>> {
        self.inner().work.as_ref().map(|work| Arc::clone(&work.compiled))
    }

    /// Takes another set of servers and tells the instance. Off the data path.
    pub(super) fn set_servers(self: &Arc<Self>, set: &Arc<ServerSet>) {
        let mut inner = self.inner();
        inner.set = Arc::clone(set);
        let now_ms = self.now_ms();
        match inner.work.as_mut().map(|work| work.tell(set, Avoided::DOUBTFUL, now_ms)) {
            Some(Err(fault)) => self.fail(&mut inner, fault),
            Some(Ok(())) => {}
            None if set.servers.is_empty() => {}
            None => self.request_another(&mut inner, None, Duration::ZERO, None),
        }
    }

    /// Puts an instance to work in place of the one that is there. It has been configured and nothing else.
    ///
    /// # Errors
    ///
    /// It cannot be told the servers; the one that is there stays.
    pub(super) fn put(&self, instance: Instance, compiled: &Arc<Compiled>) -> Result<(), Fault> {
        let mut inner = self.inner();
        let mut work = Work::new(instance, compiled);
        (inner.is_awaited, inner.unsent) = (false, None);
        work.tell(&inner.set, Avoided::DOUBTFUL, self.now_ms())?;
        self.listening.store(work.epoch.map_or(0, Epoch::get), Relaxed);
        inner.work = Some(work);
        if self.is_quarantined.swap(false, Relaxed) {
            self.tell(|policy, group| PolicyEvent::AnotherTry { policy, group });
        }
        Ok(())
    }

    /// Another version of the module comes: what the old one did is forgotten.
    pub(super) fn forgive(&self) {
        self.tell_replaced();
        let mut inner = self.inner();
        (inner.faults, inner.good_picks, inner.pauses) = (0, 0, 0);
        (inner.has_named, inner.nones, inner.has_warned) = (false, 0, false);
        self.is_quarantined.store(false, Relaxed);
    }

    /// The version at work may serve no longer: the fallback does until another one comes.
    pub(super) fn withdraw(&self) {
        self.forgive();
        let mut inner = self.inner();
        self.listening.store(0, Relaxed);
        (inner.work, inner.unsent, inner.is_awaited) = (None, None, false);
    }

    /// Another instance could not be made.
    pub(super) fn failed(self: &Arc<Self>, fault: Fault) {
        let mut inner = self.inner();
        inner.is_awaited = false;
        self.fail(&mut inner, fault);
    }

    /// Asks the module. `request.servers` are those of the snapshot that the session sees.
    pub(super) fn ask(self: &Arc<Self>, request: &PickRequest<'_>) -> Asked {
        let mut inner = self.inner();
        let inner = &mut *inner;
        let Some(work) = &mut inner.work else {
            self.send_again(inner);
            return Asked::Unanswered;
        };
        inner.picks += 1;
        match work.ask(request, &inner.set, &self.shared.counters) {
            Ok(asked) => {
                inner.has_named |= matches!(asked, Asked::Server(_));
                if inner.has_named && (inner.faults > 0 || inner.pauses > 0) {
                    self.count_good(inner);
                }
                asked
            }
            Err(fault) => {
                self.fail(inner, fault);
                Asked::Unanswered
            }
        }
    }

    /// The module has named none of the servers that a client was shown, although one is open. True when the fallback is
    /// to answer: a version may refuse clients only once it has named a server to one.
    pub(super) fn named_nobody(self: &Arc<Self>) -> bool {
        let mut inner = self.inner();
        let inner = &mut *inner;
        // Without an instance it was the fallback that named nobody.
        let Some(work) = &inner.work else { return true };
        self.shared.counters.nones.fetch_add(1, Relaxed);
        let is_first = !std::mem::replace(&mut inner.has_warned, true);
        if inner.has_named {
            if is_first {
                self.tell(|policy, group| PolicyEvent::NamesNobody { policy, group });
            }
            return false;
        }
        if is_first {
            let fallback = self.spec.fallback;
            self.tell(|policy, group| PolicyEvent::NamesNobodyYet { policy, group, fallback });
        }
        inner.nones += 1;
        if inner.nones >= NONES_MAX {
            inner.nones = 0;
            let text = format!("pick answered none to its first {NONES_MAX} clients, although a server was open");
            let fault = Fault { kind: FaultKind::BadAnswer, text };
            let names_nobody = (Arc::clone(&work.compiled), fault.clone());
            self.fail_with(inner, fault, Some(names_nobody));
        }
        true
    }

    /// True once the version at work has named a server to somebody.
    pub(super) fn has_named(&self) -> bool {
        self.inner().has_named
    }

    /// Takes over what is known of another slot's version.
    pub(super) fn set_has_named(&self, has_named: bool) {
        self.inner().has_named = has_named;
    }

    /// Brings the counters up to date.
    pub(super) fn count(&self) {
        let picks = std::mem::take(&mut self.inner().picks);
        self.shared.counters.picks.fetch_add(picks, Relaxed);
    }

    /// The epoch of the instance at work, if it wants to hear what becomes of its picks.
    pub(super) fn listening(&self) -> Option<Epoch> {
        Epoch::from_number(self.listening.load(Relaxed))
    }

    /// Tells the instance that made a pick what became of it, if it is still at work.
    pub(super) fn report(self: &Arc<Self>, epoch: Epoch, server: ServerId, outcome: Outcome) {
        if self.listening.load(Relaxed) != epoch.get() {
            return;
        }
        let mut inner = self.inner();
        if let Some(work) = &mut inner.work
            && work.epoch == Some(epoch)
            && let Err(fault) = work.instance.report(server, outcome)
        {
            self.fail(&mut inner, fault);
        }
    }

    fn count_good(&self, inner: &mut Inner) {
        inner.good_picks += 1;
        if inner.good_picks >= GOOD_PICKS {
            (inner.faults, inner.good_picks, inner.pauses) = (0, 0, 0);
            self.tell(|policy, group| PolicyEvent::WorksAgain { policy, group });
        }
    }

    /// The instance has failed: it goes, and another is asked for, after a while if this happens too often.
    fn fail(self: &Arc<Self>, inner: &mut Inner, fault: Fault) {
        self.fail_with(inner, fault, None);
    }

    fn fail_with(self: &Arc<Self>, inner: &mut Inner, fault: Fault, names_nobody: Option<(Arc<Compiled>, Fault)>) {
        self.shared.failed(&self.group, &fault);
        self.tell_fault(fault.kind);
        inner.good_picks = 0;
        inner.faults += 1;
        let is_too_often = inner.faults >= FAULTS_MAX;
        let pause = match is_too_often {
            true => PAUSE_MAX.min(PAUSE_FIRST * (1 << inner.pauses.min(8))),
            false => Duration::ZERO,
        };
        if self.rate_limit.take(clock::coarse_ms()) {
            let (fault, fallback) = (fault.text.into(), self.spec.fallback);
            self.tell(|policy, group| match is_too_often {
                false => PolicyEvent::Failed { policy, group, fault, fallback },
                true => PolicyEvent::SetAside { policy, group, fault, fallback, pause },
            });
        }
        if is_too_often {
            inner.pauses += 1;
            self.is_quarantined.store(self.send.is_some(), Relaxed);
        }
        self.listening.store(0, Relaxed);
        let dead = inner.work.take().map(|work| Box::new(work.instance));
        self.request_another(inner, dead, pause, names_nobody);
    }

    fn request_another(
        self: &Arc<Self>,
        inner: &mut Inner,
        dead: Option<Box<Instance>>,
        pause: Duration,
        names_nobody: Option<(Arc<Compiled>, Fault)>,
    ) {
        if !std::mem::replace(&mut inner.is_awaited, true) {
            let slot = Arc::downgrade(self);
            self.send(inner, Replacement { slot, dead, pause, names_nobody });
        }
    }

    fn send(&self, inner: &mut Inner, replacement: Replacement) {
        let Some(send) = &self.send else { return };
        if let Err(Request::Replace(unsent)) = send(Request::Replace(replacement)) {
            inner.unsent = Some(Box::new(unsent));
        }
    }

    /// What found no room is kept and tried again, so that no slot stays without an instance.
    fn send_again(&self, inner: &mut Inner) {
        if let Some(unsent) = inner.unsent.take() {
            self.send(inner, *unsent);
        }
    }

    /// Publishes what became of the module here. Sessions wait for the slot meanwhile, so it waits for nobody.
    fn tell(&self, event: impl FnOnce(Arc<str>, GroupLabel) -> PolicyEvent) {
        events::publish_soon(Event::Policy(event(Arc::clone(&self.shared.policy), self.group.clone())));
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // A panic under the lock can only come out of the engine; then the instance is not to be used again.
        self.inner.0.lock().unwrap_or_else(|poisoned| {
            let mut inner = PoisonError::into_inner(poisoned);
            inner.work = None;
            self.inner.0.clear_poison();
            inner
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.count();
        if let Some(send) = &self.send {
            // Without room it need not be told: what nobody uses is forgotten after every job that waits there.
            let _ = send(Request::Gone);
        }
    }
}
