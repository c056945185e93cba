//! Desired state: what an operator or the file says, one change at a time.
//!
//! [`Control`] is the handle that everybody holds: it reads what runs and sends every change to one `runner`,
//! which reads the file, edits it, checks the result, prepares what can fail (ports), saves, and only then changes
//! what runs. So a change is in the file and in effect when its caller hears of it, and a refused one leaves
//! everything as it was. A reload is the same without the edit.
//!
//! Observed state (leases, the addresses of names) does not come here: [`sources`](crate::sources) tells it to the
//! group at once, and the file knows nothing of it.

mod access;
mod blocking;
mod certificates;
mod difference;
mod error;
mod forget;
mod group_param;
mod hand_over;
mod keepalive;
mod limits;
mod listeners;
mod other_files;
mod plan;
mod lost;
mod ready;
mod recordings;
mod reloaded;
mod restore;
mod routes;
mod runner;
mod said;
mod shadows;
mod silence;
mod source;
mod state;
mod upgrading;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

use tokio::sync::{mpsc, oneshot};

pub(crate) use certificates::look_after_certificates;
pub use difference::Difference;
pub use error::ChangeError;
use error::first;
pub(crate) use forget::forget_silent;
pub use group_param::{GroupParam, GroupParamError};
pub use keepalive::{KeepaliveOutcome, REGISTERED_MAX};
pub(crate) use limits::look_after_limits;
pub(crate) use lost::close_sessions_of_lost;
pub use recordings::{RECORD_BYTES, RecordOptions};
pub use restore::check_state_file;
pub(crate) use runner::Runner;
pub(crate) use said::write_said;
pub(crate) use silence::note_silence;
use state::{Cleared, StateFile};
use upgrading::Holding;
pub(crate) use upgrading::{Hold, UpgradeRequests};
pub use upgrading::{UpgradeError, UpgradeReply, Upgraded};

use crate::config::{Config, Edit, Override};
use crate::counters::{EndReason, ProcessCounters};
use crate::data::session::ProxySessionService;
use crate::group::view::{GroupView, ServerView};
use crate::group::{Group, GroupId, Groups};
use crate::policy::factory::Factory;
use crate::policy::spec::PolicySpec;
use crate::server::{ServerAddr, State};
use crate::sources::Running;

/// Changes that may wait; more callers wait to be let in.
const JOBS_MAX: usize = 1_024;

/// What is running, and how to change it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Control {
    shared: Arc<Shared>,
    jobs: mpsc::Sender<Job>,
    upgrades: mpsc::Sender<UpgradeReply>,
}

#[derive(Debug)]
struct Shared {
    running: Arc<Running>,
    policies: Factory,
    sessions: Arc<ProxySessionService>,
    counters: Arc<ProcessCounters>,
    is_ready: AtomicBool,
    /// Addresses that groups wait for.
    waiting: Arc<AtomicUsize>,
    /// No server has to be checked before the process is ready.
    is_checked_once: AtomicBool,
    /// What writes what heartbeats say has been told that there is something, and has not looked yet.
    has_unwritten: AtomicBool,
    /// Hash of the text that was last read for a reload, good or not, or that we wrote.
    last_read: Arc<AtomicU64>,
    state_file: Option<StateFile>,
    /// Guards the beginning of a recording: one at a time.
    recording: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
enum Job {
    Change(Change, oneshot::Sender<Result<(), ChangeError>>),
    /// `is_asked`: by an operator, who is told also when there is nothing to do.
    Reload {
        is_asked: bool,
        reply: oneshot::Sender<Result<Difference, ChangeError>>,
    },
    /// Drops overrides of the state file; answers how many.
    Clear(Cleared, oneshot::Sender<Result<usize, ChangeError>>),
    Drain(oneshot::Sender<()>),
    /// No change is made until another process has taken over, or has not.
    Hold(Holding),
}

/// One edit of the file, and what goes with it beside the file.
#[derive(Clone, Debug)]
struct Change {
    edit: Edit,
    addresses: Vec<SocketAddr>,
}

impl Control {
    /// The groups that exist now.
    pub fn groups(&self) -> Arc<Groups> {
        self.shared.running.groups.load_full()
    }

    /// The group that a request means.
    ///
    /// # Errors
    ///
    /// [`ChangeError::GroupNotFound`], or [`ChangeError::GroupAmbiguous`] for a port that several groups have.
    pub fn group(&self, group: &GroupParam) -> Result<Arc<Group>, ChangeError> {
        let groups = self.shared.running.groups.load();
        let not_found = || ChangeError::GroupNotFound(group.clone());
        match group {
            GroupParam::Port(port) => {
                if let Some(found) = groups.get(&GroupId::from(*port)) {
                    return Ok(Arc::clone(found));
                }
                let has_port =
                    |found: &&Arc<Group>| found.snapshot().settings.listen.iter().any(|listen| listen.port() == *port);
                let found: Vec<&Arc<Group>> = groups.values().filter(has_port).collect();
                match found[..] {
                    [] => Err(not_found()),
                    [one] => Ok(Arc::clone(one)),
                    _ => {
                        let names: Vec<&str> = found.iter().map(|found| found.id().as_str()).collect();
                        Err(ChangeError::GroupAmbiguous { port: *port, names: names.join(", ") })
                    }
                }
            }
            GroupParam::Listen(addr) => {
                let is_meant =
                    |found: &&Arc<Group>| found.snapshot().settings.listen.iter().any(|listen| listen == *addr);
                groups.values().find(is_meant).cloned().ok_or_else(not_found)
            }
            GroupParam::Name(name) => groups.get(&GroupId::named(name)).cloned().ok_or_else(not_found),
        }
    }

    /// The group that a request wants opened; a port that no group has is that of a new one.
    ///
    /// # Errors
    ///
    /// [`ChangeError::CannotOpen`] for a name or an address that no group has.
    pub fn group_to_open(&self, group: &GroupParam) -> Result<GroupId, ChangeError> {
        match (self.group(group), group.as_port()) {
            (Ok(found), _) => Ok(found.id().clone()),
            (Err(ChangeError::GroupNotFound(_)), Some(port)) => Ok(port.into()),
            (Err(ChangeError::GroupNotFound(group)), None) => Err(ChangeError::CannotOpen(group)),
            (Err(error), _) => Err(error),
        }
    }

    /// The group of this id.
    ///
    /// # Errors
    ///
    /// [`ChangeError::GroupNotFound`].
    pub(crate) fn group_at(&self, id: &GroupId) -> Result<Arc<Group>, ChangeError> {
        self.shared.running.groups.load().get(id).cloned().ok_or_else(|| ChangeError::GroupNotFound(id.into()))
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        self.shared.running.config.load_full()
    }

    /// All sessions.
    pub fn sessions(&self) -> &Arc<ProxySessionService> {
        &self.shared.sessions
    }

    /// What makes policies, and the modules in use.
    pub fn policies(&self) -> &Factory {
        &self.shared.policies
    }

    /// What is counted for the process.
    pub fn counters(&self) -> &Arc<ProcessCounters> {
        &self.shared.counters
    }

    /// Hash of the text that was last read, by which the watcher knows a change.
    pub(crate) fn last_read(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.shared.last_read)
    }

    /// What runs, as those see it who observe servers.
    pub(crate) fn running(&self) -> &Arc<Running> {
        &self.shared.running
    }

    /// Sets what an operator wants of a server.
    ///
    /// # Errors
    ///
    /// Group or server unknown, or the file cannot be written.
    pub async fn set_server_state(
        &self,
        group: &GroupId,
        server: &ServerAddr,
        state: State,
    ) -> Result<ServerView, ChangeError> {
        let not_found = || ChangeError::ServerNotFound { group: group.clone(), server: server.clone() };
        // The file may know nothing of one address of a name, so it cannot refuse one that is not there.
        if server.is_one_of_name() && self.group_at(group)?.server(server).is_none() {
            return Err(not_found());
        }
        let addr = server.clone();
        self.edit(Edit::SetServer { group: group.clone(), addr, weight: None, state: Some(state), labels: None })
            .await?;
        let running = self.group_at(group)?;
        running.state_set(server);
        running.server(server).ok_or_else(not_found)
    }

    /// Opens a group's port; makes the group, on `0.0.0.0`, if it is new.
    ///
    /// # Errors
    ///
    /// The port cannot be opened, or the file cannot be written.
    pub async fn open_group(&self, group: &GroupId, policy: Option<PolicySpec>) -> Result<GroupView, ChangeError> {
        self.edit(Edit::OpenGroup { group: group.clone(), policy }).await?;
        Ok(self.group_at(group)?.view())
    }

    /// Stops listening on a group's port. Its sessions live on unless `close_sessions`.
    /// Answers how many sessions it had.
    ///
    /// # Errors
    ///
    /// Group unknown, or the file cannot be written.
    pub async fn close_group(&self, group: &GroupId, close_sessions: bool) -> Result<u64, ChangeError> {
        self.edit(Edit::CloseGroup { group: group.clone() }).await?;
        let closed = self.group_at(group)?;
        if close_sessions {
            return Ok(self.sessions().end_all(Some(&closed), EndReason::Killed) as u64);
        }
        Ok(closed.view().sessions)
    }

    /// Gives a group another policy; no session is touched.
    ///
    /// # Errors
    ///
    /// Group unknown, or the file cannot be written.
    pub async fn set_policy(&self, group: &GroupId, policy: PolicySpec) -> Result<GroupView, ChangeError> {
        self.edit(Edit::SetPolicy { group: group.clone(), policy }).await?;
        Ok(self.group_at(group)?.view())
    }

    /// Reads the file again and applies the difference to what runs.
    ///
    /// # Errors
    ///
    /// The file cannot be read, has mistakes, or names a port that cannot be opened.
    pub async fn reload(&self) -> Result<Difference, ChangeError> {
        self.reload_for(true).await
    }

    /// The same, because a file may have changed: says nothing where there is nothing to do.
    ///
    /// # Errors
    ///
    /// As [`Control::reload`].
    pub(crate) async fn look_again(&self) -> Result<Difference, ChangeError> {
        self.reload_for(false).await
    }

    async fn reload_for(&self, is_asked: bool) -> Result<Difference, ChangeError> {
        let (reply, answer) = oneshot::channel();
        self.send(Job::Reload { is_asked, reply }, answer).await?
    }

    /// The state file and what it says.
    ///
    /// # Errors
    ///
    /// [`ChangeError::NoStateFile`].
    pub fn overrides(&self) -> Result<(PathBuf, Vec<Override>), ChangeError> {
        let state = self.shared.state_file.as_ref().ok_or(ChangeError::NoStateFile)?;
        Ok((state.path().to_owned(), state.overlay().overrides().to_vec()))
    }

    /// Drops what changes over HTTP have said of a group, of one of its servers, or of everything, so that the file is in force
    /// there. Servers that have a lease stay. Answers how much was dropped.
    ///
    /// # Errors
    ///
    /// [`ChangeError::NoStateFile`], or the state file cannot be written.
    pub async fn clear_overrides(
        &self,
        group: Option<GroupId>,
        server: Option<ServerAddr>,
    ) -> Result<usize, ChangeError> {
        let (reply, answer) = oneshot::channel();
        self.send(Job::Clear(Cleared { group, server }, reply), answer).await?
    }

    /// Closes every listener and refuses changes from now on; heartbeats are still taken.
    pub(crate) async fn drain(&self) {
        self.write_down().await;
        self.close_listeners().await;
    }

    /// Writes into the file what it is to be told and has waited so far. Nothing of this is a reason to stop stopping.
    pub(crate) async fn write_down(&self) {
        self.write_said_by(u64::MAX).await;
        // Without a note a silent server has a lease at the next start.
        let _ = self.note_silence().await;
    }

    /// Closes every listener and refuses changes from now on.
    pub(crate) async fn close_listeners(&self) {
        self.announce_stop();
        self.end_recordings();
        self.end_shadows();
        let (reply, answer) = oneshot::channel();
        // A runner that is gone has no listener left.
        let _ = self.send(Job::Drain(reply), answer).await;
    }

    async fn edit(&self, edit: Edit) -> Result<(), ChangeError> {
        self.change(Change { edit, addresses: Vec::new() }).await
    }

    /// Makes many changes, which are saved together where that can be done.
    async fn edit_all(&self, edits: Vec<Edit>) -> Vec<Result<(), ChangeError>> {
        let mut answers = Vec::new();
        for edit in edits {
            let (reply, answer) = oneshot::channel();
            // A runner that is gone drops the reply.
            let _ = self.jobs.send(Job::Change(Change { edit, addresses: Vec::new() }, reply)).await;
            answers.push(answer);
        }
        let mut outcomes = Vec::new();
        for answer in answers {
            outcomes.push(answer.await.unwrap_or(Err(ChangeError::Stopping)));
        }
        outcomes
    }

    async fn change(&self, change: Change) -> Result<(), ChangeError> {
        let (reply, answer) = oneshot::channel();
        self.send(Job::Change(change, reply), answer).await?
    }

    async fn send<T>(&self, job: Job, answer: oneshot::Receiver<T>) -> Result<T, ChangeError> {
        self.jobs.send(job).await.map_err(|_| ChangeError::Stopping)?;
        answer.await.map_err(|_| ChangeError::Stopping)
    }
}
