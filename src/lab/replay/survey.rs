//! What a recording holds, before anybody is asked.

use std::collections::HashSet;
use std::path::Path;

use serde::Serialize;

use super::notes::{Notes, Problem, ReplayError};
use crate::policy::recorded::{About, Note};
use crate::server::ServerId;

/// What a recording holds.
#[derive(Clone, Debug, Serialize)]
pub struct Survey {
    /// What was recorded.
    #[serde(flatten)]
    pub about: About,
    /// Questions.
    pub picks: u64,
    /// Questions of sessions that had tried a server before.
    pub retries: u64,
    /// Sets of servers.
    pub sets: u64,
    /// Instances of a module that came, one after the other or for backups.
    pub instances: u64,
    /// Calls of a module that were stopped at their deadline.
    pub deadlines: u64,
    /// How long it lasted, in milliseconds, from the first question to the last.
    pub lasted_ms: u64,
    /// Why it ended; `None` when the file does not say so.
    pub why: Option<String>,
    /// The file ends in the middle; it is good up to there.
    pub is_cut: bool,
    /// Notes that this version does not know.
    pub unknown: u64,
    /// When the first question was asked, on the clock of the machine.
    #[serde(skip)]
    pub(super) first_ms: u64,
    /// The servers, in the order in which they came.
    #[serde(skip)]
    pub(super) servers: Vec<(ServerId, String)>,
    /// Picks, by their number, of which nothing became: the client was gone before.
    #[serde(skip)]
    pub(super) abandoned: HashSet<u64>,
}

impl Survey {
    /// What a server is called.
    pub(super) fn name(&self, id: ServerId) -> String {
        let known = self.servers.iter().find(|(known, _)| *known == id);
        known.map_or_else(|| format!("server {}", id.0), |(_, addr)| addr.clone())
    }
}

/// Reads a recording through.
///
/// # Errors
///
/// It cannot be read, or is none.
pub fn survey(path: &Path) -> Result<Survey, ReplayError> {
    look_through(path).map_err(|problem| problem.of(path))
}

fn look_through(path: &Path) -> Result<Survey, Problem> {
    let mut notes = Notes::open(path)?;
    let Some(Note::About(text)) = notes.next()? else { return Err(Problem::Headless) };
    let about = serde_json::from_str(&text).map_err(|_| Problem::Headless)?;
    let mut survey = Survey {
        about,
        picks: 0,
        retries: 0,
        sets: 0,
        instances: 0,
        deadlines: 0,
        lasted_ms: 0,
        why: None,
        is_cut: false,
        unknown: 0,
        first_ms: 0,
        servers: Vec::new(),
        abandoned: HashSet::new(),
    };
    let (mut answered, mut last_ms) = (0, 0);
    let mut known = HashSet::new();
    while let Some(note) = notes.next()? {
        match note {
            Note::Servers(servers) => {
                survey.sets += 1;
                for server in servers.servers {
                    if known.insert(server.id) {
                        survey.servers.push((server.id, server.addr));
                    }
                }
            }
            Note::Pick(asked) => {
                if survey.picks == 0 {
                    survey.first_ms = asked.now_ms;
                }
                survey.picks += 1;
                survey.retries += u64::from(!asked.tried.is_empty());
                last_ms = last_ms.max(asked.now_ms);
                if asked.answer.is_some() {
                    survey.abandoned.insert(answered);
                    answered += 1;
                }
            }
            Note::Report(report) => _ = survey.abandoned.remove(&report.pick),
            Note::Instance(..) => survey.instances += 1,
            Note::RanOut(_) => survey.deadlines += 1,
            Note::End(why) => survey.why = Some(why),
            Note::About(_) | Note::Module(..) | Note::Gone(_) | Note::Facts(_) => {}
        }
    }
    survey.lasted_ms = last_ms.saturating_sub(survey.first_ms);
    (survey.is_cut, survey.unknown) = (notes.is_cut(), notes.unknown());
    Ok(survey)
}
