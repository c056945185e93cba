//! A `proxy.json` that is being written, with comments for what has no place in it.

use std::collections::BTreeSet;
use std::fmt::Write;

use serde_json::{Map, Value, json};

/// The first port of groups that only routes lead to.
const TARGET_PORT_MIN: u16 = 9_001;

/// Keys in order.
pub(super) type Keys = Map<String, Value>;

/// Something of the other proxy's file that has no equivalent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Note {
    /// Counted from one.
    pub(super) line: usize,
    /// As it stands there.
    pub(super) what: String,
    pub(super) why: String,
}

/// The whole file.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) notes: Vec<Note>,
    /// Those of the top level.
    pub(super) keys: Keys,
    pub(super) groups: Vec<GroupDraft>,
    /// Groups that only routes lead to, with the names that they are to have.
    targets: Vec<(String, GroupDraft)>,
}

#[derive(Debug, Default)]
pub(super) struct GroupDraft {
    pub(super) notes: Vec<Note>,
    /// All but the servers.
    pub(super) keys: Keys,
    pub(super) servers: Vec<ServerDraft>,
    /// Then it has no servers of its own.
    pub(super) routing: Option<Routing>,
}

/// Where a group gives its clients.
#[derive(Debug)]
pub(super) struct Routing {
    pub(super) routes: Vec<Route>,
    /// Where a hello goes that no route takes.
    pub(super) default: Way,
    /// Where goes what is no TLS.
    pub(super) plain: Way,
}

/// Which clients go to another group.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) sni: Sni,
    pub(super) alpn: Vec<String>,
    pub(super) to: Target,
}

/// The names that a route is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sni {
    Any,
    Missing,
    Names(Vec<String>),
}

/// A group that only routes lead to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target(usize);

/// Where clients go that no route takes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    Close,
    To(Target),
}

#[derive(Debug, Default)]
pub(super) struct ServerDraft {
    pub(super) notes: Vec<Note>,
    pub(super) keys: Keys,
}

impl Note {
    pub(super) fn new(line: usize, what: impl Into<String>, why: impl Into<String>) -> Self {
        Self { line, what: what.into(), why: why.into() }
    }

    /// On one line, whatever the other file holds.
    fn write(&self, indent: &str, out: &mut String) {
        let plain = |text: &str| text.replace(|c: char| c.is_control(), " ");
        let _infallible = writeln!(out, "{indent}// line {}, {}: {}", self.line, plain(&self.what), plain(&self.why));
    }
}

impl ServerDraft {
    /// One that says nothing but its address is short.
    fn value(&self) -> Value {
        match self.keys.get("addr") {
            Some(addr) if self.keys.len() == 1 => addr.clone(),
            _ => Value::Object(self.keys.clone()),
        }
    }
}

impl Routing {
    fn write(self, keys: &mut Keys, name_of: impl Fn(Target) -> Value) {
        let route = |route: Route| {
            let mut keys = Keys::new();
            match route.sni {
                Sni::Any => {}
                Sni::Missing => _ = keys.insert("sni".to_owned(), Value::Null),
                Sni::Names(names) => _ = keys.insert("sni".to_owned(), json!(names)),
            }
            if !route.alpn.is_empty() {
                keys.insert("alpn".to_owned(), json!(route.alpn));
            }
            keys.insert("group".to_owned(), name_of(route.to));
            Value::Object(keys)
        };
        let way = |way| match way {
            Way::Close => json!("close"),
            Way::To(target) => name_of(target),
        };
        keys.insert("routes".to_owned(), self.routes.into_iter().map(route).collect());
        keys.insert("route_default".to_owned(), way(self.default));
        keys.insert("route_plain".to_owned(), way(self.plain));
    }
}

impl Draft {
    /// A group that is to be reached by routes only.
    pub(super) fn add_target(&mut self, name: &str, group: GroupDraft) -> Target {
        self.targets.push((name.to_owned(), group));
        Target(self.targets.len() - 1)
    }

    /// Adds the groups that only routes lead to, and gives every group a name of its own, which the file accepts.
    pub(super) fn name_groups(&mut self, mut names: Vec<String>) {
        let first_target = self.groups.len();
        let mut ports = free_ports(&self.groups);
        for (name, mut group) in std::mem::take(&mut self.targets) {
            names.push(name);
            let keys = std::mem::take(&mut group.keys);
            let port = ports.next().expect("there are more ports than groups");
            group.keys.insert("listen".to_owned(), json!(format!("127.0.0.1:{port}")));
            group.keys.insert("open".to_owned(), json!(false));
            group.keys.extend(keys);
            self.groups.push(group);
        }
        let mut taken: Vec<String> = Vec::new();
        for (group, wanted) in self.groups.iter_mut().zip(names) {
            let mut name = group_name(&wanted);
            let mut number = 2;
            while taken.contains(&name) {
                name = format!("{}-{number}", group_name(&wanted));
                number += 1;
            }
            taken.push(name.clone());
            // What a group is called comes first.
            let keys = std::mem::take(&mut group.keys);
            group.keys.insert("name".to_owned(), json!(name));
            group.keys.extend(keys);
        }
        for group in &mut self.groups {
            if let Some(routing) = group.routing.take() {
                routing.write(&mut group.keys, |Target(at)| json!(taken[first_target + at]));
            }
        }
    }

    /// The text, made by this command.
    pub(super) fn write(&self, command: &str) -> String {
        let command = command.replace(|c: char| c.is_control(), " ");
        let mut out = format!("// Made by `{command}`. A comment stands for what has no equivalent here.\n{{\n");
        self.notes.iter().for_each(|note| note.write("  ", &mut out));
        write_keys(&self.keys, "  ", true, &mut out);
        out += "  \"groups\": [\n";
        for (at, group) in self.groups.iter().enumerate() {
            group.write(at + 1 == self.groups.len(), &mut out);
        }
        out += "  ]\n}\n";
        out
    }
}

impl GroupDraft {
    fn write(&self, is_last: bool, out: &mut String) {
        *out += "    {\n";
        self.notes.iter().for_each(|note| note.write("      ", out));
        write_keys(&self.keys, "      ", true, out);
        *out += "      \"servers\": [\n";
        for (at, server) in self.servers.iter().enumerate() {
            server.notes.iter().for_each(|note| note.write("        ", out));
            let comma = if at + 1 == self.servers.len() { "" } else { "," };
            let _infallible = writeln!(out, "        {}{comma}", spaced(&server.value()));
        }
        *out += "      ]\n";
        *out += if is_last { "    }\n" } else { "    },\n" };
    }
}

/// Ports that none of these groups listens on.
fn free_ports(groups: &[GroupDraft]) -> impl Iterator<Item = u16> + use<> {
    let listens = groups.iter().flat_map(|group| match &group.keys["listen"] {
        Value::Array(several) => several.clone(),
        one => vec![one.clone()],
    });
    let port = |listen: Value| listen.as_str()?.rsplit_once(':')?.1.parse::<u16>().ok();
    let used: BTreeSet<u16> = listens.filter_map(port).collect();
    (TARGET_PORT_MIN..=u16::MAX).filter(move |port| !used.contains(port))
}

fn write_keys(keys: &Keys, indent: &str, goes_on: bool, out: &mut String) {
    for (at, (key, value)) in keys.iter().enumerate() {
        let comma = if goes_on || at + 1 < keys.len() { "," } else { "" };
        let _infallible = writeln!(out, "{indent}{}: {}{comma}", json!(key), spaced(value));
    }
}

/// On one line, with blanks where people put them.
fn spaced(value: &Value) -> String {
    match value {
        Value::Object(keys) if keys.is_empty() => "{}".to_owned(),
        Value::Object(keys) => {
            let parts: Vec<String> =
                keys.iter().map(|(key, value)| format!("{}: {}", json!(key), spaced(value))).collect();
            format!("{{ {} }}", parts.join(", "))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(spaced).collect::<Vec<_>>().join(", ")),
        plain => plain.to_string(),
    }
}

/// A name as the file wants it: 1 to 64 of a-z, 0-9, `_` and `-`, not digits alone.
fn group_name(wanted: &str) -> String {
    let fit = |c: char| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c.to_ascii_lowercase() } else { '-' };
    let name: String = wanted.chars().take(56).map(fit).collect();
    match name.bytes().all(|byte| byte.is_ascii_digit()) {
        true => format!("group-{name}"),
        false => name,
    }
}

/// A time as the file writes it, in the largest unit that fits.
pub(super) fn duration(millis: u64) -> String {
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    let fitting = units.into_iter().find(|(unit, _)| millis > 0 && millis.is_multiple_of(*unit));
    match fitting {
        Some((unit, name)) => format!("{}{name}", millis / unit),
        None if millis == 0 => "0s".to_owned(),
        None => format!("{millis}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_groups_are_made_to_fit_and_stay_apart() {
        let listening = |port| GroupDraft {
            keys: [("listen".to_owned(), json!(format!("0.0.0.0:{port}")))].into_iter().collect(),
            ..GroupDraft::default()
        };
        let mut draft = Draft { groups: (1..5).map(listening).collect(), ..Draft::default() };
        draft.name_groups(["Web.Front", "web-front", "80", "x"].map(str::to_owned).into());
        let names: Vec<_> = draft.groups.iter().map(|group| group.keys["name"].clone()).collect();
        assert_eq!(names, ["web-front", "web-front-2", "group-80", "x"]);
    }

    #[test]
    fn a_time_is_written_in_the_largest_unit_that_fits() {
        for (millis, text) in
            [(0, "0s"), (1, "1ms"), (1_500, "1500ms"), (2_000, "2s"), (600_000, "10m"), (86_400_000, "1d")]
        {
            assert_eq!(duration(millis), text);
        }
    }

    #[test]
    fn a_comment_stays_on_its_line() {
        let note = Note::new(3, "a\nb", "c\r\u{2}d");
        let draft = Draft { notes: vec![note], ..Draft::default() };
        assert!(draft.write("x\ny").contains("  // line 3, a b: c  d\n"), "{}", draft.write(""));
    }
}
