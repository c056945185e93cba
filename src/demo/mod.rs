//! `goproxy demo`: a proxy, servers that register themselves, and clients, with nothing else installed.
//!
//! Everything is real: a `proxy.json` in a folder of its own, the proxy as `goproxy run` starts it, its admin
//! port, and TCP on loopback. `script` is what happens and what has to come of it; everything it tells was
//! measured by the clients, the servers or the proxy. This module sets the stage and clears it, whatever
//! happened in between; only a killed process leaves its folder behind.
//!
//! The proxy's log is off: stdout belongs to the script.

mod admin;
mod clients;
mod echo;
pub mod http;
mod modules;
mod port;
mod screen;
mod stage;
mod script;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::timeout;

use clients::Clients;
use screen::Screen;
use stage::Stage;

/// The script is over by then, or has failed. What comes after takes a second at most. A debug build, which the tests use beside
/// others, may take longer.
const TIME_MAX: Duration = Duration::from_secs(if cfg!(debug_assertions) { 90 } else { 18 });

/// How long sessions may hold up the end.
const DRAIN_MAX: Duration = Duration::from_secs(1);

/// How long threads that hang in a system call may hold up the end.
const RUNTIME_END_MAX: Duration = Duration::from_millis(500);

/// With `keep`, few clients go on at leisure: something to look at, and nothing to get in the way.
const TRICKLE_CLIENTS: usize = 2;
const TRICKLE_PAUSE_MAX: Duration = Duration::from_millis(500);

/// Shows what the proxy does; with `keep` everything runs on afterwards until a signal comes.
///
/// The exit code says whether everything was as it should be.
///
/// # Errors
///
/// Something could not be started, went on for too long, or was interrupted.
pub fn run(keep: bool) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    let done = runtime.block_on(show(keep));
    runtime.shutdown_timeout(RUNTIME_END_MAX);
    done
}

async fn show(keep: bool) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new().context("cannot watch for signals")?;
    let mut screen = Screen::new();
    let mut stage = Stage::new().context("cannot set up the demonstration")?;
    let proxy = stage.start_proxy().await?;
    let play = timeout(TIME_MAX, script::play(&mut stage, &mut screen));
    let mut played = tokio::select! {
        played = play => played.unwrap_or_else(|_| Err(anyhow!("not finished after {} s", TIME_MAX.as_secs()))),
        () = proxy.failed() => Err(anyhow!("a part of the proxy exited unexpectedly")),
        () = signals.next() => Err(anyhow!("interrupted")),
    };
    if played.is_ok() {
        let ports = if keep { (stage.admin.0, stage.group.addr) } else { script::default_ports() };
        script::say_what_to_try(&mut screen, ports, keep);
    }
    if played.is_ok() && keep {
        stage.clients = Some(Clients::start(stage.group.addr, TRICKLE_CLIENTS, TRICKLE_PAUSE_MAX, "trickle"));
        tokio::select! {
            () = proxy.failed() => played = Err(anyhow!("a part of the proxy exited unexpectedly")),
            () = signals.next() => {}
        }
    }
    stage.clear().await;
    proxy.drain(Some(DRAIN_MAX)).await;
    proxy.stop().await;
    let is_good = played?;
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What ends the demonstration early.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// The terminal is gone.
    hangup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}
