//! Health checks: how a group wants its servers checked, and what checks have found of one server.
//!
//! The state belongs to the server and outlives every change of settings. Who checks, and when, is the business of
//! `health`; it brings results and is told the pause until the next check.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

mod answer;
mod carried;
mod http;
mod settings;

pub use answer::{Match, Pattern, Regex};
pub(super) use carried::CheckCarried;
pub use http::{HttpMethod, StatusSet};
pub use settings::{CheckKind, CheckRole, CheckSettings, CheckStart, Step};

use crate::base::text::one_line;
use crate::server::{Server, ServerCheck, ServerId};

/// The longest reason of a failure that is kept, in characters.
const REASON_CHARS_MAX: usize = 200;

/// A server that changes more often than this within [`FLAPPING_TIME_MS`] is flapping.
const FLAPPING_CHANGES: usize = 5;
const FLAPPING_TIME_MS: u64 = 60_000;

/// How the servers of a group are checked, and those of its servers that are checked at another port.
#[derive(Clone, Debug)]
pub(super) struct GroupCheck(Arc<CheckSettings>);

impl GroupCheck {
    pub(super) fn new(settings: &Arc<CheckSettings>) -> Self {
        Self(Arc::clone(settings))
    }

    /// How a server is checked that says this; `None` when it is not.
    pub(super) fn of(&self, server: ServerCheck) -> Option<Arc<CheckSettings>> {
        match server {
            ServerCheck::AsGroup => Some(Arc::clone(&self.0)),
            ServerCheck::Never => None,
            ServerCheck::Port(port) => Some(Arc::new(CheckSettings { port: port.get(), ..(*self.0).clone() })),
        }
    }
}

/// A check that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckResult {
    /// Why it failed, for people.
    pub outcome: Result<(), String>,
    /// How long the whole check took, in microseconds; 0 when a session stood in for it.
    pub micros: u64,
    /// How long the connect took in microseconds, where one succeeded to the server's own port.
    pub connect_us: Option<u64>,
    /// The code that the server has answered with.
    pub code: Option<CheckCode>,
}

/// The code in an answer to a check.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(untagged)]
pub enum CheckCode {
    /// The status of HTTP, or the number of an error of MySQL.
    Number(u16),
    /// The state of SQL that PostgreSQL names, or the first word of an error of Redis.
    Word(Box<str>),
}

/// A server to be checked.
#[derive(Clone, Debug)]
pub struct CheckTarget {
    /// The server.
    pub server: Arc<Server>,
    /// How.
    pub settings: Arc<CheckSettings>,
    /// The next result decides alone.
    pub is_undecided: bool,
    /// It was checked before, but not lately.
    pub is_resumed: bool,
}

impl CheckTarget {
    /// Its number in the group.
    pub fn id(&self) -> ServerId {
        self.server.id
    }
}

/// The last check as `worker-list.do` shows it.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct LastCheck {
    /// It passed.
    pub ok: bool,
    /// What it did.
    pub kind: &'static str,
    /// How long ago it was over.
    pub age_ms: u64,
    /// How long it took.
    pub ms: f64,
    /// Why it failed.
    pub error: Option<String>,
    /// The code that the server has answered with, where its protocol has codes: a number for http and mysql, a word for
    /// postgresql and redis.
    pub code: Option<CheckCode>,
    /// Passes in a row.
    pub passes: u32,
    /// Failures in a row.
    pub fails: u32,
    /// When the next one is due.
    pub next_ms: u64,
}

/// What is counted of a server's checks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CheckFigures {
    /// Checks find it up.
    pub is_up: bool,
    /// Checks that passed.
    pub passed: u64,
    /// Checks that failed.
    pub failed: u64,
    /// How long the last check took.
    pub seconds: f64,
    /// How often checks have found it down, or up again.
    pub transitions: u64,
}

/// What a result has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// The server is up now and was down before, or the other way round.
    pub(super) has_turned: bool,
    /// It is the first failure of a server that is up.
    pub(super) is_first_failure: bool,
    /// The server changes so often that this is to be said now.
    pub(super) is_flapping: bool,
}

/// What checks have found of one server.
#[derive(Debug)]
pub(super) struct CheckState {
    settings: Arc<CheckSettings>,
    is_up: bool,
    /// The next result decides alone.
    is_undecided: bool,
    passes: u32,
    fails: u32,
    /// Why the server is down; `None` before the first check.
    why_down: Option<Arc<str>>,
    last: Option<(CheckResult, u64)>,
    next_ms: u64,
    transitions: u64,
    /// When it changed lately.
    changed_ms: VecDeque<u64>,
    is_said_to_flap: bool,
    /// Who waits for the next result.
    waiting: Vec<oneshot::Sender<()>>,
    /// Checks that passed, and that failed.
    totals: [u64; 2],
}

impl CheckState {
    /// Of a server that has not been checked. One that `is_known` has served until now, and goes on doing so.
    pub(super) fn new(settings: Arc<CheckSettings>, is_known: bool) -> Self {
        let is_up = is_known || settings.start == CheckStart::Up;
        Self {
            settings,
            is_up,
            is_undecided: true,
            passes: 0,
            fails: 0,
            why_down: None,
            last: None,
            next_ms: 0,
            transitions: 0,
            changed_ms: VecDeque::new(),
            is_said_to_flap: false,
            waiting: Vec::new(),
            totals: [0; 2],
        }
    }

    pub(super) fn settings(&self) -> &Arc<CheckSettings> {
        &self.settings
    }

    /// Takes other settings. The state stays; counts begin anew, and of a check of another kind one result decides.
    pub(super) fn set_settings(&mut self, settings: &Arc<CheckSettings>) {
        if *self.settings != **settings {
            self.is_undecided |= self.settings.kind != settings.kind;
            (self.passes, self.fails) = (0, 0);
        }
        self.settings = Arc::clone(settings);
    }

    /// The server was not checked for a while: the next result decides alone.
    pub(super) fn resume(&mut self) {
        self.is_undecided = true;
    }

    pub(super) fn is_undecided(&self) -> bool {
        self.is_undecided
    }

    /// True while the server was never checked.
    pub(super) fn is_unchecked(&self) -> bool {
        self.last.is_none()
    }

    /// Why the server is down; `None` while it is up.
    pub(super) fn why_down(&self) -> Option<Arc<str>> {
        (!self.is_up).then(|| self.why_down.clone().unwrap_or_else(|| "not checked yet".into()))
    }

    /// Takes a result.
    pub(super) fn take(&mut self, result: CheckResult, now_ms: u64) -> Change {
        let CheckSettings { rise, fall, .. } = *self.settings;
        let was_up = self.is_up;
        self.totals[usize::from(result.outcome.is_err())] += 1;
        match &result.outcome {
            Ok(()) => {
                (self.passes, self.fails) = (self.passes.saturating_add(1), 0);
                self.is_up |= self.is_undecided || self.passes >= rise;
            }
            Err(why) => {
                (self.passes, self.fails) = (0, self.fails.saturating_add(1));
                self.is_up &= !self.is_undecided && self.fails < fall;
                let times = self.fails;
                self.why_down = Some(format!("check failed: {} ({times} in a row)", cut(why)).into());
            }
        }
        self.is_undecided = false;
        self.last = Some((result, now_ms));
        self.waiting.drain(..).for_each(|waiting| _ = waiting.send(()));
        let has_turned = was_up != self.is_up;
        let is_flapping = has_turned && self.turned(now_ms);
        Change { has_turned, is_first_failure: was_up && self.fails == 1, is_flapping }
    }

    /// Counts a change; true when it is to be said that the server changes too often.
    fn turned(&mut self, now_ms: u64) -> bool {
        self.transitions += 1;
        self.changed_ms.push_back(now_ms);
        self.changed_ms.retain(|at_ms| now_ms.saturating_sub(*at_ms) < FLAPPING_TIME_MS);
        let is_flapping = self.changed_ms.len() > FLAPPING_CHANGES;
        let is_news = is_flapping && !self.is_said_to_flap;
        self.is_said_to_flap = is_flapping;
        is_news
    }

    /// Failures in a row.
    pub(super) fn fails(&self) -> u32 {
        self.fails
    }

    /// How often the server changed lately.
    pub(super) fn recent_changes(&self) -> usize {
        self.changed_ms.len()
    }

    /// What is counted of it.
    pub(super) fn figures(&self) -> CheckFigures {
        let [passed, failed] = self.totals;
        let micros = self.last.as_ref().map_or(0, |(result, _)| result.micros);
        CheckFigures { is_up: self.is_up, passed, failed, seconds: micros as f64 / 1e6, transitions: self.transitions }
    }

    /// The pause until the next check, without jitter.
    pub(super) fn pause(&self) -> Duration {
        let is_changing = match self.is_up {
            true => self.fails > 0,
            false => self.passes > 0,
        };
        match (self.is_undecided || is_changing, self.is_up) {
            (true, _) => self.settings.fast_interval(),
            (false, true) => self.settings.interval,
            (false, false) => self.settings.down_interval(),
        }
    }

    /// The next check is due then.
    pub(super) fn set_next(&mut self, next_ms: u64) {
        self.next_ms = next_ms;
    }

    /// Completes with the next result.
    pub(super) fn wait(&mut self) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        self.waiting.retain(|waiting| !waiting.is_closed());
        self.waiting.push(sender);
        receiver
    }

    /// The last check; `None` before the first.
    pub(super) fn view(&self, now_ms: u64) -> Option<LastCheck> {
        let (result, at_ms) = self.last.as_ref()?;
        Some(LastCheck {
            ok: result.outcome.is_ok(),
            kind: self.settings.kind.as_str(),
            age_ms: now_ms.saturating_sub(*at_ms),
            ms: result.micros as f64 / 1_000.0,
            error: result.outcome.as_ref().err().map(|why| cut(why)),
            code: result.code.clone(),
            passes: self.passes,
            fails: self.fails,
            next_ms: self.next_ms.saturating_sub(now_ms),
        })
    }
}

fn cut(why: &str) -> String {
    one_line(why, REASON_CHARS_MAX)
}

#[cfg(test)]
pub(super) mod tests;
