//! `goproxy events`: what happens in a running proxy, a line for each event.

use std::fmt::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::{Map, Value};

use super::admin::AdminArgs;
use super::output::{self, print_error};
use crate::admin_client::{AdminClient, AskError, Follow, Message, Told, encoded};
use crate::base::terminal::Style;
use crate::base::text::count;
use crate::events::GAP;
use crate::log::logfmt;

/// The events before the first new one that `--follow` begins with, as `tail -f` does.
const EVENTS_BEFORE: usize = 10;

/// How long the proxy may be silent: it says something every 15 seconds.
const SILENCE_MAX: Duration = Duration::from_secs(40);

/// The arguments of `events`.
#[derive(Args, Debug)]
pub struct EventsArgs {
    /// Where the proxy is.
    #[command(flatten)]
    pub admin: AdminArgs,
    /// Go on with what happens from now on, after the last ten; also when the proxy is restarted
    #[arg(short, long)]
    pub follow: bool,
    /// Begin after the event with this id, which --json shows; 0 for all that are kept
    #[arg(long, value_name = "ID")]
    pub since: Option<u64>,
    /// Show only what happens to this group: its name or port
    #[arg(long, value_name = "GROUP")]
    pub group: Option<String>,
    /// Print each event as one JSON object on a line
    #[arg(long)]
    pub json: bool,
}

/// Prints what has happened, and with `--follow` what happens.
///
/// # Errors
///
/// The proxy cannot be asked, or stdout cannot be written to.
pub fn events(args: &EventsArgs) -> anyhow::Result<ExitCode> {
    args.admin.ask(async |client| tell(args, client).await).map(|_| ExitCode::SUCCESS)
}

/// Whoever reads stdout has gone, or everything was told.
struct Done;

async fn tell(args: &EventsArgs, client: AdminClient) -> anyhow::Result<Done> {
    let group = args.group.as_deref().map(|group| format!("&group={}", encoded(group))).unwrap_or_default();
    let since = args.since.unwrap_or(0);
    let lines = Lines { is_json: args.json, style: Style::of_stdout() };
    let mut happened = happened(&client, &format!("/events?follow=no&since={since}{group}")).await?;
    let last_id = happened.iter().rev().find_map(|message| message.id).unwrap_or(since);
    if args.follow && args.since.is_none() {
        happened.drain(..happened.len().saturating_sub(EVENTS_BEFORE));
    }
    let text: String = happened.iter().map(|message| lines.line(message)).collect();
    if !output::print_while_read(&text)? || !args.follow {
        return Ok(Done);
    }
    let follow = Follow::new(client, format!("/events?since={last_id}{group}"), Some(last_id), SILENCE_MAX);
    go_on(follow, lines).await
}

/// What has happened so far.
async fn happened(client: &AdminClient, target: &str) -> Result<Vec<Message>, AskError> {
    let mut subscription = client.subscribe(target, None, SILENCE_MAX).await?;
    let mut messages = Vec::new();
    while let Some(message) = subscription.next().await? {
        messages.push(message);
    }
    Ok(messages)
}

/// Tells what happens until nobody listens or the proxy refuses.
async fn go_on(mut follow: Follow, lines: Lines) -> anyhow::Result<Done> {
    let mut is_lost = false;
    loop {
        match follow.next().await? {
            Told::Message(message) => {
                if !output::print_while_read(&lines.line(&message))? {
                    return Ok(Done);
                }
            }
            Told::Lost(error) if !is_lost => {
                is_lost = true;
                let error = output::error_text(&error.into());
                print_error(format_args!("goproxy: {error}; trying to connect again"));
            }
            Told::Lost(_) => {}
            Told::Connected => {
                if std::mem::take(&mut is_lost) {
                    print_error(format_args!("goproxy: connected again"));
                }
            }
        }
    }
}

/// How events are printed.
#[derive(Clone, Copy)]
struct Lines {
    is_json: bool,
    style: Style,
}

impl Lines {
    /// The line of an event, with its end.
    fn line(self, message: &Message) -> String {
        if self.is_json { json(message) } else { self.text(message) }
    }

    /// As the lines of the log are, with the event's name as a field.
    fn text(self, message: &Message) -> String {
        let style = self.style;
        let mut fields: Map<String, Value> = serde_json::from_str(&message.data).unwrap_or_default();
        if message.event == GAP && !fields.contains_key("message") {
            return format!("{}\n", style.yellow(&gap(&fields)));
        }
        let mut take = |name: &str| match fields.shift_remove(name) {
            Some(Value::String(text)) => text,
            _ => String::new(),
        };
        let (at, level, said) = (take("at"), take("level"), take("message"));
        let level = match level.as_str() {
            "ERROR" => style.red("ERROR"),
            "WARN" => style.yellow(" WARN"),
            _ => style.green(" INFO"),
        };
        let mut line = format!("{} {level} {}", style.dim(&logfmt::Message(&at).to_string()), logfmt::Message(&said));
        let name = ("event".to_owned(), Value::String(message.event.clone()));
        for (name, value) in std::iter::once(name).chain(fields) {
            let name = logfmt::Name { name: &name, has_color: style.is_colored };
            let value = match value {
                Value::String(text) => text,
                other => other.to_string(),
            };
            write!(line, " {name}{}", logfmt::Value(&value)).expect("a String takes whatever is written");
        }
        line.push('\n');
        line
    }
}

/// What is told in place of events that nobody has any more.
fn gap(fields: &Map<String, Value>) -> String {
    let missed = fields.get("missed").and_then(Value::as_u64).unwrap_or(0);
    let mut text = "--".to_owned();
    if fields.get("restarted") == Some(&Value::Bool(true)) {
        text.push_str(" the proxy was started anew; what happened before is not known to it");
    }
    if missed > 0 {
        let missed = count(usize::try_from(missed).unwrap_or(usize::MAX), "event");
        write!(text, " {missed} before this, no longer kept").expect("a String takes whatever is written");
    }
    text
}

/// The event as one object: id, name, and what it says.
fn json(message: &Message) -> String {
    let id = message.id.map(|id| format!("\"id\":{id},")).unwrap_or_default();
    // Taken over as it stands, unless it is no object: then whoever sent it is no goproxy.
    let data = message.data.strip_prefix('{').filter(|data| !data.contains('\n')).unwrap_or("}");
    let separator = if data == "}" { "" } else { "," };
    let name = Value::from(message.event.as_str());
    format!("{{{id}\"event\":{name}{separator}{data}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(event: &str, data: &str) -> Message {
        Message { id: Some(7), event: event.to_owned(), data: data.to_owned() }
    }

    fn plain(event: &str, data: &str) -> String {
        Lines { is_json: false, style: Style::default() }.line(&message(event, data))
    }

    const OFFLINE: &str = r#"{"at":"2026-11-30T10:00:00.123Z","level":"WARN","message":"server offline","group":8081,"server.addr":"10.0.0.5:9000","cause":"no \u001b[31m answer"}"#;

    #[test]
    fn a_line_is_one_of_the_log_with_the_name_of_the_event() {
        assert_eq!(
            plain("server_offline", OFFLINE),
            "2026-11-30T10:00:00.123Z  WARN server offline event=server_offline group=8081 server.addr=10.0.0.5:9000 \
             cause=\"no \\u{1b}[31m answer\"\n"
        );
        let colored = Lines { is_json: false, style: Style { is_terminal: true, is_colored: true } };
        let line = colored.line(&message("server_offline", OFFLINE));
        assert!(line.contains("\x1b[33m WARN\x1b[0m server offline"), "{line:?}");
    }

    #[test]
    fn json_has_the_id_and_the_name_beside_what_the_event_says() {
        let lines = Lines { is_json: true, style: Style::default() };
        let line = lines.line(&message("server_offline", OFFLINE));
        let json: Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&json["id"], &json["event"], &json["group"]), (&7.into(), &"server_offline".into(), &8081.into()));
        let gap = Message { id: None, ..message(GAP, r#"{"missed":3,"restarted":false}"#) };
        assert_eq!(lines.line(&gap), "{\"event\":\"gap\",\"missed\":3,\"restarted\":false}\n");
        for data in ["", "{}", "x", "{\n}"] {
            assert_eq!(lines.line(&message("x", data)), "{\"id\":7,\"event\":\"x\"}\n", "{data}");
        }
    }

    #[test]
    fn what_is_missing_is_said() {
        assert_eq!(plain(GAP, r#"{"missed":3,"restarted":false}"#), "-- 3 events before this, no longer kept\n");
        let restarted = plain(GAP, r#"{"missed":0,"restarted":true}"#);
        assert_eq!(restarted, "-- the proxy was started anew; what happened before is not known to it\n");
    }
}
