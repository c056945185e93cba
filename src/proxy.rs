//! Builds the parts, runs them, stops them in order. Nothing else knows that order.
//!
//! Start: descriptors, data threads, ports of the groups, admin port; then the tasks that look after them; then clients are
//! accepted. A process that takes over from another one does all but the last part before that one stops accepting; see
//! `upgrading`.
//! Stop: `/ready` says no for a while; listeners close, sessions end by themselves up to a limit, the rest is ended, then the tasks, the
//! admin port last, so that it answers while sessions drain. What fails at the start stops the start; what
//! fails later without anybody's order ends the process.

mod upgrading;

use std::path::PathBuf;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::{AdminServer, Sockets};
use crate::base::vital;
use crate::config::watch::{self, Others};
use crate::config::{AdminListen, Config};
use crate::control::{
    ChangeError, Control, Runner, UpgradeRequests, close_sessions_of_lost, forget_silent, look_after_certificates,
    look_after_limits, note_silence, write_said,
};
use crate::counters::EndReason;
use crate::data::session::ProxySessionService;
use crate::data::threads::{DataThreads, sessions_max};
use crate::events::{self, AdminEvent, ConfigEvent, Event, PolicyEvent, ProcessEvent};
use crate::health;
use crate::net::Inherited;
use crate::sources::{heartbeat, names};
use crate::status::{self, Online};
use upgrading::AdminRun;
pub use upgrading::Handed;

/// How long sessions that were told to end may take to do so.
const END_TIME_MAX: Duration = Duration::from_secs(2);

/// How long the runner of changes may take to end; one that hangs in a write of the file does not.
const RUNNER_END_MAX: Duration = Duration::from_secs(1);

/// A running proxy.
#[derive(Debug)]
pub struct Proxy {
    control: Control,
    data: Arc<DataThreads>,
    tasks: TaskTracker,
    /// The one task that is not told to end: it does when every handle of `control` is gone, after all others.
    runner: JoinHandle<()>,
    /// Ends the tasks that look after servers and the file.
    stop: CancellationToken,
    /// Ends checks and probes.
    stop_checks: CancellationToken,
    /// Ends the streams of the admin port.
    draining: CancellationToken,
    /// Ends the admin port.
    stop_admin: CancellationToken,
    /// Guards what serves the admin port, and the sockets by which it can be served anew.
    admin: Mutex<AdminRun>,
    path: PathBuf,
    /// Guards who asks for an upgrade over HTTP, of whom one at a time is heard.
    requests: tokio::sync::Mutex<UpgradeRequests>,
    /// Processes before this one that drain, as far as is known.
    draining_before: Arc<AtomicU32>,
    /// Cancelled when something that must not end has ended.
    failed: CancellationToken,
}

/// Why the proxy could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data threads, or the one that tries servers.
    #[error("cannot start the threads")]
    Threads(#[source] std::io::Error),
    /// The port of a group.
    #[error(transparent)]
    Group(#[from] ChangeError),
    /// The process before, from which this one is to take over.
    #[error("cannot take over")]
    Before(#[source] std::io::Error),
    /// The admin port.
    #[error("cannot open the admin port")]
    Admin(#[source] std::io::Error),
}

impl Proxy {
    /// Starts everything that `config`, the meaning of `text`, the content of the file at `path`, asks for.
    /// To be called on the management runtime; returns when clients are accepted.
    ///
    /// # Errors
    ///
    /// A port cannot be opened or the system refuses a thread; nothing is left running.
    pub async fn start(path: PathBuf, text: &str, config: Config) -> Result<Self, StartError> {
        let (proxy, admin) =
            Self::prepare(path, text, config, &mut Inherited::default(), &mut Sockets::default()).await?;
        proxy.go(admin)?;
        Ok(proxy)
    }

    /// Does everything that can fail, with the sockets that were handed over. No client is accepted before [`Proxy::go`].
    async fn prepare(
        path: PathBuf,
        text: &str,
        config: Config,
        inherited: &mut Inherited,
        admin_sockets: &mut Sockets,
    ) -> Result<(Self, AdminServer), StartError> {
        let admin = AdminServer::bind(&config.admin, admin_sockets).map_err(StartError::Admin)?;
        let admin_run = AdminRun::new(config.admin.clone(), admin.share().map_err(StartError::Admin)?);
        let threads = thread_count(config.threads);
        let open_groups = config.groups.iter().filter(|group| group.settings.open).count();
        let descriptors = raise_descriptors();
        // Checks are connections, too.
        let checks =
            if config.groups.iter().any(|group| group.settings.check.is_some()) { health::IN_FLIGHT_MAX } else { 0 };
        let descriptors = descriptors - (checks as u64).min(descriptors / 8);
        let sessions_max = sessions_max(descriptors, threads as u64, open_groups as u64);
        let config_path = path.display().to_string().into();
        let allowed = Some(u64::from(config.max_sessions)).filter(|max| *max > 0);
        let told = sessions_max.min(allowed.unwrap_or(u64::MAX));
        let (version, pid) = (env!("CARGO_PKG_VERSION"), std::process::id());
        tell(ProcessEvent::Starting { version, pid, threads, sessions_max: told, config: config_path });
        let service = Arc::new(ProxySessionService::new(threads, sessions_max));
        let data = DataThreads::start(threads, config.pin_threads, &service, descriptors);
        let data = Arc::new(data.map_err(StartError::Threads)?);
        let failed = data.failed().clone();
        data.rest().await;
        let (control, runner, requests) =
            Runner::start(path.clone(), text, config, service, Arc::clone(&data), inherited).await?;
        let proxy = Self {
            control,
            data,
            tasks: TaskTracker::new(),
            runner: spawn_runner(runner, &failed),
            stop: CancellationToken::new(),
            stop_checks: CancellationToken::new(),
            draining: CancellationToken::new(),
            stop_admin: CancellationToken::new(),
            admin: Mutex::new(admin_run),
            path,
            requests: tokio::sync::Mutex::new(requests),
            draining_before: Arc::new(AtomicU32::new(0)),
            failed,
        };
        Ok((proxy, admin))
    }

    /// Starts the tasks and accepts clients.
    fn go(&self, admin: AdminServer) -> Result<(), StartError> {
        let (running, counters) = (Arc::clone(self.control.running()), Arc::clone(self.control.counters()));
        health::start(running, counters, self.stop_checks.clone()).map_err(StartError::Threads)?;
        self.spawn_tasks();
        self.serve_admin(admin);
        self.data.resume();
        Ok(())
    }

    /// What runs, and how to change it.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// Completes when something that must not end has ended: the process cannot go on.
    pub fn failed(&self) -> impl Future<Output = ()> + use<> {
        let failed = self.failed.clone();
        async move {
            tokio::select! {
                () = failed.cancelled() => {}
                () = vital::failed() => {}
            }
        }
    }

    /// Says no at `/ready` for so long and goes on as before, so that a balancer in front notices.
    pub async fn announce_stop(&self, delay: Duration) {
        if !delay.is_zero() {
            self.control.announce_stop();
            tell(ProcessEvent::ShuttingDown { delay });
            tokio::time::sleep(delay).await;
        }
    }

    /// Stops accepting and waits for the sessions to end by themselves, `limit` at most.
    pub async fn drain(&self, limit: Option<Duration>) {
        self.stop_checks.cancel();
        self.control.drain().await;
        let sessions = self.control.sessions().active();
        tell(ProcessEvent::Draining { sessions, limit });
        self.draining.cancel();
        if !self.wait_for_sessions(limit.unwrap_or(Duration::MAX)).await {
            let ended = self.control.sessions().end_all(None, EndReason::Drained);
            tell(ProcessEvent::DrainOver { sessions: ended });
            self.wait_for_sessions(END_TIME_MAX).await;
        }
    }

    /// Stops everything at once; sessions that are left end with the reason `shutdown`.
    pub async fn stop(self) {
        self.stop_checks.cancel();
        self.control.drain().await;
        if self.control.sessions().end_all(None, EndReason::Shutdown) > 0 {
            self.wait_for_sessions(END_TIME_MAX).await;
        }
        self.stop.cancel();
        self.draining.cancel();
        self.stop_admin.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        let Self { control, data, mut runner, .. } = self;
        drop(control);
        if timeout(RUNNER_END_MAX, &mut runner).await.is_err() {
            runner.abort();
        }
        // A thread never blocks, so this is soon over. It fails only when the runtime is going down already.
        let _ = tokio::task::spawn_blocking(move || data.join()).await;
        tell(ProcessEvent::Stopped);
    }

    /// True when no session is left; false when `limit` is over before.
    async fn wait_for_sessions(&self, limit: Duration) -> bool {
        timeout(limit, self.control.sessions().all_ended()).await.is_ok()
    }

    fn spawn_tasks(&self) {
        let path = self.path.clone();
        let (control, stop) = (&self.control, &self.stop);
        self.spawn("leases", stop, heartbeat::leases(Arc::clone(control.running()), stop.clone()));
        self.spawn("names", stop, names::run(Arc::clone(control.running()), stop.clone()));
        self.spawn("silence", stop, note_silence(control.clone(), stop.clone()));
        self.spawn("lost", stop, close_sessions_of_lost(control.clone(), stop.clone()));
        self.spawn("forget", stop, forget_silent(control.clone(), stop.clone()));
        self.spawn("said", stop, write_said(control.clone(), stop.clone()));
        let reloading = control.clone();
        let reload = move || {
            let control = reloading.clone();
            // `control` logs what comes of it.
            async move { drop(control.look_again().await) }
        };
        self.spawn("watch", stop, watch::watch_file(path, control.last_read(), reload, stop.clone()));
        self.spawn("other files", stop, other_files(control.clone(), stop.clone()));
        self.spawn("certificates", stop, look_after_certificates(control.clone(), stop.clone()));
        self.spawn("limits", stop, look_after_limits(control.clone(), stop.clone()));
        self.spawn("policies", stop, policies(control.clone(), stop.clone()));
        self.spawn("status", stop, write_status(control.clone(), stop.clone()));
    }

    fn serve_admin(&self, admin: AdminServer) {
        let (asked, stop_admin) = (self.control.clone(), self.stop_admin.clone());
        let (streams, resting) = self.admin().begin(&self.draining, &stop_admin);
        let until = resting.clone();
        let served = async move {
            if let Err(error) = admin.run(asked, streams, resting, stop_admin).await {
                events::publish(Event::Admin(AdminEvent::NotServed { error: error.to_string().into() }));
            }
        };
        self.spawn("admin", &until, served);
    }

    /// Runs a task that must not end before it is told to.
    fn spawn(&self, name: &'static str, stop: &CancellationToken, task: impl Future<Output = ()> + Send + 'static) {
        let (stop, failed) = (stop.clone(), self.failed.clone());
        self.tasks.spawn(async move {
            // Also on a panic.
            let by_surprise = failed.drop_guard();
            vital::panic_at(name);
            task.await;
            if stop.is_cancelled() {
                by_surprise.disarm();
            } else {
                tell(ProcessEvent::Failed { task: name });
            }
        });
    }
}

/// Runs what applies changes. Its end by surprise is noticed.
fn spawn_runner(runner: Runner, failed: &CancellationToken) -> JoinHandle<()> {
    let by_surprise = failed.clone().drop_guard();
    #[allow(clippy::disallowed_methods, reason = "its end is noticed, and `stop` waits for it")]
    tokio::spawn(async move {
        runner.run().await;
        by_surprise.disarm();
    })
}

/// Reads the file again whenever another file that it names may have changed, until `stop`.
async fn other_files(control: Control, stop: CancellationToken) {
    let files = control.clone();
    let reload = || async {
        if !control.other_files().is_empty() {
            // `control` logs what comes of it.
            drop(control.look_again().await);
        }
    };
    let is_meant = |event: &Event| matches!(event, Event::Config(ConfigEvent::OtherFilesChanged));
    let others = Others { changes: events::subscribe(), is_meant };
    watch::watch_files(move || files.other_files(), reload, others, stop).await;
}

/// Has modules loaded whose files have become others, until `stop`.
async fn policies(control: Control, stop: CancellationToken) {
    let modules = control.policies().modules().clone();
    let files = modules.clone();
    let look = || async {
        modules.look().await;
        // A file that names a module that was not there yet: now it may be. `control` logs what comes of it.
        if !control.counters().is_last_reload_good() {
            drop(control.look_again().await);
        }
    };
    let is_meant = |event: &Event| matches!(event, Event::Policy(PolicyEvent::FilesChanged));
    let others = Others { changes: events::subscribe(), is_meant };
    watch::watch_files(move || files.files(), look, others, stop).await;
}

/// Writes the status line, at the interval that is in force, until `stop`.
async fn write_status(control: Control, stop: CancellationToken) {
    let interval = || control.config().log.status_interval;
    status::run(events::subscribe(), interval, || status::write(|| online(&control)), stop).await;
}

fn tell(event: ProcessEvent) {
    events::publish(Event::Process(event));
}

fn online(control: &Control) -> Online {
    let groups = control.groups().values().map(|group| (group.view(), group.servers())).collect();
    Online { groups, sessions: control.sessions().list(None, status::NAMED_MAX) }
}

fn thread_count(configured: usize) -> usize {
    match configured {
        0 => std::thread::available_parallelism().map_or(1, Into::into),
        count => count,
    }
}

/// Raises the limit of descriptors as far as the system allows, and tells it.
fn raise_descriptors() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // Refused: then the current limit has to do.
    let descriptors = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    descriptors.unwrap_or(u64::MAX)
}

/// Where the admin port is, for people.
pub fn admin_url(config: &Config) -> String {
    match &config.admin.listen {
        AdminListen::Tcp(addr) => format!("http://{addr}"),
        AdminListen::Unix(_) => config.admin.listen.to_string(),
    }
}
