//! What the service manager, such as systemd, is told: that the process serves, reloads or stops, how the last reload of
//! the file ended, and that it still works.
//!
//! After an upgrade the new process tells it everything, and the old one nothing any more: a service manager hears one
//! process only, and the old one has told it which ([`hand_over`]).
//!
//! Without a service manager nothing is told. What cannot be told is logged and changes nothing. When to say what is left to `main`.

use std::convert::Infallible;
use std::future::pending;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use sd_notify::NotifyState;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::base::text::one_line;
use crate::events::{self, ConfigEvent, Event, Received};

/// Names the socket on which a service manager listens.
const SOCKET_VARIABLE: &str = "NOTIFY_SOCKET";

/// How long the service manager may take to notice which process is the service now.
const BARRIER_MAX: Duration = Duration::from_secs(5);

/// Another process is the one that the service manager hears.
static IS_ANOTHER: AtomicBool = AtomicBool::new(false);

/// The longest status, in characters.
const STATUS_CHARS_MAX: usize = 300;

/// The process serves.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The file is being read again; [`ready`] follows.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// Tells nothing until [`taken_over`]: this process takes over from another one.
pub fn wait_for_turn() {
    IS_ANOTHER.store(true, Relaxed);
}

/// This process is the one that the service manager hears from now on, and it serves.
pub fn taken_over() {
    IS_ANOTHER.store(false, Relaxed);
    ready();
}

/// The process `pid` is the service from now on; this one tells nothing any more. Waits until that is known: the service
/// manager may not believe what a process has said that is gone.
pub async fn hand_over(pid: u32) {
    tell(&[NotifyState::MainPid(pid)]);
    if !IS_ANOTHER.swap(true, Relaxed) && std::env::var_os(SOCKET_VARIABLE).is_some() {
        let waited = tokio::task::spawn_blocking(barrier).await;
        if let Ok(Err(error)) = waited {
            tracing::debug!(%error, "cannot wait for the service manager");
        }
    }
}

/// Waits until the service manager has read everything that was told it before: it then closes what it gets here.
fn barrier() -> io::Result<()> {
    let Some(name) = std::env::var_os(SOCKET_VARIABLE) else { return Ok(()) };
    let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
    let addr = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(&name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&addr)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [theirs.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&fds));
    rustix::net::sendmsg(&socket, &[IoSlice::new(b"BARRIER=1")], &mut control, SendFlags::NOSIGNAL)?;
    drop(theirs);
    let time_max = Timespec::try_from(BARRIER_MAX).ok();
    poll(&mut [PollFd::new(&ours, PollFlags::empty())], time_max.as_ref())?;
    Ok(())
}

/// The process stops.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Goes on telling how reloads end, and feeds the watchdog as long as the caller is run. Never ends.
pub async fn report() -> Infallible {
    if std::env::var_os(SOCKET_VARIABLE).is_none() {
        return pending().await;
    }
    let mut changes = events::subscribe();
    // sd_watchdog_enabled(3) asks for twice in the time that is allowed.
    let every = sd_notify::watchdog_enabled().map(|time_max| time_max / 2).filter(|every| !every.is_zero());
    let mut watchdog = every.map(|every| interval_at(Instant::now() + every, every));
    if let Some(watchdog) = &mut watchdog {
        // After a pause of the whole process one sign is enough.
        watchdog.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    loop {
        let feed = async {
            match &mut watchdog {
                Some(watchdog) => _ = watchdog.tick().await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = feed => tell(&[NotifyState::Watchdog]),
            received = changes.next() => {
                if let Received::Event(published) = received
                    && let Event::Config(event) = &published.event
                    && let Some(status) = status(event)
                {
                    tell(&[NotifyState::Status(&status)]);
                }
            }
        }
    }
}

/// How a reload has ended; `None` for what is no end of one.
fn status(event: &ConfigEvent) -> Option<String> {
    let refused =
        |why: &str| one_line(&format!("proxy.json refused, what runs stays as it is: {why}"), STATUS_CHARS_MAX);
    match event {
        ConfigEvent::Reloaded { .. } => Some("proxy.json reloaded".to_owned()),
        ConfigEvent::InOrderAgain | ConfigEvent::Unchanged | ConfigEvent::NothingToDo => {
            Some("proxy.json is in force".to_owned())
        }
        ConfigEvent::Refused { error } => Some(refused(error)),
        ConfigEvent::FileGone { error, .. } => Some(refused(error)),
        _ => None,
    }
}

/// Tells systemd, where it listens.
fn tell(state: &[NotifyState<'_>]) {
    if IS_ANOTHER.load(Relaxed) {
        return;
    }
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "cannot tell the service manager");
    }
}
