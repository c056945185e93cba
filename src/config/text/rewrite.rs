//! Writing what is wanted of the groups into the text they were read from.
//!
//! Only what differs is taken apart: the list of groups, a group, its list of servers, a server. Each is a [`List`],
//! which leaves the other items as they are. New parts are laid out like their neighbours. The caller has checked what
//! is wanted.

use std::collections::{BTreeMap, HashSet};

use jsonc_parser::ast::{Object, Value};
use jsonc_parser::common::Ranged;

use super::items::{Fresh, List};
use crate::config::declare::Fields;
use crate::config::fields::{GroupConfig, server_text};
use crate::config::key::Style;
use crate::config::syntax::syntax;
use crate::config::units::quoted;
use crate::group::GroupSettings;
use crate::server::ServerSettings;

/// A group as it is wanted.
pub(super) struct Wanted<'w> {
    pub(super) group: &'w GroupConfig,
    /// What the text says of it; `None` for a new group. New groups come last.
    pub(super) said: Option<&'w GroupConfig>,
    /// For each server of `group` its index in `said`; `None` for a new one. New servers come last.
    pub(super) places: &'w [Option<usize>],
}

/// `text`, which is a checked file, with the groups as wanted. `base` holds for a group that says nothing.
pub(super) fn rewritten<'w>(
    text: &str,
    newline: &'static str,
    base: &GroupSettings,
    wanted: impl Iterator<Item = Wanted<'w>>,
) -> String {
    let root = syntax(text).expect("the text was parsed before");
    let root = root.as_object().expect("a checked file is an object");
    let body = Writer { text, newline, unit: unit(text, root) }.root(root, base, wanted);
    format!("{}{body}{}", &text[..root.range.start], &text[root.range.end..])
}

/// The text and its style.
struct Writer<'t> {
    text: &'t str,
    newline: &'static str,
    /// One step of indentation.
    unit: String,
}

impl Writer<'_> {
    fn root<'w>(&self, root: &Object, base: &GroupSettings, wanted: impl Iterator<Item = Wanted<'w>>) -> List {
        let mut list = List::of_object(self.text, root, self.fresh("", true));
        let groups = root.get("groups").map(|property| &property.value);
        let (mut array, values) = match groups {
            Some(Value::Array(array)) => {
                let is_multiline = self.is_multiline(root);
                let fresh = self.fresh(self.indent_at(array.range.start), is_multiline);
                (List::of_array(self.text, array, fresh), &array.elements[..])
            }
            _ => (List::empty(['[', ']'], self.fresh_below(&list.separator())), &[][..]),
        };
        for (index, wanted) in wanted.enumerate() {
            match wanted.said {
                Some(said) if said == wanted.group => {}
                Some(said) => {
                    let value = values[index].as_object().expect("a checked group is an object");
                    array.replace(index, &self.group(value, said, &wanted).to_string());
                }
                None => array.push(self.new_group(wanted.group, base, &array.separator()).to_string()),
            }
        }
        list.set("groups", &array.to_string());
        list
    }

    fn group(&self, value: &Object, said: &GroupConfig, wanted: &Wanted) -> List {
        let Wanted { group, places, .. } = *wanted;
        let mut list = List::of_object(self.text, value, Fresh::default());
        for (name, value) in group.settings.differing(&said.settings, &Style::default()) {
            list.set(name, &value);
        }
        if group.servers != said.servers {
            let servers = match value.get("servers").map(|property| &property.value) {
                Some(Value::Array(array)) => {
                    let fresh = self.fresh(self.indent_at(array.range.start), self.is_multiline(value));
                    let list = List::of_array(self.text, array, fresh);
                    self.servers(list, &array.elements, &said.servers, &group.servers, places)
                }
                _ => self.new_servers(&group.servers, &list.separator()),
            };
            list.set("servers", &servers.to_string());
        }
        list
    }

    fn new_group(&self, group: &GroupConfig, base: &GroupSettings, separator: &str) -> List {
        let mut list = List::empty(['{', '}'], self.fresh_below(separator));
        for (name, value) in group.settings.differing(base, &Style::default()) {
            list.set(name, &value);
        }
        if !group.servers.is_empty() {
            let servers = self.new_servers(&group.servers, &list.separator());
            list.set("servers", &servers.to_string());
        }
        list
    }

    fn new_servers(&self, servers: &[ServerSettings], separator: &str) -> List {
        let mut list = List::empty(['[', ']'], self.fresh_below(separator));
        servers.iter().for_each(|server| list.push(server_text(server)));
        list
    }

    fn servers(
        &self,
        mut list: List,
        values: &[Value],
        said: &[ServerSettings],
        servers: &[ServerSettings],
        places: &[Option<usize>],
    ) -> List {
        for (server, place) in servers.iter().zip(places) {
            if let Some(place) = *place
                && *server != said[place]
            {
                list.replace(place, &self.server(&values[place], &said[place], server));
            }
        }
        let kept: HashSet<usize> = places.iter().copied().flatten().collect();
        (0..said.len()).rev().filter(|place| !kept.contains(place)).for_each(|place| list.remove(place));
        let new = servers.iter().zip(places).filter(|(_, place)| place.is_none());
        new.for_each(|(server, _)| list.push(server_text(server)));
        list
    }

    fn server(&self, value: &Value, said: &ServerSettings, server: &ServerSettings) -> String {
        let keys = server.differing(said, &Style::default());
        let Value::Object(object) = value else {
            // The address as its owner wrote it, which need not be the canonical form.
            let addr = value.text(self.text);
            let keys = keys.into_iter().map(|(name, value)| format!(", \"{name}\": {value}")).collect::<String>();
            return format!("{{ \"addr\": {addr}{keys} }}");
        };
        let mut list = List::of_object(self.text, object, Fresh::default());
        for (name, value) in keys {
            match object.get_object(name) {
                // A note of ours leaves no trace.
                None if name == "silent" && !server.silent => list.unset(name),
                Some(labels) => list.set(name, &self.labels(labels, &said.labels, &server.labels).to_string()),
                None => list.set(name, &value),
            }
        }
        list.to_string()
    }

    fn labels(&self, object: &Object, said: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> List {
        let mut list = List::of_object(self.text, object, Fresh::default());
        said.keys().filter(|name| !labels.contains_key(*name)).for_each(|name| list.unset(name));
        let changed = labels.iter().filter(|(name, text)| said.get(*name) != Some(text));
        changed.for_each(|(name, text)| list.set(name, &quoted(text)));
        list
    }

    /// The style of a list that is empty so far and starts in a line of this indentation.
    fn fresh(&self, indent: &str, is_multiline: bool) -> Fresh {
        if !is_multiline {
            return Fresh::default();
        }
        let Self { newline, unit, .. } = self;
        Fresh { item: format!("{newline}{indent}{unit}"), close: format!("{newline}{indent}") }
    }

    /// The style of a list within an item that stands behind `separator`.
    fn fresh_below(&self, separator: &str) -> Fresh {
        let is_multiline = separator.contains(['\n', '\r']);
        self.fresh(separator.trim_start_matches(['\n', '\r']), is_multiline)
    }

    fn is_multiline(&self, object: &Object) -> bool {
        let text = object.text(self.text);
        // One after the other is many times faster than both at once, and a group may have thousands of lines.
        text.contains('\n') || text.contains('\r')
    }

    /// The blanks that the line of this offset starts with.
    fn indent_at(&self, offset: usize) -> &str {
        let line = self.text[..offset].rfind(['\n', '\r']).map_or(0, |at| at + 1);
        let line = &self.text[line..offset];
        &line[..line.len() - line.trim_start_matches([' ', '\t']).len()]
    }
}

/// One step of indentation: what stands before the first key, if that has a line of its own.
fn unit(text: &str, root: &Object) -> String {
    let before = root.properties.first().map_or("", |first| &text[..first.range.start]);
    let line = before.rsplit(['\n', '\r']).next().unwrap_or("");
    let is_own_line = line.len() < before.len() && !line.is_empty() && line.trim().is_empty();
    if is_own_line { line.to_owned() } else { "  ".to_owned() }
}
