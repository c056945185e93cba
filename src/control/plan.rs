//! What the file will say: read, edited and checked before anything else is touched.
//!
//! Works on the text alone and waits for the disk, so it runs on the blocking pool.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::SystemTime;

use super::{Change, ChangeError, REGISTERED_MAX};
use crate::base::clock;
use crate::config::file::ReadError;
use crate::config::{self, Config, Document, Edit, EditError, Lists, Overlay, Overruled};
use crate::events::{self, ConfigEvent, Event};
use crate::group::{GroupId, Registration};
use crate::server::{ServerAddr, ServerSettings};

/// What the file will say, and what becomes of each change that was asked for.
pub(super) struct Plan {
    /// What the file says now, and what it shall say.
    pub(super) old_text: String,
    pub(super) new_text: String,
    /// The old text has the flat form of the old program, and the new one does not.
    pub(super) old_form: bool,
    pub(super) config: Config,
    /// What shall lie over the file, where a state file keeps that; the file itself then stays as it is.
    pub(super) overlay: Option<Overlay>,
    pub(super) overruled: Vec<Overruled>,
    /// In the order of the changes.
    pub(super) outcomes: Vec<Result<(), ChangeError>>,
}

/// The text of the file with the overlay over it, if there is one.
struct Laid {
    document: Document,
    /// What the file says without the overlay.
    said: Option<Config>,
    overruled: Vec<Overruled>,
}

impl Laid {
    fn new(path: &Path, text: &str, said: Config, overlay: Option<&Overlay>) -> Self {
        let Some(overlay) = overlay else {
            return Self { document: Document::new(path, text, said), said: None, overruled: Vec::new() };
        };
        let (groups, overruled) = overlay.over(&said, path);
        let document = Document::with_groups(path, text, said.clone(), groups);
        Self { document, said: Some(said), overruled }
    }
}

/// What is in force at the start with the overlay over `said`, which is what the file says, and what is left of the overlay.
pub(super) fn at_start(
    path: &Path,
    text: &str,
    said: &Config,
    overlay: &Overlay,
) -> Result<(Config, Overlay, Vec<Overruled>), Vec<config::Problem>> {
    let laid = Laid::new(path, text, said.clone(), Some(overlay));
    let config = config::parse_after(path, &laid.document.text(), said, Lists::MayStay)?;
    let left = Overlay::between(said, &config, overlay, &since());
    Ok((config, left, laid.overruled))
}

/// Reads the file for a reload; `None` when it says what is in force already, and its secrets are what they were.
pub(super) fn read(
    path: &Path,
    in_force: u64,
    running: &Config,
    last_read: &AtomicU64,
    overlay: Option<&Overlay>,
) -> Result<Option<Plan>, ChangeError> {
    let text = read_text(path)?;
    let hash = config::file::hash(text.as_bytes());
    last_read.store(hash, Relaxed);
    let is_same_text = hash == in_force;
    // The same text may mean another secret or another list of networks.
    if is_same_text && running.other_files.is_empty() {
        return Ok(None);
    }
    // Whoever has changed the text hears of a list that cannot be read; when only the list is another, it is the log.
    let lists = if is_same_text { Lists::MayStay } else { Lists::MustBeReadable };
    let said = config::parse_after(path, &text, running, lists).map_err(|problems| invalid(path, problems))?;
    let (config, left, overruled) = match overlay {
        None => (said, None, Vec::new()),
        Some(overlay) => {
            let laid = Laid::new(path, &text, said.clone(), Some(overlay));
            let config = config::parse_after(path, &laid.document.text(), running, lists).map_err(unfit_state)?;
            let left = Overlay::between(&said, &config, overlay, &since());
            (config, Some(left), laid.overruled)
        }
    };
    if is_same_text && config == *running {
        return Ok(None);
    }
    let (old_text, outcomes) = (text.clone(), Vec::new());
    Ok(Some(Plan { old_text, new_text: text, old_form: false, config, overlay: left, overruled, outcomes }))
}

/// Reads the file's text. One that is no text, or too much of it, is a mistake like any other.
fn read_text(path: &Path) -> Result<String, ChangeError> {
    config::file::read(path).map_err(|error| match error {
        ReadError::NotText(problem) => invalid(path, vec![problem]),
        ReadError::System(error) => ChangeError::persist("read", path, error),
    })
}

/// Reads the file and edits what it says at this moment, so that a user's own edit is not lost.
pub(super) fn plan(
    path: &Path,
    edits: Vec<Edit>,
    leased: Vec<(GroupId, ServerSettings)>,
    running: &Config,
    overlay: Option<&Overlay>,
) -> Result<Plan, ChangeError> {
    let old_text = read_text(path)?;
    let config =
        config::parse_after(path, &old_text, running, Lists::MayStay).map_err(|problems| invalid(path, problems))?;
    let Laid { mut document, said, overruled } = Laid::new(path, &old_text, config, overlay);
    let groups = document.config().groups.iter().map(|group| (group.settings.id(), &group.servers));
    let known: HashMap<GroupId, HashSet<&ServerAddr>> =
        groups.map(|(id, servers)| (id, servers.iter().map(|server| &server.addr).collect())).collect();
    // Nearly all are there already, and there may be thousands.
    let forgotten = leased
        .into_iter()
        .filter(|(group, server)| !known.get(group).is_some_and(|known| known.contains(&server.addr)));
    for (group, server) in forgotten.collect::<Vec<_>>() {
        // Refused when its group is not there any more.
        let _ = document.apply(&Edit::AddServer { group, server });
    }
    let outcomes =
        edits.iter().map(|edit| has_room(&document, edit).and_then(|()| refusal(document.apply(edit)))).collect();
    let text = document.text();
    let config = config::parse_after(path, &text, running, Lists::MayStay)
        .map_err(|problems| ChangeError::Unfit(super::first(&problems)))?;
    let overlay = said.zip(overlay).map(|(said, before)| Overlay::between(&said, &config, before, &since()));
    let (new_text, old_form) = match &overlay {
        Some(_) => (old_text.clone(), false),
        None => (text, document.converts_old_form()),
    };
    Ok(Plan { old_text, new_text, old_form, config, overlay, overruled, outcomes })
}

/// Refuses one server too many. Whoever asked may have been told that there is room for one more, as many
/// others were at that moment.
fn has_room(document: &Document, edit: &Edit) -> Result<(), ChangeError> {
    let Edit::AddServer { group: id, server } = edit else { return Ok(()) };
    let group = document.group(id);
    let is_full = group.is_some_and(|group| {
        group.servers.len() >= REGISTERED_MAX && group.servers.iter().all(|known| known.addr != server.addr)
    });
    if is_full { Err(ChangeError::TooManyServers { group: id.clone(), max: REGISTERED_MAX }) } else { Ok(()) }
}

/// The servers of one group that register or leave, whatever the file says of them.
pub(super) fn beside_the_file(group: &GroupId, done: &[&Change]) -> (Vec<Registration>, Vec<ServerAddr>) {
    let (mut registered, mut removed) = (Vec::new(), Vec::new());
    for change in done {
        match &change.edit {
            Edit::AddServer { group: of, server } if of == group => {
                registered.push(Registration { server: server.clone(), addresses: change.addresses.clone() });
            }
            Edit::RemoveServer { group: of, addr } if of == group => removed.push(addr.clone()),
            _ => {}
        }
    }
    (registered, removed)
}

fn refusal(outcome: Result<(), EditError>) -> Result<(), ChangeError> {
    match outcome {
        // Two first heartbeats of one server at the same time: both are right.
        Ok(()) | Err(EditError::ServerExists { .. }) => Ok(()),
        Err(EditError::GroupNotFound(group)) => Err(ChangeError::GroupNotFound((&group).into())),
        Err(EditError::ServerNotFound { group, addr }) => Err(ChangeError::ServerNotFound { group, server: addr }),
        Err(EditError::Refused(why)) => Err(ChangeError::Unfit(why)),
    }
}

/// Saves `text`; `old` is what the file said in the form of the old program, of which a copy is kept.
pub(super) fn save(path: &Path, text: &str, old: Option<&str>) -> Result<(), ChangeError> {
    if let Some(old) = old {
        let kept =
            config::file::keep_old(path, old).map_err(|error| ChangeError::persist("keep a copy of", path, error))?;
        let (path, kept) = (path.display().to_string().into(), kept.display().to_string().into());
        events::publish(Event::Config(ConfigEvent::Converted { path, kept }));
    }
    config::file::save(path, text).map_err(|error| ChangeError::persist("write", path, error))
}

fn invalid(path: &Path, problems: Vec<config::Problem>) -> ChangeError {
    ChangeError::FileInvalid { path: path.display().to_string(), problems }
}

/// When an override begins that begins now.
fn since() -> String {
    clock::stamp(SystemTime::now())
}

/// What the state file says does not fit the file.
fn unfit_state(problems: Vec<config::Problem>) -> ChangeError {
    let first = super::first(&problems);
    ChangeError::Unfit(format!(
        "what the state file says does not fit the file any more: {first} (state-clear.do drops it)"
    ))
}
