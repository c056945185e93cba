//! What an upgrade does to the parts of a proxy, on either side. The order of the steps, and what holds at each of them, is
//! described in [`upgrade`](crate::upgrade).

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{Proxy, StartError, tell};
use crate::admin::{AdminServer, Sockets};
use crate::base::vital;
use crate::config::{AdminSettings, Config};
use crate::control::{Hold, UpgradeError, UpgradeReply, Upgraded};
use crate::counters::EndReason;
use crate::events::{self, AdminEvent, Event, ProcessEvent};
use crate::group::{ForeignSessions, GroupSessions};
use crate::service;
use crate::upgrade::{DRAINING_MAX, Former, Predecessor, Program, Shared, State, Successor, Told};

/// How often the new process is told which sessions are left.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// What serves the admin port.
#[derive(Debug)]
pub(super) struct AdminRun {
    /// Where it listens: what the file says may be for the next start.
    settings: AdminSettings,
    /// By which it can be served anew, or by another process.
    sockets: Sockets,
    /// Ends streams.
    streams: CancellationToken,
    /// Leaves new requests to others.
    resting: CancellationToken,
}

impl AdminRun {
    pub(super) fn new(settings: AdminSettings, sockets: Sockets) -> Self {
        Self { settings, sockets, streams: CancellationToken::new(), resting: CancellationToken::new() }
    }

    /// What ends streams, and what leaves new requests to others, of a server that begins now.
    pub(super) fn begin(
        &mut self,
        draining: &CancellationToken,
        stop_admin: &CancellationToken,
    ) -> (CancellationToken, CancellationToken) {
        (self.streams, self.resting) = (draining.child_token(), stop_admin.child_token());
        (self.streams.clone(), self.resting.clone())
    }

    fn rest(&self) {
        self.streams.cancel();
        self.resting.cancel();
    }

    fn duplicates(&self) -> std::io::Result<Sockets> {
        let pairs = self.sockets.iter().map(|(listen, socket)| Ok((listen.clone(), socket.try_clone()?)));
        pairs.collect::<std::io::Result<HashMap<_, _>>>()
    }
}

/// The process that has taken over, to which this one tells what it still has.
#[derive(Debug)]
pub struct Handed {
    successor: Successor,
    upgraded: Upgraded,
}

impl Handed {
    /// What is told to who asked for the upgrade.
    pub fn upgraded(&self) -> &Upgraded {
        &self.upgraded
    }
}

impl Handed {
    /// Tells the new process to stop, too: somebody wanted that of this one while it was handing over.
    pub fn stop(&self) {
        let pid = i32::try_from(self.upgraded.pid).ok().and_then(Pid::from_raw);
        // It may have ended by itself.
        let _ = pid.map(|pid| kill_process(pid, Signal::TERM));
    }
}

impl Proxy {
    /// As [`Proxy::start`], in place of `before`, the process that hands over. Returns when this process serves.
    ///
    /// # Errors
    ///
    /// As those of [`Proxy::start`], or the other process has ended. If it has not, it goes on; `before` can be told why.
    pub async fn take_over(
        path: PathBuf,
        text: &str,
        config: Config,
        before: &mut Predecessor,
    ) -> Result<Self, StartError> {
        let generation = before.generation();
        let (inherited, admin_sockets) = before.sockets();
        let (proxy, admin) = Self::prepare(path, text, config, inherited, admin_sockets).await?;
        proxy.control.counters().process_generation.store(generation, Relaxed);
        let (former, state) = before.ready().await.map_err(StartError::Before)?;
        let foreign = proxy.take_state(&state);
        vital::kill_at("upgrade-state");
        proxy.go(admin)?;
        former.serving().await;
        let sessions = state.sessions.iter().map(|group| group.sessions).sum();
        tell(ProcessEvent::TakenOver { generation, sessions });
        proxy.follow(former, foreign);
        Ok(proxy)
    }

    fn take_state(&self, state: &State) -> ForeignSessions {
        let groups = self.control.groups();
        for carried in &state.groups {
            if let Some(group) = groups.values().find(|group| group.id().as_str() == carried.id) {
                group.take_over(carried);
            }
        }
        let mut foreign = ForeignSessions::default();
        foreign.set(&state.sessions, |id| groups.get(id).cloned());
        self.draining_before.store(state.draining, Relaxed);
        foreign
    }

    /// Counts the sessions of the process before, and tells the service manager when this one is the service.
    fn follow(&self, former: Former, mut foreign: ForeignSessions) {
        let (control, draining) = (self.control.clone(), self.draining_before.clone());
        let stop = self.stop_admin.clone();
        let follow = async move {
            let mut is_main = false;
            while let Some(told) = stop.run_until_cancelled(former.told()).await {
                let has_ended = matches!(told, Told::Ended);
                if !is_main && (has_ended || matches!(told, Told::Main)) {
                    is_main = true;
                    service::taken_over();
                }
                match told {
                    Told::Main => {}
                    Told::Sessions(groups, count) => {
                        let here = control.groups();
                        foreign.set(&groups, |id| here.get(id).cloned());
                        draining.store(count, Relaxed);
                    }
                    Told::Ended => break,
                }
            }
            drop(foreign);
            draining.store(0, Relaxed);
        };
        self.tasks.spawn(follow);
    }

    /// Completes when somebody asks for an upgrade over HTTP, who waits for the outcome.
    pub async fn upgrade_asked(&self) -> UpgradeReply {
        let asked = self.requests.lock().await.recv().await;
        match asked {
            Some(reply) => reply,
            // Nobody can ask any more.
            None => std::future::pending().await,
        }
    }

    /// Whoever asks for an upgrade over HTTP is refused: this process is no service of its own.
    pub async fn refuse_upgrades(&self) {
        self.requests.lock().await.close();
    }

    /// Has a new process of the program take over. `stop` gives up, as if it had failed.
    ///
    /// # Errors
    ///
    /// It has not taken over; everything is as it was.
    pub async fn upgrade(&self, program: &Program, stop: &CancellationToken) -> Result<Handed, UpgradeError> {
        tell(ProcessEvent::UpgradeBegins { program: program.to_string().into() });
        let outcome = self.try_upgrade(program, stop).await;
        match &outcome {
            Ok(Handed { upgraded: Upgraded { pid, version, sessions_left }, .. }) => {
                tell(ProcessEvent::Upgraded { pid: *pid, version: version.as_str().into(), sessions: *sessions_left });
            }
            Err(UpgradeError::Refused(error)) => tell(ProcessEvent::UpgradeRefused { error: error.as_str().into() }),
            Err(UpgradeError::Failed { step, error }) => {
                tell(ProcessEvent::UpgradeFailed { step, error: error.as_str().into() });
            }
        }
        outcome
    }

    async fn try_upgrade(&self, program: &Program, stop: &CancellationToken) -> Result<Handed, UpgradeError> {
        let refused = |why: &str| Err(UpgradeError::Refused(why.to_owned()));
        if std::process::id() == 1 {
            return refused(
                "this process is PID 1 of its container: replacing it would end the container; replace the container instead",
            );
        }
        if self.draining_before.load(Relaxed) >= DRAINING_MAX {
            return refused("too many processes of former upgrades are draining; wait, or set upgrade_drain_timeout");
        }
        let stopped = || UpgradeError::Refused("the process was told to stop meanwhile".to_owned());
        let started = stop.run_until_cancelled(Successor::start(program)).await;
        let mut successor = started.unwrap_or_else(|| Err(stopped()))?;
        let handed_over = stop.run_until_cancelled(self.hand_over(&mut successor)).await;
        match handed_over.unwrap_or_else(|| Err(stopped())) {
            Ok((hold, unwanted)) => Ok(self.retire(successor, hold, unwanted).await),
            Err(error) => {
                // It must not accept any more when this process does.
                successor.kill().await;
                self.data.resume();
                self.resume_admin();
                Err(error)
            }
        }
    }

    /// Hands over everything; done when the new process serves.
    async fn hand_over(&self, successor: &mut Successor) -> Result<(Hold, Vec<SocketAddr>), UpgradeError> {
        let no_sockets = |error: std::io::Error| UpgradeError::Failed {
            step: "duplicating the listening sockets",
            error: error.to_string(),
        };
        self.control.write_down().await;
        let mut hold = self.control.hold().await.map_err(no_sockets)?;
        let groups = std::mem::take(&mut hold.sockets).into_iter();
        let mut shared: Vec<Shared> = groups.map(|(listen, socket)| Shared::of_group(listen, socket)).collect();
        let admin = self.admin().duplicates().map_err(no_sockets)?;
        shared.extend(admin.into_iter().map(|(listen, socket)| Shared::of_admin(listen, socket)));
        let generation = self.control.counters().process_generation.load(Relaxed).max(1);
        let unused = successor.hand_over(generation, &shared).await?;
        drop(shared);
        self.admin().rest();
        self.data.rest().await;
        successor.serve(self.state()).await?;
        Ok((hold, unused.iter().filter_map(|listen| listen.parse().ok()).collect()))
    }

    fn state(&self) -> State {
        let groups = self.control.groups();
        State {
            groups: groups.values().map(|group| group.carry()).collect(),
            sessions: self.sessions_left(),
            draining: self.draining(),
        }
    }

    fn sessions_left(&self) -> Vec<GroupSessions> {
        let sessions = self.control.groups().values().map(|group| group.sessions()).collect::<Vec<_>>();
        sessions.into_iter().filter(|group| group.sessions > 0 || !group.servers.is_empty()).collect()
    }

    fn draining(&self) -> u32 {
        self.draining_before.load(Relaxed).saturating_add(1)
    }

    /// Leaves everything but the sessions to the new process.
    async fn retire(&self, mut successor: Successor, hold: Hold, unwanted: Vec<SocketAddr>) -> Handed {
        successor.release();
        self.stop.cancel();
        self.stop_checks.cancel();
        self.admin().sockets.clear();
        self.control.leave(hold, unwanted).await;
        service::hand_over(successor.pid()).await;
        successor.is_main().await;
        let (pid, version) = (successor.pid(), successor.version().to_owned());
        let upgraded = Upgraded { pid, version, sessions_left: self.control.sessions().active() };
        Handed { successor, upgraded }
    }

    /// Waits until the sessions that are left have ended, `upgrade_drain_timeout` at most; ends the rest then.
    pub async fn finish(&self, handed: Handed) {
        let limit = Some(self.control.config().upgrade_drain_timeout).filter(|limit| !limit.is_zero());
        let sessions = self.control.sessions();
        tell(ProcessEvent::Draining { sessions: sessions.active(), limit });
        let mut ticks = interval(TELL_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let tell_left = async {
            loop {
                ticks.tick().await;
                if !handed.successor.sessions_left(self.sessions_left(), self.draining()).await {
                    return std::future::pending::<()>().await;
                }
            }
        };
        let is_late = async {
            match limit {
                Some(limit) => sleep_until(Instant::now() + limit).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = sessions.all_ended() => return,
            () = is_late => {}
            () = tell_left => {}
        }
        tell(ProcessEvent::DrainOver { sessions: sessions.end_all(None, EndReason::Drained) });
        self.wait_for_sessions(super::END_TIME_MAX).await;
    }

    fn resume_admin(&self) {
        if !self.admin().resting.is_cancelled() {
            return;
        }
        let settings = self.admin().settings.clone();
        let served = self.admin().duplicates().and_then(|mut sockets| AdminServer::bind(&settings, &mut sockets));
        match served {
            Ok(admin) => self.serve_admin(admin),
            Err(error) => {
                events::publish(Event::Admin(AdminEvent::NotServed { error: error.to_string().into() }));
                self.failed.cancel();
            }
        }
    }

    pub(super) fn admin(&self) -> MutexGuard<'_, AdminRun> {
        // Everything in it is set in one step.
        self.admin.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use tokio::time::timeout;

    use super::*;
    use crate::control::ChangeError;
    use crate::server::State as ServerState;

    #[tokio::test]
    async fn changes_wait_while_an_upgrade_is_under_way_and_are_made_or_refused_after_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("proxy.json");
        let [admin, group] = [0; 2].map(|_| TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
        let text = format!(
            r#"{{ "admin": {{ "listen": "{admin}" }}, "threads": 1,
                  "groups": [ {{ "listen": "{group}", "name": "web", "servers": ["127.0.0.1:1"] }} ] }}"#
        );
        std::fs::write(&path, &text).unwrap();
        let config = crate::config::parse(&path, &text).unwrap();
        let proxy = Proxy::start(path.clone(), &text, config).await.unwrap();
        let control = proxy.control().clone();
        let (web, server) = (crate::group::GroupId::named("web"), "127.0.0.1:1".parse().unwrap());
        let change = |state| control.set_server_state(&web, &server, state);

        let hold = control.hold().await.unwrap();
        assert_eq!(hold.sockets.iter().map(|(listen, _)| *listen).collect::<Vec<_>>(), [group]);
        let mut waiting = std::pin::pin!(change(ServerState::Drain));
        assert!(timeout(Duration::from_millis(50), &mut waiting).await.is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        drop(hold);
        assert!(waiting.await.is_ok(), "the upgrade has failed");
        let changed = std::fs::read_to_string(&path).unwrap();
        assert!(changed.contains("drain"), "{changed}");

        let hold = control.hold().await.unwrap();
        let mut waiting = std::pin::pin!(change(ServerState::Ready));
        assert!(timeout(Duration::from_millis(50), &mut waiting).await.is_err());
        control.leave(hold, Vec::new()).await;
        assert!(matches!(waiting.await, Err(ChangeError::Upgrading)));
        assert!(matches!(change(ServerState::Ready).await, Err(ChangeError::Upgrading)));
        assert!(TcpListener::bind(group).is_ok(), "nothing listens here any more");
        proxy.stop().await;
        assert_eq!(std::fs::read_to_string(&path).unwrap(), changed, "the file is the new process's");
    }
}
