//! nginx's configuration: what is in `stream`.
//!
//! A `server` block is a group, with the servers of the `upstream` that it names. What `stream` itself says holds for each
//! of them, and is told once where it has no equivalent.

mod group;
mod routes;
mod tls;
mod words;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::draft::{Draft, Note, Route, Routing, Sni, Target, Way};
use group::{Import, Servers};
use routes::Choice;
use words::{Directive, directives, note};

/// What stands in `stream` and is no directive of a server.
const BLOCKS: [&str; 7] = ["upstream", "server", "map", "geo", "split_clients", "limit_conn_zone", "match"];

/// Reads the text.
///
/// # Errors
///
/// What makes no sense, and in which line.
pub(super) fn read(text: &str) -> Result<Draft, String> {
    let all = directives(text)?;
    let mut draft = Draft::default();
    let mut names = Vec::new();
    // A file that another one includes may be what stands in `stream`.
    let has_stream = all.iter().any(|directive| directive.word(0) == "stream");
    match has_stream {
        true => {
            for directive in &all {
                match directive.word(0) {
                    "stream" => stream(directive.inside(), &mut draft, &mut names),
                    _ => outside(directive, &mut draft),
                }
            }
        }
        false => stream(&all, &mut draft, &mut names),
    }
    draft.notes.sort_by_key(|note| note.line);
    draft.name_groups(names);
    Ok(draft)
}

/// Reads what stands beside `stream`.
fn outside(directive: &Directive, draft: &mut Draft) {
    let why = match (directive.word(0), directive.word(1).parse::<u32>()) {
        ("worker_processes", Ok(threads)) => {
            draft.keys.insert("threads".to_owned(), json!(threads));
            return;
        }
        ("worker_processes", Err(_)) if directive.word(1) == "auto" => return,
        ("worker_cpu_affinity", _) => {
            draft.keys.insert("pin_threads".to_owned(), json!(true));
            return;
        }
        ("http" | "mail", _) => "this is of HTTP or mail; nothing of it is taken over",
        ("events", _) => "max_sessions is the limit; without it, what the descriptors allow",
        ("user" | "pid" | "daemon" | "master_process", _) => "the service manager does this",
        ("error_log", _) => "the log goes to stderr",
        ("include", _) => "other files are not read: import them by themselves",
        _ => "no equivalent",
    };
    draft.notes.push(note(directive, why));
}

fn stream(all: &[Directive], draft: &mut Draft, names: &mut Vec<String>) {
    let upstreams: BTreeMap<&str, &Directive> =
        all.iter().filter(|it| it.word(0) == "upstream").map(|upstream| (upstream.word(1), upstream)).collect();
    let zones: BTreeMap<&str, &Directive> =
        all.iter().filter(|it| it.word(0) == "limit_conn_zone").filter_map(zone).collect();
    let shared: Vec<&Directive> = all.iter().filter(|it| !BLOCKS.contains(&it.word(0))).collect();
    let reader = Reader { all, upstreams, zones: &zones, shared };
    let mut used = BTreeSet::new();
    let mut told = BTreeSet::new();
    for server in all.iter().filter(|it| it.word(0) == "server") {
        let (import, refused) = reader.import(server);
        for (directive, why) in refused {
            if told.insert(directive.line) {
                draft.notes.push(note(directive, why));
            }
        }
        let pass = server.inside().iter().find(|it| it.word(0) == "proxy_pass").map_or("", |it| it.word(1));
        let done = match reader.choice(server, pass) {
            Some(choice) => {
                used.insert(choice.line);
                import.finish(Servers::None).map(|(mut group, port)| {
                    group.routing = Some(reader.routing(server, choice, &mut group.notes, &mut used, draft));
                    (group, port)
                })
            }
            None => import.finish(reader.servers(pass)),
        };
        match done {
            Ok((group, port)) => {
                let upstream = reader.upstreams.get(pass).copied();
                used.extend(upstream.map(|upstream| upstream.line));
                names.push(upstream.map_or_else(|| format!("port-{port}"), |upstream| upstream.word(1).to_owned()));
                draft.groups.push(group);
            }
            Err(why) => draft.notes.push(note(server, why)),
        }
    }
    for directive in all {
        let why = match directive.word(0) {
            "upstream" if !used.contains(&directive.line) => "no server passes sessions to it",
            "map" if used.contains(&directive.line) => continue,
            "map" | "geo" | "split_clients" | "match" => "no equivalent",
            "limit_conn_zone" if zone(directive).is_none() => {
                "only $binary_remote_addr and $remote_addr have an equivalent"
            }
            _ => continue,
        };
        draft.notes.push(note(directive, why));
    }
}

/// What stands in `stream`.
struct Reader<'a> {
    all: &'a [Directive],
    upstreams: BTreeMap<&'a str, &'a Directive>,
    zones: &'a BTreeMap<&'a str, &'a Directive>,
    /// What holds for all servers.
    shared: Vec<&'a Directive>,
}

impl<'a> Reader<'a> {
    /// What a `server` block and `stream` say of a group, and what of `stream` has no equivalent.
    fn import(&self, server: &Directive) -> (Import<'a>, Vec<(&'a Directive, String)>) {
        let mut import = Import::new(server, self.zones);
        let mut refused = Vec::new();
        // What a server says of its own stands for what stream says.
        let own: BTreeSet<&str> = server.inside().iter().map(|it| it.word(0)).collect();
        for directive in self.shared.iter().filter(|it| !own.contains(it.word(0))) {
            if let Err(why) = import.read(directive) {
                refused.push((*directive, why));
            }
        }
        for directive in server.inside() {
            if let Err(why) = import.read(directive) {
                import.group.notes.push(note(directive, why));
            }
        }
        (import, refused)
    }

    fn servers(&self, place: &'a str) -> Servers<'a> {
        self.upstreams.get(place).map_or(Servers::One(place), |upstream| Servers::Upstream(upstream))
    }

    /// What a hello chooses in a `server` block that passes sessions to this.
    fn choice(&self, server: &Directive, pass: &str) -> Option<Choice<'a>> {
        let is_on = |it: &Directive| it.word(0) == "ssl_preread" && it.word(1) == "on";
        let own = server.inside().iter().find(|it| it.word(0) == "ssl_preread");
        let is_read = own.or_else(|| self.shared.iter().copied().find(|it| is_on(it))).is_some_and(is_on);
        is_read.then(|| routes::choice(self.all, pass))?
    }

    /// Where the clients of a `server` block go by their hello. Each place becomes a group.
    fn routing(
        &self,
        server: &Directive,
        choice: Choice<'a>,
        notes: &mut Vec<Note>,
        used: &mut BTreeSet<usize>,
        draft: &mut Draft,
    ) -> Routing {
        let Choice { by_name, default, plain, notes: doubts, .. } = choice;
        notes.extend(doubts);
        let mut targets: BTreeMap<&str, Option<Target>> = BTreeMap::new();
        let mut target_of = |place: &'a str| {
            let known = targets.entry(place);
            *known.or_insert_with(|| match self.import(server).0.finish_target(self.servers(place)) {
                Ok(group) => {
                    used.extend(self.upstreams.get(place).map(|upstream| upstream.line));
                    Some(draft.add_target(place, group))
                }
                Err(why) => {
                    notes.push(note(server, why));
                    None
                }
            })
        };
        let route = |(sni, place): (Sni, &'a str)| Some(Route { sni, alpn: Vec::new(), to: target_of(place)? });
        let routes = by_name.into_iter().filter_map(route).collect();
        let mut way = |place: Option<&'a str>| place.and_then(&mut target_of).map_or(Way::Close, Way::To);
        Routing { routes, default: way(default), plain: way(plain) }
    }
}

/// A zone that counts the sessions of each client, by its name.
fn zone(directive: &Directive) -> Option<(&str, &Directive)> {
    let is_client = ["$binary_remote_addr", "$remote_addr"].contains(&directive.word(1));
    let name = directive.word(2).strip_prefix("zone=")?.split(':').next()?;
    is_client.then_some((name, directive))
}
