//! The new process, as the old one sees it.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, ExitStatus};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::timeout;

use super::link::{AsyncLink, pair};
use super::message::{FromNew, FromOld, Kind, Listening, State};
use super::{HELLO_MAX, PROTOCOL, Program, READY_MAX, SERVING_MAX};
use crate::base::text::one_line;
use crate::base::vital;
use crate::control::UpgradeError;
use crate::group::GroupSessions;

/// How long a process may take to end that has closed its end of the pair, or was killed.
const END_MAX: Duration = Duration::from_secs(2);

/// The longest reason of the new process that is told, in characters.
const REASON_CHARS_MAX: usize = 400;

/// The new process. It is killed when this is dropped before [`Successor::release`].
#[derive(Debug)]
pub(crate) struct Successor {
    /// `None` once it is on its own.
    child: Option<Child>,
    link: AsyncLink,
    pid: u32,
    version: String,
}

/// A listening socket that is handed over.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) kind: Kind,
    /// `ip:port` or `unix:PATH`.
    pub(crate) listen: String,
    pub(crate) socket: OwnedFd,
}

impl Shared {
    /// The socket of a group.
    pub(crate) fn of_group(listen: SocketAddr, socket: OwnedFd) -> Self {
        Self { kind: Kind::Group, listen: listen.to_string(), socket }
    }

    /// A socket of the admin port.
    pub(crate) fn of_admin(listen: String, socket: OwnedFd) -> Self {
        Self { kind: Kind::Admin, listen, socket }
    }
}

impl Successor {
    /// Starts it and waits until it says hello.
    ///
    /// # Errors
    ///
    /// The program cannot be started, is another one, or speaks another protocol.
    pub(crate) async fn start(program: &Program) -> Result<Self, UpgradeError> {
        const STEP: &str = "starting the new process";
        let failed = |error: String| UpgradeError::Failed { step: STEP, error };
        let (ours, theirs) = pair().map_err(|error| failed(error.to_string()))?;
        let link = AsyncLink::new(ours).map_err(|error| failed(error.to_string()))?;
        let starting = program.clone();
        // A file system may be slow, or hang.
        let started = tokio::task::spawn_blocking(move || starting.start(theirs)).await;
        let child = started
            .unwrap_or_else(|gone| Err(io::Error::other(gone)))
            .map_err(|error| failed(format!("{}: {error}", program.path().display())))?;
        let mut new = Self { pid: child.id(), child: Some(child), link, version: String::new() };
        match new.receive(STEP, HELLO_MAX).await? {
            FromNew::Hello { protocol: PROTOCOL, pid, version } if pid == new.pid => {
                new.version = version;
                Ok(new)
            }
            FromNew::Hello { protocol, version, .. } if protocol != PROTOCOL => Err(failed(format!(
                "version {} speaks protocol {protocol} of upgrades; expected {PROTOCOL}, so restart the service instead",
                one_line(&version, REASON_CHARS_MAX)
            ))),
            other => Err(unexpected(STEP, &other)),
        }
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// The version of its program.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// Hands over listening sockets and waits until everything is done that can fail. Answers where it does not listen.
    ///
    /// # Errors
    ///
    /// It says why it cannot, ends, or takes too long.
    pub(crate) async fn hand_over(&mut self, generation: u64, shared: &[Shared]) -> Result<Vec<String>, UpgradeError> {
        const STEP: &str = "waiting until the new process is ready";
        let sockets = shared.iter().map(|it| Listening { kind: it.kind, listen: it.listen.clone() }).collect();
        let fds: Vec<_> = shared.iter().map(|it| it.socket.as_fd()).collect();
        self.send("handing over the listening sockets", &FromOld::Sockets { generation, sockets }, &fds).await?;
        match self.receive(STEP, READY_MAX).await? {
            FromNew::Ready { unused } => Ok(unused),
            other => Err(unexpected(STEP, &other)),
        }
    }

    /// Hands over what was observed, and waits until clients are accepted.
    ///
    /// # Errors
    ///
    /// It ends or takes too long.
    pub(crate) async fn serve(&mut self, state: State) -> Result<(), UpgradeError> {
        const STEP: &str = "waiting until the new process serves";
        self.send("handing over the state", &FromOld::State(state), &[]).await?;
        vital::kill_at("upgrade-told");
        match self.receive(STEP, SERVING_MAX).await? {
            FromNew::Serving => Ok(()),
            other => Err(unexpected(STEP, &other)),
        }
    }

    /// It is on its own from now on.
    pub(crate) fn release(&mut self) {
        self.child = None;
    }

    /// Tells it that it is the service now. What cannot be told it learns by the end of this process.
    pub(crate) async fn is_main(&self) {
        let _ = self.link.send(&FromOld::Main, &[]).await;
    }

    /// Tells it which sessions are left here; false when it has ended.
    pub(crate) async fn sessions_left(&self, groups: Vec<GroupSessions>, draining: u32) -> bool {
        self.link.send(&FromOld::Sessions { groups, draining }, &[]).await.is_ok()
    }

    /// Ends it.
    pub(crate) async fn kill(mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = timeout(END_MAX, ended(child)).await;
        }
    }

    async fn send(
        &mut self,
        step: &'static str,
        message: &FromOld,
        fds: &[std::os::fd::BorrowedFd<'_>],
    ) -> Result<(), UpgradeError> {
        match timeout(SERVING_MAX, self.link.send(message, fds)).await {
            Ok(Ok(())) => Ok(()),
            // It has ended, and may have said why.
            Ok(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.receive(step, SERVING_MAX).await.and_then(|other| Err(unexpected(step, &other)))
            }
            Ok(Err(error)) => Err(UpgradeError::Failed { step, error: error.to_string() }),
            Err(_elapsed) => Err(too_late(step, SERVING_MAX)),
        }
    }

    /// What it says next; that it cannot go on is an error.
    async fn receive(&mut self, step: &'static str, time_max: Duration) -> Result<FromNew, UpgradeError> {
        let failed = |error: String| Err(UpgradeError::Failed { step, error });
        match timeout(time_max, self.link.receive()).await {
            Ok(Ok(Some(FromNew::Failed { error }))) => failed(one_line(&error, REASON_CHARS_MAX)),
            Ok(Ok(Some(message))) => Ok(message),
            Ok(Ok(None)) => failed(self.how_it_ended().await),
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset => failed(self.how_it_ended().await),
            Ok(Err(error)) => failed(error.to_string()),
            Err(_elapsed) => Err(too_late(step, time_max)),
        }
    }

    async fn how_it_ended(&mut self) -> String {
        let Some(child) = self.child.take() else { return "the new process has ended".to_owned() };
        match timeout(END_MAX, ended(child)).await {
            Ok(Ok(status)) => format!("the new process has ended, {status}; its own last lines are in the log above"),
            Ok(Err(error)) => format!("the new process has ended: {error}"),
            Err(_elapsed) => "the new process has closed its stdin and goes on; is it another program?".to_owned(),
        }
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            if let Ok(runtime) = Handle::try_current() {
                // The system keeps it in its list until somebody has.
                drop(runtime.spawn_blocking(move || child.wait()));
            }
        }
    }
}

/// Waits for the end of a process that ends now, and takes it out of the system's list.
async fn ended(mut child: Child) -> io::Result<ExitStatus> {
    tokio::task::spawn_blocking(move || child.wait()).await.unwrap_or_else(|gone| Err(io::Error::other(gone)))
}

fn too_late(step: &'static str, time_max: Duration) -> UpgradeError {
    UpgradeError::Failed { step, error: format!("it did not answer within {time_max:?}") }
}

fn unexpected(step: &'static str, message: &FromNew) -> UpgradeError {
    UpgradeError::Failed { step, error: format!("the new process says {message:?}, which was not its turn") }
}
