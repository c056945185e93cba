//! `goproxy top`: what a running proxy does, live on a terminal.
//!
//! It reads the stream of the dashboard, `/events?view=ui`, over the admin port: a frame a second ([`crate::frames`]) and
//! events between them. `state` adds frames up, `app` is what is known and chosen, `keys` changes it, and `draw`
//! makes a picture of it: functions of their arguments, so tests look at pictures without a terminal. `screen` owns the
//! terminal and gives it back on every path. When the proxy does not answer any more, what was known last stays, and the
//! title says so. [`Look::Once`] and [`Look::Json`] need no terminal.

#![cfg(feature = "top")]

mod state;
mod text;
mod glyphs;
mod listing;
mod happening;
mod report;
mod app;
mod keys;
mod feed;
mod screen;
mod draw;

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::admin_client::{AdminAddr, AdminClient, Follow};
use crate::base::terminal::Style;
use crate::base::vital;
use app::App;
use feed::Update;
use glyphs::Glyphs;
use keys::Wish;
use screen::Screen;
use state::State;

/// What is read.
const TARGET: &str = "/events?view=ui";

/// A frame comes every second: what is silent for so long is not connected any more.
const SILENCE_MAX: Duration = Duration::from_secs(3);

/// How long the first frames may take.
const FRAME_WAIT: Duration = Duration::from_secs(10);

/// How often a picture is made when nothing happens.
const PICTURE_INTERVAL: Duration = Duration::from_secs(1);

/// Updates that wait to be shown.
const UPDATES_MAX: usize = 64;

/// How long the thread that reads keys may take to end.
const KEYS_END_MAX: Duration = Duration::from_millis(500);

/// How one looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// A picture that is made anew, until a key ends it.
    Live,
    /// One table.
    Once,
    /// One object for programs.
    Json,
}

/// Shows what the proxy does. `print` writes to stdout what is no picture.
///
/// # Errors
///
/// The proxy cannot be asked, or the terminal cannot show it.
pub fn run(
    client: &AdminClient,
    look: Look,
    print: impl FnOnce(&str) -> anyhow::Result<()>,
) -> anyhow::Result<ExitCode> {
    if look == Look::Live {
        check_terminal(client)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    let done = match look {
        Look::Live => runtime.block_on(live(client)),
        Look::Once => runtime.block_on(once(client)).and_then(|state| print(&report::table(&state))),
        Look::Json => runtime.block_on(once(client)).and_then(|state| print(&report::json(&state))),
    };
    // Has ended, or reads a terminal that is not there any more.
    let _ = vital::join_all(KEYS_END_MAX);
    done.map(|()| ExitCode::SUCCESS)
}

fn check_terminal(client: &AdminClient) -> anyhow::Result<()> {
    let url = match client.addr() {
        AdminAddr::Tcp { .. } => format!("http://{}/", client.addr()),
        AdminAddr::Unix(path) => format!("--unix-socket {} http://localhost/", path.display()),
    };
    let instead = format!("expected a terminal, --once, --json, or curl -H 'Accept: text/plain' {url}");
    let has_terminal = io::stdout().is_terminal() && io::stdin().is_terminal();
    anyhow::ensure!(has_terminal, "stdin and stdout are not a terminal; {instead}");
    anyhow::ensure!(Style::of_stdout().is_terminal, "TERM=dumb can show no picture; {instead}");
    Ok(())
}

/// The state of the proxy, with rates: these are known from the second frame on.
async fn once(client: &AdminClient) -> anyhow::Result<State> {
    let mut subscription = client.subscribe(TARGET, None, FRAME_WAIT).await?;
    let mut state = State::default();
    let has_rates = |state: &State| state.at_ms > 0 && state.totals[1].is_some();
    while !has_rates(&state) {
        let Some(message) = subscription.next().await? else {
            anyhow::bail!("{}: the proxy is stopping", client.addr())
        };
        state.take(&message.event, &message.data);
    }
    Ok(state)
}

async fn live(client: &AdminClient) -> anyhow::Result<()> {
    let mut follow = Follow::new(client.clone(), TARGET.to_owned(), None, SILENCE_MAX);
    // Before the terminal is taken over: a refusal is a line on stderr.
    let told = follow.next().await?;
    let mut signals = Signals::new().context("cannot watch for signals")?;
    let env = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(env);
    let glyphs = Glyphs::suiting(locale.as_deref(), env("TERM").as_deref());
    let mut app = App::new(client.addr().to_string(), glyphs, Style::of_stdout().is_colored);
    app.told(told);
    let (sender, updates) = mpsc::channel(UPDATES_MAX);
    let mut tasks = JoinSet::new();
    tasks.spawn(feed::follow(follow, sender.clone()));
    let screen = Screen::new().context("cannot take over the terminal")?;
    let _keys = screen::read_keys(sender.clone()).context("cannot read keys")?;
    let show = Show { client, screen, app, tasks, sender };
    tokio::select! {
        done = show.run(updates) => done,
        () = signals.next() => Ok(()),
        () = vital::failed() => anyhow::bail!("a thread exited unexpectedly"),
    }
}

/// What is live.
struct Show<'a> {
    client: &'a AdminClient,
    screen: Screen,
    app: App,
    /// They end with it.
    tasks: JoinSet<()>,
    sender: Sender<Update>,
}

impl Show<'_> {
    /// Until a key ends it, or it cannot go on.
    async fn run(mut self, mut updates: Receiver<Update>) -> anyhow::Result<()> {
        loop {
            vital::panic_at("top");
            let app = &mut self.app;
            self.screen.draw(|frame| draw::draw(frame, app)).context("cannot write to the terminal")?;
            let Ok(update) = timeout(PICTURE_INTERVAL, updates.recv()).await else { continue };
            let mut next = update;
            // One picture for all that has come.
            while let Some(update) = next {
                if !self.take(update)? {
                    return Ok(());
                }
                next = updates.try_recv().ok();
            }
            while self.tasks.try_join_next().is_some() {}
        }
    }

    /// False when it is over.
    fn take(&mut self, update: Update) -> anyhow::Result<bool> {
        match update {
            Update::Told(told) => self.app.told(told?),
            Update::Changed(notice) => self.app.notice = Some(notice),
            Update::Resized => {}
            Update::NoKeys(error) => return Err(error).context("cannot read keys"),
            Update::Key(key) => match self.app.key(key) {
                Wish::Nothing => {}
                Wish::Quit => return Ok(false),
                Wish::Suspend => self.screen.suspend().context("cannot take over the terminal")?,
                Wish::Ask(change) => {
                    _ = self.tasks.spawn(feed::change(self.client.clone(), change, self.sender.clone()));
                }
            },
        }
        Ok(true)
    }
}

/// What ends it besides keys.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// The terminal is gone.
    hangup: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests;
