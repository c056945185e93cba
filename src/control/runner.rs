//! The runner: takes one change after the other from plan to effect.
//!
//! Plan (read the file, edit it, check it), prepare (make policies, bind the ports that will be opened), save, commit.
//! Everything that can fail comes before the save; the commit cannot. Registrations that wait together are
//! saved together, so that thousands of servers that come at once cost a few writes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use tokio::sync::{mpsc, oneshot};

use super::access::AccessLogs;
use super::blocking::blocking;
use super::difference::{Difference, by_id};
use super::listeners::{Bound, Listeners};
use super::other_files::tell_stand_ins;
use super::plan::{self, Plan};
use super::reloaded::tell;
use super::restore::restore;
use super::routes::set_routes;
use super::silence::silence_of_gone;
use super::source::check_sources;
use super::state::{self, Cleared, StateFile};
use super::upgrading::{Holding, UpgradeRequests};
use super::{Change, ChangeError, Control, JOBS_MAX, Job, Shared};
use crate::base::label::GroupLabel;
use crate::base::vital;
use crate::config::{self, Config, Edit};
use crate::counters::ProcessCounters;
use crate::data::session::ProxySessionService;
use crate::data::threads::{DataThreads, ListenerId};
use crate::events::{self, ConfigEvent, Event};
use crate::group::{Group, GroupId, GroupSettings, Groups};
use crate::log;
use crate::net::Inherited;
use crate::policy::IBalancePolicy;
use crate::policy::factory::Factory;
use crate::server::ServerSettings;
use crate::sources::Running;

/// Changes that are saved together at most.
const BATCH_MAX: usize = 256;

/// Applies changes, one batch at a time. Owns the listeners.
#[derive(Debug)]
pub(crate) struct Runner {
    path: PathBuf,
    shared: Arc<Shared>,
    listeners: Listeners,
    jobs: mpsc::Receiver<Job>,
    access_logs: AccessLogs,
    /// Hash of the text that is in force.
    in_force: u64,
    is_draining: bool,
    /// Another process has taken over: the file is its own now.
    has_left: bool,
}

type Reply = oneshot::Sender<Result<(), ChangeError>>;

/// Policies that are made and not yet used, by the group.
type Policies = BTreeMap<GroupId, Arc<dyn IBalancePolicy>>;

/// What is to be done to the configuration.
enum Task {
    Reload,
    Edit(Vec<Change>),
    Clear(Cleared),
}

/// A configuration, and what was made for it beforehand because that can fail.
struct Prepared {
    config: Config,
    /// Hash of its text.
    in_force: u64,
    bound: Bound,
    policies: Policies,
    access_logs: AccessLogs,
}

impl Runner {
    /// Starts with what the file said at the start: opens the groups' ports, or takes the sockets that were handed over.
    ///
    /// # Errors
    ///
    /// [`ChangeError::Listen`] for the first port that cannot be opened.
    pub(crate) async fn start(
        path: PathBuf,
        text: &str,
        config: Config,
        sessions: Arc<ProxySessionService>,
        threads: Arc<DataThreads>,
        inherited: &mut Inherited,
    ) -> Result<(Control, Self, UpgradeRequests), ChangeError> {
        let (config, state_file) = restore(&path, text, config).await?;
        let (sender, jobs) = mpsc::channel(JOBS_MAX);
        let empty = Config { groups: Vec::new(), ..config.clone() };
        let shared = Arc::new(Shared {
            running: Arc::new(Running::new(empty)),
            policies: Factory::new(
                config.policies_dir.clone(),
                config.policy_max_bytes,
                config.policy_keys.clone().into(),
            ),
            sessions,
            counters: Arc::new(ProcessCounters::default()),
            is_ready: AtomicBool::new(false),
            waiting: Arc::default(),
            is_checked_once: AtomicBool::new(false),
            has_unwritten: AtomicBool::new(false),
            last_read: Arc::default(),
            state_file,
            recording: tokio::sync::Mutex::default(),
        });
        let (upgrades, requests) = mpsc::channel(1);
        let control = Control { shared: Arc::clone(&shared), jobs: sender, upgrades };
        let listeners = Listeners::new(threads, Arc::clone(&shared.waiting));
        let access_logs = AccessLogs::default();
        let mut runner =
            Self { path, shared, listeners, jobs, access_logs, in_force: 0, is_draining: false, has_left: false };
        let bound = runner.listeners.bind(&config, inherited)?;
        let access_logs = runner.access_logs.prepare(&config).await?;
        let mut policies = Policies::new();
        for settings in config.groups.iter().map(|group| &group.settings) {
            let made = runner.shared.policies.make_anyway(&settings.policy, &label(settings)).await;
            policies.insert(settings.id(), made);
        }
        let prepared = Prepared { config, in_force: config::file::hash(text.as_bytes()), bound, policies, access_logs };
        let _no_listener_to_close = runner.commit(prepared, &[]);
        runner.shared.is_ready.store(true, Relaxed);
        Ok((control, runner, requests))
    }

    /// Applies what is asked for until every [`Control`] is gone.
    pub(crate) async fn run(mut self) {
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                count = self.jobs.recv_many(&mut batch, BATCH_MAX) => {
                    if count == 0 {
                        return;
                    }
                }
                () = self.listeners.next_try() => {
                    let groups = self.shared.running.groups.load_full();
                    self.listeners.try_again(&groups).await;
                    continue;
                }
            }
            vital::panic_at("runner");
            let mut edits: Vec<(Change, Reply)> = Vec::new();
            for job in batch.drain(..) {
                match job {
                    Job::Change(change, reply) if is_light(&change.edit) => edits.push((change, reply)),
                    heavy => {
                        self.change(std::mem::take(&mut edits)).await;
                        self.run_one(heavy).await;
                    }
                }
            }
            self.change(edits).await;
        }
    }

    async fn run_one(&mut self, job: Job) {
        match job {
            Job::Change(change, reply) => self.change(vec![(change, reply)]).await,
            Job::Reload { is_asked, reply } => {
                let outcome = self.reload().await;
                if !self.has_left {
                    tell(&self.shared.counters, &self.path, &outcome, is_asked);
                }
                // Whoever asked may be gone.
                let _ = reply.send(outcome);
            }
            Job::Clear(cleared, reply) => {
                let outcome = self.clear(cleared).await;
                let _ = reply.send(outcome);
            }
            Job::Drain(reply) => {
                self.is_draining = true;
                self.listeners.close_all().await;
                let _ = reply.send(());
            }
            Job::Hold(Holding { held, release }) => {
                // Whoever is to hand the sockets over may be gone; then nothing is held.
                let _ = held.send(self.listeners.share().await);
                if let Ok(unwanted) = release.await {
                    self.has_left = true;
                    self.listeners.leave_all(&unwanted).await;
                }
            }
        }
    }

    async fn change(&mut self, edits: Vec<(Change, Reply)>) {
        if edits.is_empty() {
            return;
        }
        let (changes, replies): (Vec<Change>, Vec<Reply>) = edits.into_iter().unzip();
        let outcomes = match self.apply(Task::Edit(changes)).await {
            Ok((outcomes, _)) => outcomes,
            Err(error) => vec![Err(error); replies.len()],
        };
        for (reply, outcome) in replies.into_iter().zip(outcomes) {
            // Whoever asked may be gone; the change stays.
            let _ = reply.send(outcome);
        }
    }

    async fn reload(&mut self) -> Result<Difference, ChangeError> {
        self.apply(Task::Reload).await.map(|(_, difference)| difference)
    }

    async fn clear(&mut self, cleared: Cleared) -> Result<usize, ChangeError> {
        let state = self.shared.state_file.as_ref().ok_or(ChangeError::NoStateFile)?;
        let before = state.overlay().overrides().len();
        self.apply(Task::Clear(cleared)).await?;
        let after = self.shared.state_file.as_ref().map_or(0, |state| state.overlay().overrides().len());
        Ok(before.saturating_sub(after))
    }

    /// Plan, prepare, save, commit.
    async fn apply(&mut self, task: Task) -> Result<(Vec<Result<(), ChangeError>>, Difference), ChangeError> {
        if self.has_left {
            return Err(ChangeError::Upgrading);
        }
        if self.is_draining {
            return Err(ChangeError::Stopping);
        }
        let (changes, cleared) = match task {
            Task::Reload => (Vec::new(), None),
            Task::Edit(changes) => (changes, None),
            Task::Clear(cleared) => (Vec::new(), Some(cleared)),
        };
        let is_reload = changes.is_empty() && cleared.is_none();
        let Some(plan) = self.plan(&changes, cleared, is_reload).await? else {
            return Ok((Vec::new(), Difference::default()));
        };
        check_sources(&plan.config, &self.shared.running)?;
        let policies = self.make_policies(&plan.config).await?;
        let bound = self.listeners.bind(&plan.config, &mut Inherited::default())?;
        let access_logs = self.access_logs.prepare(&plan.config).await?;
        let hash = config::file::hash(plan.new_text.as_bytes());
        if plan.new_text != plan.old_text {
            let (path, text) = (self.path.clone(), plan.new_text);
            let old = plan.old_form.then_some(plan.old_text);
            blocking(move || plan::save(&path, &text, old.as_deref())).await?;
        }
        if let Some((state, overlay)) = self.shared.state_file.as_ref().zip(plan.overlay) {
            state.keep(overlay, is_reload).await?;
            state::tell(&plan.overruled);
        }
        let done: Vec<&Change> = changes
            .iter()
            .zip(&plan.outcomes)
            .filter(|(_, outcome)| outcome.is_ok())
            .map(|(change, _)| change)
            .collect();
        let prepared = Prepared { config: plan.config, in_force: hash, bound, policies, access_logs };
        let keys = prepared.config.policy_keys.clone().into();
        let (difference, to_close) = self.commit(prepared, &done);
        self.shared.policies.modules().use_keys(keys).await;
        self.listeners.close(to_close).await;
        Ok((plan.outcomes, difference))
    }

    /// What the file will say, and what will lie over it; `None` for a reload that has nothing to do.
    async fn plan(
        &self,
        changes: &[Change],
        cleared: Option<Cleared>,
        is_reload: bool,
    ) -> Result<Option<Plan>, ChangeError> {
        let leased = if is_reload { Vec::new() } else { self.leased() };
        let (path, in_force) = (self.path.clone(), self.in_force);
        let edits: Vec<Edit> = changes.iter().map(|change| change.edit.clone()).collect();
        let (last_read, running) = (Arc::clone(&self.shared.last_read), self.shared.running.config.load_full());
        let overlay = self.shared.state_file.as_ref().map(StateFile::overlay);
        blocking(move || {
            let overlay = match cleared {
                Some(Cleared { group, server }) => {
                    overlay.map(|overlay| overlay.without(group.as_ref(), server.as_ref()).into())
                }
                None => overlay,
            };
            match is_reload {
                true => plan::read(&path, in_force, &running, &last_read, overlay.as_deref()),
                false => plan::plan(&path, edits, leased, &running, overlay.as_deref()).map(Some),
            }
        })
        .await
    }

    /// Servers that live by their leases: they stay in the file even if an old copy of it was put back.
    fn leased(&self) -> Vec<(GroupId, ServerSettings)> {
        let groups = self.shared.running.groups.load();
        groups.iter().flat_map(|(id, group)| group.leased().into_iter().map(|server| (id.clone(), server))).collect()
    }

    /// Makes the policies that `config` names and the groups do not have yet.
    async fn make_policies(&self, config: &Config) -> Result<Policies, ChangeError> {
        let running = self.shared.running.groups.load_full();
        let keys = config.policy_keys.clone().into();
        let mut policies = Policies::new();
        for settings in config.groups.iter().map(|group| &group.settings) {
            let (id, group) = (settings.id(), running.get(&settings.id()));
            if group.is_none_or(|group| group.snapshot().settings.policy != settings.policy) {
                // That of a group that runs follows it to another port.
                let label = group.map_or_else(|| label(settings), |group| group.label().clone());
                let made = self.shared.policies.make(&settings.policy, &label, &keys).await;
                policies.insert(id.clone(), made.map_err(|source| ChangeError::Policy { group: id, source })?);
            }
        }
        Ok(policies)
    }

    /// Makes `config` the one that runs. Answers what changed, and the listeners that have to be closed.
    fn commit(&mut self, prepared: Prepared, done: &[&Change]) -> (Difference, Vec<ListenerId>) {
        let Prepared { config, in_force, mut bound, mut policies, access_logs } = prepared;
        let old = self.shared.running.config.load_full();
        let mut difference = Difference::between(&old, &config);
        if done.is_empty() {
            difference.add_words(&old, &config);
        }
        let before = by_id(&old);
        let running = self.shared.running.groups.load_full();
        let known = silence_of_gone(&running, &config);
        let mut groups = Groups::new();
        let mut to_close = Vec::new();
        for wanted in &config.groups {
            let id = wanted.settings.id();
            let (registered, removed) = plan::beside_the_file(&id, done);
            let is_new_here = !registered.is_empty() || !removed.is_empty();
            let policy = policies.remove(&id);
            let group = match (running.get(&id), policy) {
                (Some(group), policy) => {
                    self.listeners.follow(group, &wanted.settings);
                    if before.get(&id) != Some(&wanted) || is_new_here {
                        group.apply(wanted.settings.clone(), wanted.servers.clone(), policy, &registered, &removed);
                    }
                    Arc::clone(group)
                }
                (None, policy) => {
                    let policy = policy.expect("a policy was made for every group that is new");
                    Arc::new(Group::after(wanted.settings.clone(), wanted.servers.clone(), policy, &known))
                }
            };
            groups.insert(id, group);
        }
        // Nobody is accepted before it is known where clients go.
        set_routes(&groups);
        for settings in config.groups.iter().map(|group| &group.settings) {
            to_close.extend(self.listeners.open(settings, &groups[&settings.id()], &mut bound));
        }
        to_close.extend(self.listeners.take_unwanted(&running, &groups));
        self.access_logs.commit(access_logs, &groups, &config);
        self.publish(groups, config, in_force, !difference.is_empty());
        (difference, to_close)
    }

    fn publish(&mut self, groups: Groups, config: Config, in_force: u64, is_other: bool) {
        log::set_lines(config.log.level, config.log.sessions);
        self.shared.sessions.set_limits(config.max_sessions, config.session_rate.as_ref());
        let old = self.shared.running.config.load_full();
        self.shared.running.publish(groups, config);
        let config = self.shared.running.config.load_full();
        if old.other_files != config.other_files {
            events::publish(Event::Config(ConfigEvent::OtherFilesChanged));
        }
        tell_stand_ins(&old, &config);
        // A secret or a list in another file may be a new one.
        if self.in_force != in_force || is_other {
            self.in_force = in_force;
            self.shared.last_read.store(in_force, Relaxed);
            let counters = &self.shared.counters;
            counters.reload_succeeded(counters.config_generation() + 1);
        }
    }
}

/// Changes of servers only: they need no port and may be saved together.
fn is_light(edit: &Edit) -> bool {
    matches!(
        edit,
        Edit::AddServer { .. } | Edit::SetServer { .. } | Edit::RemoveServer { .. } | Edit::NoteSilence { .. }
    )
}

/// What a group is called that does not run yet.
fn label(settings: &GroupSettings) -> GroupLabel {
    GroupLabel::new(settings.listen.port(), settings.name.as_deref())
}
