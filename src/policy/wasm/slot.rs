//! Where an instance is put to work: one place per group and server set.
//!
//! A slot answers picks with its instance, or says that the fallback has to. It trusts no answer: one that
//! is no open server counts as a fault, unless the module could not know better because the server became
//! full or suspect since it was told. After a fault the instance is thrown away and [`super::modules`] makes
//! another on its own thread; a module that keeps failing is left alone for a while. Sessions wait for a
//! slot only while another session is being answered: one deadline at most.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::engine::Compiled;
use super::guest::{Budget, Voice};
use super::instance::{Fault, Instance};
use super::modules::Job;
use crate::base::clock;
use crate::counters::{FaultKind, ModuleCounters};
use crate::policy::spec::ModuleSpec;
use crate::policy::{Closed, Outcome, PickRequest, ServerSet};

/// So many faults, without [`GOOD_PICKS`] between them, and the module is left alone.
const FAULTS_MAX: u32 = 5;

/// After so many good picks, faults are forgotten.
const GOOD_PICKS: u32 = 100;

/// How long a module is left alone at first; twice as long each time, up to [`PAUSE_MAX`].
const PAUSE_FIRST: Duration = Duration::from_secs(1);

/// The longest time for which a module is left alone.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Telling an instance which servers are available costs about half a microsecond for each of them, so for servers
/// that have become full or suspect, or are so no longer, it is done at most this often for each thousand of them.
const TELL_INTERVAL_MS: u64 = 10;

/// One pick in so many is timed: looking at the clock twice costs half as much as a pick.
const PICKS_PER_TIMED: u32 = 16;

/// What is known of a module for all its slots.
#[derive(Debug)]
pub(super) struct Shared {
    /// `wasm:NAME`.
    pub(super) policy: Arc<str>,
    pub(super) counters: Arc<ModuleCounters>,
    /// Guards the text of the last fault.
    last_fault: Mutex<Option<String>>,
}

/// An instance's place.
pub(super) struct Slot {
    pub(super) group: u16,
    pub(super) spec: Arc<ModuleSpec>,
    pub(super) shared: Arc<Shared>,
    pub(super) voice: Arc<Voice>,
    /// Lines about faults of this slot.
    budget: Budget,
    /// Where to ask for another instance; none for a rehearsal, which is thrown away.
    jobs: Option<Sender<Job>>,
    wants_feedback: AtomicBool,
    is_quarantined: AtomicBool,
    inner: Alone,
}

/// Guards the instance and what it was told. On cache lines of its own: data threads write to it in turns, and the
/// rest of the slot is only read, several times for each session.
#[derive(Default)]
#[repr(align(128))]
struct Alone(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    work: Option<Work>,
    /// The servers it is for.
    set: Arc<ServerSet>,
    /// Faults without enough good picks between them.
    faults: u32,
    good_picks: u32,
    /// How often the module was left alone without enough good picks between.
    pauses: u32,
    /// Somebody was asked for another instance.
    is_awaited: bool,
    /// Picks that are not in the counters yet, which all slots share: each touch of them is felt.
    picks: u64,
}

/// An instance and what it was told.
struct Work {
    instance: Instance,
    compiled: Arc<Compiled>,
    /// The set it was told, by its generation.
    generation: u64,
    /// Indexes of the servers it was told are not available, in order.
    hidden: Vec<u32>,
    told_ms: u64,
    /// Picks since one was timed.
    picks: u32,
}

/// What a slot answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// This server, by its index.
    Server(usize),
    /// No server will do.
    Nobody,
    /// The module cannot tell.
    Unanswered,
}

impl Shared {
    pub(super) fn new(policy: Arc<str>) -> Self {
        Self { policy, counters: Arc::default(), last_fault: Mutex::default() }
    }

    /// The last fault of any slot, for people.
    pub(super) fn last_fault(&self) -> Option<String> {
        self.last_fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn failed(&self, group: u16, fault: &Fault) {
        self.counters.fault(fault.kind);
        let text = format!("group {group}: {}", fault.text);
        *self.last_fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
    }
}

impl Slot {
    pub(super) fn new(group: u16, spec: Arc<ModuleSpec>, shared: Arc<Shared>, jobs: Option<Sender<Job>>) -> Self {
        let voice = Arc::new(Voice::new(Arc::clone(&shared.policy), group));
        Self {
            group,
            spec,
            shared,
            voice,
            budget: Budget::default(),
            jobs,
            wants_feedback: AtomicBool::new(false),
            is_quarantined: AtomicBool::new(false),
            inner: Alone::default(),
        }
    }

    /// True while the module is left alone because it failed too often.
    pub(super) fn is_quarantined(&self) -> bool {
        self.is_quarantined.load(Relaxed)
    }

    /// True when an instance is, or should be, at work: there is none for backups that are not there.
    pub(super) fn is_needed(&self) -> bool {
        let inner = self.inner();
        inner.work.is_some() || !inner.set.servers.is_empty()
    }

    /// True when another instance was asked for and has not come yet.
    pub(super) fn is_awaiting(&self) -> bool {
        self.inner().is_awaited
    }

    /// There is nothing to make an instance of; somebody will put one when there is.
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
        let now_ms = clock::coarse_ms();
        match inner.work.as_mut().map(|work| work.tell(set, true, now_ms)) {
            Some(Err(fault)) => self.fail(&mut inner, fault),
            Some(Ok(())) => {}
            None if set.servers.is_empty() => {}
            None => self.ask_for_another(&mut inner, None, Duration::ZERO),
        }
    }

    /// Puts an instance to work in place of the one that is there. It has been configured and nothing else.
    ///
    /// # Errors
    ///
    /// It cannot be told the servers; the one that is there stays.
    pub(super) fn put(&self, instance: Instance, compiled: &Arc<Compiled>) -> Result<(), Fault> {
        let mut inner = self.inner();
        let wants_feedback = instance.wants_feedback();
        let mut work =
            Work { instance, compiled: Arc::clone(compiled), generation: 0, hidden: Vec::new(), told_ms: 0, picks: 0 };
        inner.is_awaited = false;
        work.tell(&inner.set, true, clock::coarse_ms())?;
        inner.work = Some(work);
        self.wants_feedback.store(wants_feedback, Relaxed);
        if self.is_quarantined.swap(false, Relaxed) {
            tracing::info!(policy = &*self.shared.policy, group = self.group, "policy is given another try");
        }
        Ok(())
    }

    /// Another version of the module comes: what the old one did is forgotten.
    pub(super) fn forgive(&self) {
        let mut inner = self.inner();
        (inner.faults, inner.good_picks, inner.pauses) = (0, 0, 0);
        self.is_quarantined.store(false, Relaxed);
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
        let Some(work) = &mut inner.work else { return Asked::Unanswered };
        inner.picks += 1;
        match work.ask(request, &inner.set, &self.shared.counters) {
            Ok(asked) => {
                if inner.faults > 0 || inner.pauses > 0 {
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

    /// Brings the counters up to date.
    pub(super) fn count(&self) {
        let picks = std::mem::take(&mut self.inner().picks);
        self.shared.counters.picks.fetch_add(picks, Relaxed);
    }

    /// Tells the module what became of a pick. False when it does not want to hear it.
    pub(super) fn heed(self: &Arc<Self>, server: u32, outcome: Outcome) -> bool {
        if !self.wants_feedback.load(Relaxed) {
            return false;
        }
        let mut inner = self.inner();
        if let Some(work) = &mut inner.work
            && let Err(fault) = work.instance.heed(server, outcome)
        {
            self.fail(&mut inner, fault);
        }
        true
    }

    fn count_good(&self, inner: &mut Inner) {
        inner.good_picks += 1;
        if inner.good_picks >= GOOD_PICKS {
            (inner.faults, inner.good_picks, inner.pauses) = (0, 0, 0);
            tracing::info!(policy = &*self.shared.policy, group = self.group, "policy works again");
        }
    }

    /// The instance has failed: it goes, and another is asked for, after a while if this happens too often.
    fn fail(self: &Arc<Self>, inner: &mut Inner, fault: Fault) {
        self.shared.failed(self.group, &fault);
        inner.good_picks = 0;
        inner.faults += 1;
        let is_too_often = inner.faults >= FAULTS_MAX;
        let pause = match is_too_often {
            true => PAUSE_MAX.min(PAUSE_FIRST * (1 << inner.pauses.min(8))),
            false => Duration::ZERO,
        };
        if self.budget.take(clock::coarse_ms()) {
            let (policy, group, fallback, fault) = (&*self.shared.policy, self.group, self.spec.fallback, fault.text);
            match is_too_often {
                false => tracing::warn!(policy, group, fault, fallback, "policy failed: its fallback answers"),
                true => tracing::warn!(
                    policy,
                    group,
                    fault,
                    fallback,
                    pause_ms = pause.as_millis() as u64,
                    "policy failed too often: its fallback serves"
                ),
            }
        }
        if is_too_often {
            inner.pauses += 1;
            self.is_quarantined.store(self.jobs.is_some(), Relaxed);
        }
        let dead = inner.work.take().map(|work| Box::new(work.instance));
        self.ask_for_another(inner, dead, pause);
    }

    fn ask_for_another(self: &Arc<Self>, inner: &mut Inner, dead: Option<Box<Instance>>, pause: Duration) {
        let Some(jobs) = &self.jobs else { return };
        if !std::mem::replace(&mut inner.is_awaited, true) {
            // Only a process that ends has nobody who makes instances.
            let _ = jobs.send(Job::Remake { slot: Arc::downgrade(self), dead, pause });
        }
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
    }
}

impl Work {
    /// Tells the instance the servers of `set`, and which of them may be picked at this moment.
    fn tell(&mut self, set: &Arc<ServerSet>, avoid_suspects: bool, now_ms: u64) -> Result<(), Fault> {
        self.hidden.clear();
        let servers = set.servers.iter().zip(0..);
        let is_hidden =
            |server: &crate::server::Server| server.is_full() || (avoid_suspects && server.live.is_suspect(now_ms));
        self.hidden.extend(servers.filter(|(server, _)| is_hidden(server)).map(|(_, index)| index));
        self.generation = set.generation;
        self.told_ms = now_ms;
        self.instance.set_servers(set, &self.hidden)
    }

    fn ask(
        &mut self,
        request: &PickRequest<'_>,
        set: &Arc<ServerSet>,
        counters: &ModuleCounters,
    ) -> Result<Asked, Fault> {
        // Nobody to choose from is no question. Only a retry, or a server that is not available, makes that likely.
        if (request.attempt > 0 || !self.hidden.is_empty()) && is_nobody_open(request) {
            return Ok(Asked::Nobody);
        }
        // A session may still see the servers of a moment ago, or not see yet those that the instance knows.
        let is_same_set = self.generation == request.servers.generation;
        let is_outdated = is_same_set && self.hidden.iter().any(|&index| request.is_open(index as usize));
        if is_outdated && self.may_tell(request) {
            self.tell(set, request.avoid_suspects, request.now_ms)?;
        }
        let asked = self.ask_once(request, is_same_set, counters)?;
        match asked {
            Answer::Good(index) => Ok(Asked::Server(index)),
            Answer::Nobody if is_outdated => Ok(Asked::Unanswered),
            Answer::Nobody => Ok(Asked::Nobody),
            Answer::Outdated if is_nobody_open(request) => Ok(Asked::Nobody),
            Answer::Outdated if is_same_set && self.may_tell(request) => {
                self.tell(set, request.avoid_suspects, request.now_ms)?;
                match self.ask_once(request, is_same_set, counters)? {
                    Answer::Good(index) => Ok(Asked::Server(index)),
                    Answer::Nobody => Ok(Asked::Nobody),
                    Answer::Outdated => Ok(Asked::Unanswered),
                }
            }
            Answer::Outdated => Ok(Asked::Unanswered),
        }
    }

    fn may_tell(&self, request: &PickRequest<'_>) -> bool {
        let thousands = request.len().div_ceil(1_000) as u64;
        request.now_ms >= self.told_ms + thousands * TELL_INTERVAL_MS
    }

    fn ask_once(
        &mut self,
        request: &PickRequest<'_>,
        is_same_set: bool,
        counters: &ModuleCounters,
    ) -> Result<Answer, Fault> {
        let is_timed = self.picks == 0;
        self.picks = (self.picks + 1) % PICKS_PER_TIMED;
        let picked = if is_timed {
            let began_ns = clock::precise_ns();
            let picked = self.instance.pick(request);
            counters.pick_time.observe(clock::precise_ns() - began_ns);
            picked
        } else {
            self.instance.pick(request)
        };
        let Some(id) = picked? else { return Ok(Answer::Nobody) };
        let index = match is_same_set {
            true => self.instance.index_of(id),
            false => request.servers.servers.iter().position(|server| server.id == id),
        };
        let bad = |text: String| Fault { kind: FaultKind::BadAnswer, text: format!("pick answered {id}, {text}") };
        let Some(index) = index else {
            // Only of the very servers it was told does the module have to know.
            return if is_same_set {
                Err(bad("which is no server of the group".to_owned()))
            } else {
                Ok(Answer::Outdated)
            };
        };
        let addr = &request.servers.servers[index].settings.addr;
        match request.why_closed(index) {
            None => Ok(Answer::Good(index)),
            Some(Closed::Tried) => Err(bad(format!("which is {addr} and was tried already"))),
            Some(Closed::Full | Closed::Suspect)
                if is_same_set && self.hidden.binary_search(&(index as u32)).is_ok() =>
            {
                Err(bad(format!("which is {addr} and not available")))
            }
            Some(Closed::Full | Closed::Suspect) => Ok(Answer::Outdated),
        }
    }
}

fn is_nobody_open(request: &PickRequest<'_>) -> bool {
    !(0..request.len()).any(|index| request.is_open(index))
}

/// What an instance answered, checked.
enum Answer {
    Good(usize),
    Nobody,
    /// A server that may not be picked any more, which the module was not told.
    Outdated,
}
