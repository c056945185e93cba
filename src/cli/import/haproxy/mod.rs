//! HAProxy's configuration: what is in `mode tcp`.
//!
//! A `listen` section is a group, and so is a `frontend` with the backend that it always takes. What a `defaults` section
//! says is applied to each of them, and told once where it has no equivalent.

mod check;
mod condition;
mod group;
mod listen;
mod server;
mod tls;
mod words;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::draft::{Draft, GroupDraft, Note, Route, Routing, Target, Way};
use group::Import;
use tls::Bases;
use words::{Directive, Section, sections};

/// Why a whole section is left out.
const HTTP: &str =
    "HTTP is not understood here, only its bytes would be passed on; nothing of the section is taken over";

/// Reads the text.
///
/// # Errors
///
/// What makes no sense, and in which line.
pub(super) fn read(text: &str) -> Result<Draft, String> {
    let mut reader = Reader::default();
    let (sections, defaults) = with_defaults(sections(text)?, &mut reader.draft.notes);
    for section in sections.iter().filter(|section| section.kind() == "global") {
        reader.global(section);
    }
    let backends: BTreeMap<&str, &Section> = sections
        .iter()
        .filter(|section| section.kind() == "backend")
        .map(|section| (section.name(), section))
        .collect();
    for section in &sections {
        match section.kind() {
            "listen" => reader.group(section, None),
            "frontend" => reader.frontend(section, &backends),
            _ => {}
        }
    }
    for section in &sections {
        match section.kind() {
            "backend" if !reader.used.contains(&section.head.line) => {
                reader.whole(section, "no frontend always uses it, so it is not a group");
            }
            "global" | "listen" | "frontend" | "backend" => {}
            _ => reader.whole(section, "no equivalent"),
        }
    }
    for line in defaults.into_iter().filter(|line| !reader.read.contains(&line.line)) {
        reader.draft.notes.push(Note::new(line.line, line.text, "no group has it"));
    }
    let mut draft = reader.draft;
    draft.notes.sort_by_key(|note| note.line);
    draft.notes.dedup();
    draft.name_groups(reader.names);
    Ok(draft)
}

/// The sections but `defaults`, each proxy's with what the defaults say before its own lines; and all lines of the defaults.
fn with_defaults(all: Vec<Section>, notes: &mut Vec<Note>) -> (Vec<Section>, Vec<Directive>) {
    let mut every: Vec<Directive> = Vec::new();
    let mut named: BTreeMap<String, Vec<Directive>> = BTreeMap::new();
    let mut latest: Vec<Directive> = Vec::new();
    let mut sections = Vec::new();
    for mut section in all {
        let from =
            section.head.words.iter().position(|word| word == "from").map(|at| section.head.word(at + 1).to_owned());
        match section.kind() {
            "defaults" => {
                let mut lines = from.and_then(|from| named.get(&from).cloned()).unwrap_or_default();
                let own = section.lines.drain(..).map(|line| Directive { is_default: true, ..line });
                every.extend(own);
                lines.extend(every.iter().filter(|line| line.line > section.head.line).cloned());
                named.insert(section.name().to_owned(), lines.clone());
                latest = lines;
            }
            "listen" | "frontend" | "backend" => {
                let defaults = match from {
                    None => latest.clone(),
                    Some(from) => named.get(&from).cloned().unwrap_or_else(|| {
                        notes.push(Note::new(
                            section.head.line,
                            section.head.text.clone(),
                            "no defaults section before it has that name",
                        ));
                        Vec::new()
                    }),
                };
                section.lines.splice(0..0, defaults);
                sections.push(section);
            }
            _ => sections.push(section),
        }
    }
    (sections, every)
}

#[derive(Debug, Default)]
struct Reader {
    draft: Draft,
    names: Vec<String>,
    /// The first lines of the backends that are part of a group.
    used: BTreeSet<usize>,
    /// The lines of defaults that some group has read.
    read: BTreeSet<usize>,
    bases: Bases,
}

impl Reader {
    fn global(&mut self, section: &Section) {
        let keys = &mut self.draft.keys;
        for line in &section.lines {
            let number = line.word(1).parse::<u32>().ok();
            let why = match (line.word(0), number) {
                ("maxconn", Some(number)) => {
                    keys.insert("max_sessions".to_owned(), json!(number));
                    continue;
                }
                ("maxconnrate", Some(number)) => {
                    keys.insert("session_rate".to_owned(), json!(format!("{number}/s")));
                    continue;
                }
                ("nbthread", Some(number)) => {
                    keys.insert("threads".to_owned(), json!(number));
                    continue;
                }
                _ if self.bases.read(line) => continue,
                ("cpu-map", _) => "pin_threads keeps each thread on a core of its own",
                ("log", _) => "the log goes to stderr, for the service manager to collect",
                ("stats", _) => "the admin port does what the socket does; see docs/admin-api.md",
                ("daemon" | "user" | "group" | "chroot" | "pidfile" | "uid" | "gid", _) => {
                    "the service manager does this"
                }
                _ => "no equivalent",
            };
            self.draft.notes.push(Note::new(line.line, line.text.clone(), why));
        }
    }

    fn frontend(&mut self, section: &Section, backends: &BTreeMap<&str, &Section>) {
        let is_always = |line: &&Directive| match line.word(0) {
            "default_backend" => true,
            "use_backend" => line.words.len() == 2,
            _ => false,
        };
        // HAProxy takes the first rule that holds, and the default when none does.
        let rules = section.lines.iter().filter(is_always);
        let taken = rules.min_by_key(|line| line.word(0) == "default_backend");
        let backend = taken.and_then(|line| backends.get(line.word(1)).copied());
        let lines: Vec<&Directive> = section.lines.iter().collect();
        let mut rules = Import::new(&lines, &self.bases);
        lines.iter().filter(|line| line.word(0) == "use_backend").for_each(|line| _ = rules.read(line));
        match (backend, rules.hellos.is_empty()) {
            (_, false) if !is_http(section) => self.routed(section, backend, backends),
            (Some(backend), _) => self.group(section, Some(backend)),
            (None, _) => self.whole(section, "no backend of this file is taken always, so it has no servers"),
        }
    }

    fn group(&mut self, section: &Section, backend: Option<&Section>) {
        if is_http(section) || backend.is_some_and(is_http) {
            self.used.extend(backend.map(|backend| backend.head.line));
            self.whole(section, HTTP);
            return backend.into_iter().for_each(|backend| self.whole(backend, HTTP));
        }
        let lines: Vec<&Directive> =
            section.lines.iter().chain(backend.iter().flat_map(|backend| &backend.lines)).collect();
        let import = self.import(&lines, |_| true);
        let done = import.finish(&section.head, None);
        self.used.extend(backend.filter(|_| done.is_ok()).map(|backend| backend.head.line));
        self.push(section, done);
    }

    /// A frontend whose clients choose the backend by their hello: each backend is a group that routes lead to.
    fn routed(&mut self, section: &Section, default: Option<&Section>, backends: &BTreeMap<&str, &Section>) {
        let lines: Vec<&Directive> = section.lines.iter().collect();
        let mut import = self.import(&lines, |_| true);
        let mut targets: BTreeMap<&str, Option<Target>> = BTreeMap::new();
        let mut routes = Vec::new();
        for rule in std::mem::take(&mut import.hellos) {
            let Some(backend) = backends.get(rule.backend.as_str()).filter(|backend| !is_http(backend)) else {
                let why = "this file has no TCP backend of that name".to_owned();
                import.group.notes.push(Note { why, ..rule.line });
                continue;
            };
            let to = *targets.entry(backend.name()).or_insert_with(|| self.target(section, backend));
            let routes_of = |hello: condition::Hello| Some(Route { sni: hello.sni, alpn: hello.alpn, to: to? });
            routes.extend(rule.any_of.into_iter().filter_map(routes_of));
        }
        let default =
            default.and_then(|backend| *targets.entry(backend.name()).or_insert_with(|| self.target(section, backend)));
        let default = default.map_or(Way::Close, Way::To);
        let plain = if import.needs_tls { Way::Close } else { default };
        let done = import.finish(&section.head, Some(Routing { routes, default, plain }));
        self.push(section, done);
    }

    /// A backend as a group that routes of this frontend lead to, whose timeouts hold there, too.
    fn target(&mut self, frontend: &Section, backend: &Section) -> Option<Target> {
        if is_http(backend) {
            self.whole(backend, HTTP);
            return None;
        }
        let lines: Vec<&Directive> = frontend.lines.iter().chain(&backend.lines).collect();
        let own: BTreeSet<usize> = backend.lines.iter().map(|line| line.line).collect();
        let import = self.import(&lines, |line| own.contains(&line.line) || line.word(0) == "timeout");
        let group = import.finish_target(&backend.head);
        self.used.insert(backend.head.line);
        Some(self.draft.add_target(backend.name(), group))
    }

    /// Reads the lines that count, out of those that may say something of them.
    fn import(&mut self, lines: &[&Directive], counts: impl Fn(&Directive) -> bool) -> Import {
        let mut import = Import::new(lines, &self.bases);
        let mut seen = BTreeSet::new();
        for line in lines.iter().filter(|line| counts(line)) {
            // What both get from the same defaults is read once.
            if !seen.insert(line.line) {
                continue;
            }
            if line.is_default {
                self.read.insert(line.line);
            }
            if let Err(why) = import.read(line) {
                let note = Note::new(line.line, line.text.clone(), why);
                let notes = if line.is_default { &mut self.draft.notes } else { &mut import.group.notes };
                if !notes.contains(&note) {
                    notes.push(note);
                }
            }
        }
        import
    }

    fn push(&mut self, section: &Section, done: Result<GroupDraft, String>) {
        match done {
            Ok(group) => {
                self.names.push(section.name().to_owned());
                self.draft.groups.push(group);
            }
            Err(why) => self.whole(section, &why),
        }
    }

    /// Tells that nothing of a section is taken over.
    fn whole(&mut self, section: &Section, why: &str) {
        let own = section.lines.iter().filter(|line| !line.is_default);
        let last = own.map(|line| line.line).max().unwrap_or(section.head.line);
        let what = match last == section.head.line {
            true => section.head.text.clone(),
            false => format!("{} (to line {last})", section.head.text),
        };
        self.draft.notes.push(Note::new(section.head.line, what, why));
    }
}

fn is_http(section: &Section) -> bool {
    section.lines.iter().rfind(|line| line.word(0) == "mode").is_some_and(|line| line.word(1) == "http")
}
