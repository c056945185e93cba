//! From the text of `proxy.json` to the checked [`Config`], or to every mistake in it.
//!
//! One pass reads all keys. A wrong value is reported and replaced by its default, so that the rest can still be
//! checked. Such a default never leaves this module, because one problem is enough to refuse the file. Conditions
//! between values are checked at the end.

use std::path::Path;

use jsonc_parser::common::Ranged;

use super::check::check;
use super::declare::Fields;
use super::fields::Config;
use super::find::folder_of;
use super::legacy;
use super::object::Object;
use super::problem::{Place, Problem};
use super::reader::{KnownLists, Reader};
use super::syntax::{syntax, without_bom};

/// Reads and checks `text`, the content of the file at `path`.
///
/// Relative paths in the file start from its folder. Secrets are looked up, so the answer depends on
/// the environment and on the files they are kept in.
///
/// # Errors
///
/// Every mistake in the order of the file; of the syntax only the first.
pub fn parse(path: &Path, text: &str) -> Result<Config, Vec<Problem>> {
    parse_with(path, text, None, &|name| std::env::var(name).ok())
}

/// What becomes of a list of networks of which a file cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lists {
    /// It is a mistake.
    MustBeReadable,
    /// The one in force stays, and [`Config::kept_lists`] says so.
    MayStay,
}

/// [`parse`] for a process in which `running` is in force: where a secret can no longer be read, the one in force stays, and
/// [`Config::kept_secrets`] says so. The same may hold for `lists` of networks.
///
/// # Errors
///
/// As [`parse`].
pub fn parse_after(path: &Path, text: &str, running: &Config, lists: Lists) -> Result<Config, Vec<Problem>> {
    parse_with(path, text, Some((running, lists)), &|name| std::env::var(name).ok())
}

/// A file as far as it can be read.
#[derive(Debug, Default)]
pub struct Inspection {
    /// What it says; what is wrong has its default. `None` when too much is wrong.
    pub config: Option<Config>,
    /// Every mistake in the order of the file.
    pub problems: Vec<Problem>,
    /// What is no mistake but may be meant otherwise.
    pub doubts: Vec<String>,
    /// Where the policy of each group of `config` is written.
    policies: Vec<(usize, String)>,
    /// Where the path of the state file is written.
    state_file_at: usize,
}

impl Inspection {
    /// Adds a mistake in the policy of a group, by the group's index in `config`: one that is found out only when the
    /// policy is made. `text` is what was read. Groups that share a policy share its mistake.
    pub fn add_policy_problem(&mut self, text: &str, index: usize, message: String) {
        let (offset, path) = self.policies[index].clone();
        self.add(text, offset, path, message);
    }

    /// Adds a mistake in the state file, in the same way.
    pub fn add_state_file_problem(&mut self, text: &str, message: String) {
        self.add(text, self.state_file_at, "state_file".to_owned(), message);
    }

    fn add(&mut self, text: &str, offset: usize, path: String, message: String) {
        let problem = Problem { path, ..Problem::at(without_bom(text), offset, message) };
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
            self.problems.sort_by_key(|problem| (problem.line, problem.column));
        }
    }
}

/// Reads `text` as [`parse`] does, and gives what can be used in spite of mistakes.
pub fn inspect(path: &Path, text: &str) -> Inspection {
    inspect_with(path, text, None, &|name| std::env::var(name).ok())
}

/// [`parse`] with the environment given.
pub(super) fn parse_with(
    path: &Path,
    text: &str,
    running: Option<(&Config, Lists)>,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, Vec<Problem>> {
    match inspect_with(path, text, running, env) {
        Inspection { config: Some(config), problems, .. } if problems.is_empty() => Ok(config),
        Inspection { problems, .. } => Err(problems),
    }
}

pub(super) fn inspect_with(
    path: &Path,
    text: &str,
    running: Option<(&Config, Lists)>,
    env: &dyn Fn(&str) -> Option<String>,
) -> Inspection {
    let text = without_bom(text);
    let root = match syntax(text) {
        Ok(root) => root,
        Err(problems) => return Inspection { problems, ..Inspection::default() },
    };
    let mut reader = Reader::new(folder_of(path), env);
    if let Some((running, lists)) = running {
        let settings = running.groups.iter().map(|group| &group.settings).chain([&running.defaults]);
        let known = settings.flat_map(|settings| [&settings.allow, &settings.deny]).filter(|list| !list.is_empty());
        let known = known.map(|list| (list.written().to_vec(), list.clone()));
        let tls = running.groups.iter().filter_map(|group| group.settings.tls.clone());
        reader.known_tls = tls.collect();
        let certificates = reader.known_tls.iter().flat_map(|tls| tls.certificates.iter().cloned());
        reader.known_certificates = certificates.collect();
        let server_tls = running.groups.iter().flat_map(|group| {
            let of_check = group.settings.check.as_ref().and_then(|check| check.server_tls.clone());
            group.settings.server_tls.clone().into_iter().chain(of_check)
        });
        reader.known_server_tls = server_tls.collect();
        reader.known_lists = KnownLists { lists: known.collect(), may_stay: lists == Lists::MayStay };
    }
    let secrets = running.into_iter().flat_map(|(running, _)| running.secrets());
    reader.secrets = secrets.map(|secret| (secret.written().to_owned(), secret.expose().to_owned())).collect();
    let config = if legacy::is_legacy(&root) {
        legacy::read(&mut reader, &root)
    } else {
        let object = Object::open(&mut reader, &root, &Place::Root, Config::TABLE, false);
        object.and_then(|object| Config::read(&mut reader, &object, None))
    };
    let state_file_at = root.as_object().and_then(|object| object.get("state_file")).map_or(0, |key| key.value.start());
    if let Some(config) = &config {
        check_state_file(&mut reader, state_file_at, path, config);
    }
    check(&mut reader);
    let Reader { problems, policies, other_files, kept_secrets, kept_lists, kept_certificates, doubts, .. } = reader;
    let config = config.map(|config| Config { other_files, kept_secrets, kept_lists, kept_certificates, ..config });
    Inspection { config, problems: problems.finish(text), doubts, policies, state_file_at }
}

/// Reports a state file that is the file itself.
fn check_state_file(reader: &mut Reader, offset: usize, path: &Path, config: &Config) {
    let this = path.file_name().map(|name| folder_of(path).join(name));
    if config.state_file.is_some() && config.state_file == this {
        let message = "this is the file itself, which is then never written; expected another one";
        reader.problems.add(offset, "state_file", message);
    }
}
