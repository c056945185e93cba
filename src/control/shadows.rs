//! Shadows: a policy beside the one that serves, asked the same on a thread of its own.
//!
//! Nobody is affected: the policy that serves answers as ever, and what it was asked goes into a bounded queue. The thread
//! fetches that many times a second and asks the candidate, which sees the load that it would have made itself. It runs at
//! low priority, and at most half of the time. A candidate that fails is asked no more, and what it does wrong is shown.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use tokio::time::timeout;

use super::blocking::blocking;
use super::{ChangeError, Control};
use crate::base::text::hex;
use crate::base::vital;
use crate::config::Config;
use crate::events::{self, Event, PolicyEvent};
use crate::group::view::{EvennessView, ShadowFigures, ShadowView};
use crate::group::{Group, Shadow};
use crate::policy::follow::{Books, Following};
use crate::policy::recorded::{Mirror, Note, take_over};
use crate::policy::shadow::{Batch, Tap, Tapped};
use crate::policy::spec::{DEADLINE_RANGE, ModuleSpec, PolicySpec};
use crate::policy::wasm::source::Limits;
use crate::policy::wasm::trial::{Trial, TrialPolicy};
use crate::policy::{IBalancePolicy, built_in};
use crate::server::{Facts, ServerId};

/// Between two looks at what was asked.
const PAUSE: Duration = Duration::from_millis(20);

/// Between two samples of how evenly sessions lie.
const SAMPLE: Duration = Duration::from_secs(1);

/// How nice the thread is to others.
const NICENESS: i32 = 10;

/// A candidate may take so many times its deadline: its thread may have to wait for a processor, which is no fault of its.
const PATIENCE: u32 = 20;

/// Whoever ends a shadow waits so long for that.
const END_TIME_MAX: Duration = Duration::from_secs(5);

/// A candidate, and what it does besides where it is a module.
struct Candidate {
    policy: Arc<dyn IBalancePolicy>,
    module: Option<(Trial, TrialPolicy)>,
}

impl Control {
    /// Tries a policy beside the one that serves.
    ///
    /// # Errors
    ///
    /// The group has a shadow or is recorded, the policy is the one that serves, or its module cannot be used.
    pub async fn start_shadow(&self, group: &Arc<Group>, spec: PolicySpec) -> Result<ShadowView, ChangeError> {
        let _turn = self.shared.recording.lock().await;
        self.is_free(group)?;
        let (serving, live) = group.policy();
        if live == spec {
            return Err(ChangeError::SamePolicy(group.id().clone()));
        }
        let (config, wanted, port) = (self.config(), spec.clone(), group.label().port());
        let made = blocking(move || Ok(candidate(&wanted, &config, port))).await?;
        let candidate = made.map_err(|source| ChangeError::Policy { group: group.id().clone(), source })?;
        let tap = Arc::new(Tap::default());
        let sha256 = candidate.module.as_ref().map(|(trial, _)| hex(&trial.file().sha256));
        let shadow = Arc::new(Shadow::new(Arc::clone(&tap), live.shared_name(), spec.shared_name(), sha256));
        let tapped = Arc::new(Tapped::new(tap, Arc::clone(&serving)));
        if !group.exchange_policy(&serving, Arc::clone(&tapped) as _) {
            return Err(ChangeError::Busy(group.id().clone()));
        }
        let watcher = Watcher {
            group: Arc::downgrade(group),
            shadow: Arc::clone(&shadow),
            tapped: Arc::downgrade(&tapped),
            mirror: Mirror::default(),
            live: Following::given(),
            beside: Following::of(Arc::clone(&candidate.policy)),
            candidate,
            began: Instant::now(),
            sampled: Instant::now(),
            busy: Duration::ZERO,
            has_warned: false,
        };
        if let Err(error) = vital::spawn("shadow", None, move || watcher.watch()) {
            group.exchange_policy(&(Arc::clone(&tapped) as _), tapped.after());
            return Err(ChangeError::RecordFailed(format!("cannot start a thread: {error}")));
        }
        group.set_shadow(Arc::clone(&shadow));
        let (policy, beside) = (Arc::clone(&shadow.live), Arc::clone(&shadow.candidate));
        tell(PolicyEvent::ShadowStarted { group: group.label().clone(), policy, candidate: beside });
        Ok(shadow.view(group.label()))
    }

    /// Neither recorded nor with a shadow.
    pub(super) fn is_free(&self, group: &Group) -> Result<(), ChangeError> {
        if let Some(recording) = group.recording().filter(|recording| recording.is_active()) {
            let file = recording.file.display().to_string();
            return Err(ChangeError::Recording { group: group.id().clone(), file });
        }
        match group.shadow().filter(|shadow| shadow.is_active()) {
            Some(shadow) => {
                let candidate = shadow.candidate.to_string();
                Err(ChangeError::Shadowed { group: group.id().clone(), candidate })
            }
            None => Ok(()),
        }
    }

    /// Ends the shadow of a group.
    ///
    /// # Errors
    ///
    /// It has none.
    pub async fn stop_shadow(&self, group: &Arc<Group>) -> Result<ShadowView, ChangeError> {
        let active = group.shadow().filter(|shadow| shadow.is_active());
        let shadow = active.ok_or_else(|| ChangeError::NotShadowed(group.id().clone()))?;
        shadow.end();
        // A candidate that is being asked may take its deadline.
        let _ = timeout(END_TIME_MAX, shadow.done.cancelled()).await;
        Ok(shadow.view(group.label()))
    }

    /// The shadows of all groups, and the last one of each.
    pub fn shadows(&self) -> Vec<ShadowView> {
        self.groups().values().filter_map(|group| Some(group.shadow()?.view(group.label()))).collect()
    }

    /// Ends all shadows: the process does.
    pub(super) fn end_shadows(&self) {
        self.groups().values().filter_map(|group| group.shadow()).for_each(|shadow| shadow.end());
    }
}

/// Makes a candidate. A module is loaded by itself: what becomes of it concerns no group in which it serves.
fn candidate(spec: &PolicySpec, config: &Config, port: u16) -> Result<Candidate, crate::policy::wasm::ModuleError> {
    match spec {
        PolicySpec::BuiltIn(name) => {
            let policy = built_in::make(name).expect("it is a name of the table");
            Ok(Candidate { policy, module: None })
        }
        PolicySpec::Module(spec) => {
            let limits = Limits { file_bytes_max: config.policy_max_bytes, compile_budget: spec.compile_budget };
            let keys = config.policy_keys.clone().into();
            let trial = Trial::find(&config.policies_dir, &spec.name, limits, &keys)?;
            let deadline = (spec.deadline * PATIENCE).min(*DEADLINE_RANGE.end());
            let module = trial.policy(&ModuleSpec { deadline, ..spec.as_ref().clone() }, port)?;
            Ok(Candidate { policy: Arc::clone(&module.policy), module: Some((trial, module)) })
        }
    }
}

/// Asks a candidate what the policy that serves was asked.
struct Watcher {
    group: Weak<Group>,
    shadow: Arc<Shadow>,
    /// Gone when the group has another policy.
    tapped: Weak<Tapped>,
    /// What was seen last of the servers.
    mirror: Mirror,
    live: Following,
    beside: Following,
    candidate: Candidate,
    began: Instant,
    sampled: Instant,
    /// Processor time of asking, so far.
    busy: Duration,
    has_warned: bool,
}

impl Watcher {
    fn watch(mut self) {
        // Refused: then the thread competes with sessions like any other.
        let _ = rustix::process::setpriority_process(None, NICENESS);
        // What is wrong here is no reason to end the process.
        let watched = catch_unwind(AssertUnwindSafe(|| self.watch_until_it_is_over()));
        self.finish(watched.is_err());
    }

    fn watch_until_it_is_over(&mut self) {
        let (mut batch, mut pause) = (Batch::default(), PAUSE);
        loop {
            thread::park_timeout(pause);
            let began = processor_time();
            self.shadow.tap.take(&mut batch);
            self.take_all(&mut batch);
            if batch.dropped > 0 && !std::mem::replace(&mut self.has_warned, true) {
                self.warn();
            }
            self.look_at_servers();
            let is_last = batch.is_over || self.shadow.is_unwanted.load(Relaxed);
            let is_due = self.sampled.elapsed() >= SAMPLE;
            if is_due {
                self.sampled += SAMPLE;
                self.forget_servers();
                [&mut self.live, &mut self.beside].into_iter().for_each(|it| it.books_mut().sample());
            }
            if is_due || is_last {
                self.show(batch.dropped);
            }
            if is_last {
                return;
            }
            pause = PAUSE.max(processor_time().saturating_sub(began));
        }
    }

    fn take_all(&mut self, batch: &mut Batch) {
        if batch.told.is_empty() {
            return;
        }
        let began = processor_time();
        for told in batch.told.drain(..) {
            self.take(told.note, told.pick);
        }
        self.busy += processor_time().saturating_sub(began);
    }

    fn take(&mut self, note: Note, pick: Option<u64>) {
        for following in [&mut self.live, &mut self.beside] {
            match &note {
                Note::Servers(servers) => following.prepare(servers),
                Note::Gone(set) => following.forget(*set),
                // Of a set of which nothing was told, it makes no sense: never mind.
                Note::Pick(asked) => _ = following.ask(asked, pick),
                Note::Report(report) => following.report(report),
                _ => {}
            }
        }
    }

    /// Connect times and suspicion are the real ones.
    fn look_at_servers(&mut self) {
        let mut changes: Vec<(ServerId, Facts)> = Vec::new();
        for set in self.shadow.tap.sets() {
            let seen = self.mirror.known(&set);
            take_over(&set, &seen, &mut changes);
        }
        for (id, facts) in changes {
            self.beside.learn(id, facts);
        }
    }

    /// Servers that have left the group are looked at no more.
    fn forget_servers(&mut self) {
        let sets = self.shadow.tap.sets();
        let ids: HashSet<ServerId> = sets.iter().flat_map(|set| &set.servers).map(|server| server.id).collect();
        self.mirror.keep(|id| ids.contains(&id));
    }

    fn show(&self, dropped: u64) {
        let (counts, asked) = (self.beside.counts(), self.beside.counts().asked);
        let held: u32 = self.live.books().all_held().iter().sum();
        let module = self.candidate.module.as_ref().map(|(_, module)| module);
        let figures = ShadowFigures {
            elapsed_ms: u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX),
            picks: asked,
            dropped,
            sessions: counts.sessions,
            differ: counts.differ,
            nobody: counts.nobody,
            warming: counts.ended < u64::from(held),
            faults: module.map_or(0, |module| module.counters().faults_total()),
            last_fault: module.and_then(TrialPolicy::last_fault),
            ns_per_pick: u64::try_from(self.busy.as_nanos()).unwrap_or(u64::MAX) / asked.max(1),
            live: evenness(self.live.books()),
            shadow: evenness(self.beside.books()),
        };
        self.shadow.figures.store(Arc::new(figures));
    }

    fn warn(&self) {
        if let Some(group) = self.group.upgrade() {
            let candidate = Arc::clone(&self.shadow.candidate);
            tell(PolicyEvent::ShadowHoles { group: group.label().clone(), candidate });
        }
    }

    /// The policy that serves goes on without the tap.
    fn finish(self, has_failed: bool) {
        self.shadow.tap.end();
        if let Some(group) = self.group.upgrade() {
            if let Some(tapped) = self.tapped.upgrade() {
                let after = tapped.after();
                group.exchange_policy(&(tapped as _), after);
            }
            let (label, candidate) = (group.label().clone(), Arc::clone(&self.shadow.candidate));
            let figures = self.shadow.figures.load();
            let (picks, faults) = (figures.picks, figures.faults);
            tell(match has_failed {
                true => PolicyEvent::ShadowFailed { group: label, candidate },
                false => PolicyEvent::ShadowEnded { group: label, candidate, picks, faults },
            });
        }
        self.shadow.done.cancel();
    }
}

fn evenness(books: &Books) -> EvennessView {
    EvennessView { busiest_over_mean: books.busiest.spread(), jain: books.jain.mean(), cov: books.cov.mean() }
}

/// Of this thread.
fn processor_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

fn tell(event: PolicyEvent) {
    events::publish(Event::Policy(event));
}
