//! An event, as the list of events shows it.

use serde_json::Value;

use super::text;
use crate::admin_client::Message;
use crate::base::text::{count, one_line};
use crate::events::GAP;

/// The longest text of an event, in characters.
const TEXT_CHARS_MAX: usize = 1_000;

/// Fields of an event that nobody looks for here.
const UNTOLD: [&str; 3] = ["method", "status", "elapsed_ms"];

/// An event.
#[derive(Clone, Debug)]
pub(super) struct Happening {
    /// Counts up.
    pub(super) number: u32,
    pub(super) time: String,
    pub(super) level: Level,
    pub(super) event: String,
    pub(super) group: String,
    pub(super) server: String,
    /// What else it says.
    pub(super) rest: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Info,
    Warn,
    Error,
}

impl Happening {
    pub(super) fn read(number: u32, message: &Message) -> Self {
        let mut fields: serde_json::Map<String, Value> = serde_json::from_str(&message.data).unwrap_or_default();
        let is_gap = message.event == GAP && !fields.contains_key("message");
        let missed = fields.get("missed").and_then(Value::as_u64).and_then(|missed| usize::try_from(missed).ok());
        let restarted = fields.get("restarted") == Some(&Value::Bool(true));
        let mut take = |name: &str| match fields.shift_remove(name) {
            None => String::new(),
            Some(Value::String(text)) => one_line(&text, TEXT_CHARS_MAX),
            Some(other) => one_line(&other.to_string(), TEXT_CHARS_MAX),
        };
        let (at, level, said, group) = (take("at"), take("level"), take("message"), take("group"));
        let (name, server) = (take("group.name"), take("server.addr"));
        let level = match level.as_str() {
            "ERROR" => Level::Error,
            "WARN" => Level::Warn,
            _ if is_gap => Level::Warn,
            _ => Level::Info,
        };
        let rest = if is_gap {
            let missed = missed.filter(|missed| *missed > 0).map(|missed| count(missed, "event") + " missed");
            let restarted = restarted.then(|| "the proxy was started anew".to_owned());
            restarted.into_iter().chain(missed).collect::<Vec<_>>().join(", ")
        } else {
            rest(&said, &fields)
        };
        Self {
            number,
            time: text::time_in(&at).to_owned(),
            level,
            event: one_line(&message.event, TEXT_CHARS_MAX),
            group: if name.is_empty() { group } else { name },
            server,
            rest,
        }
    }

    /// True when it holds `search`, which is in lower case.
    pub(super) fn contains(&self, search: &str) -> bool {
        [&self.event, &self.group, &self.server, &self.rest].iter().any(|text| text.to_lowercase().contains(search))
    }
}

/// The message, and what else its fields say.
fn rest(said: &str, fields: &serde_json::Map<String, Value>) -> String {
    let mut rest = said.to_owned();
    for (name, value) in fields {
        let value = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        if value.is_empty() || UNTOLD.contains(&name.as_str()) {
            continue;
        }
        rest.push_str(if rest == said { ": " } else { ", " });
        // The cause is why one looks; its name would only take room.
        let shown =
            if ["cause", "error", "problem"].contains(&name.as_str()) { value } else { format!("{name} {value}") };
        rest.push_str(&one_line(&shown, TEXT_CHARS_MAX));
    }
    rest
}
