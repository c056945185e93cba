//! A frame as text, for `curl` and `grep`.

use std::fmt::Write;

use super::sample::{GroupFacts, ServerFacts};
use super::tracker::{Frame, Shown};
use crate::base::text::{count, grouped, one_line, time};

/// The longest cause that is shown, in characters.
const CAUSE_CHARS_MAX: usize = 120;

/// Every group with its servers, one line each. Words of servers come last, where they shift no column.
pub(super) fn render(frame: &Frame) -> String {
    let mut text = String::new();
    let online = frame.servers.iter().filter(|server| server.facts.online).count();
    let [sessions, ..] = frame.totals;
    let process = &frame.process;
    line(
        &mut text,
        format_args!(
            "goproxy {}  {online} of {} online  {} of at most {} sessions",
            process.version,
            count(frame.servers.len(), "server"),
            grouped(sessions.unwrap_or(0)),
            grouped(process.sessions_max),
        ),
    );
    if let Some(error) = &process.reload.error {
        line(&mut text, format_args!("last reload refused: {}", one_line(error, 4 * CAUSE_CHARS_MAX)));
    }
    let width = frame.servers.iter().map(|server| server.facts.addr.chars().count()).max().unwrap_or(0).max(6);
    let mut servers = frame.servers.iter().peekable();
    for group in &frame.groups {
        text.push('\n');
        write_group(&mut text, group);
        line(
            &mut text,
            format_args!(
                "{:width$}  {:7}  {:>8}  {:>6}  {:>9}  cause",
                "SERVER", "STATE", "SESSIONS", "WEIGHT", "CONNECT"
            ),
        );
        while let Some(server) = servers.next_if(|server| server.facts.g == group.i) {
            write_server(&mut text, server, width);
        }
    }
    text
}

fn write_group(text: &mut String, group: &Shown<GroupFacts, 5>) {
    let facts = &group.facts;
    let state = if facts.open { "open" } else { "closed" };
    let sessions = grouped(group.row[0].unwrap_or(0));
    let mut notes = String::new();
    if facts.policy_state.as_str() != "loaded" {
        write!(notes, ", {}", facts.policy_state).expect("a String takes whatever is written");
    }
    for (is_so, note) in [(facts.fail_open, ", fail open"), (facts.self_preservation, ", self-preservation")] {
        notes.push_str(if is_so { note } else { "" });
    }
    let name = if facts.group == facts.port.to_string() { String::new() } else { format!(" {}", facts.group) };
    line(
        text,
        format_args!(
            "GROUP {}{name}  {}  {state}  {}{notes}  sessions={sessions}",
            facts.port, facts.listen, facts.policy
        ),
    );
}

fn write_server(text: &mut String, server: &Shown<ServerFacts, 5>, width: usize) {
    let facts = &server.facts;
    let [sessions, _, _, connect_us, _] = server.row.map(|number| number.unwrap_or(0));
    let connect = if connect_us == 0 { "-".to_owned() } else { time(connect_us as f64 * 1e3) };
    let cause = one_line(facts.cause.as_deref().unwrap_or_default(), CAUSE_CHARS_MAX);
    let backup = if facts.backup { "backup " } else { "" };
    line(
        text,
        format_args!(
            "{:width$}  {:7}  {:>8}  {:>6}  {connect:>9}  {backup}{cause}",
            facts.addr,
            facts.word(),
            grouped(sessions),
            facts.weight,
        ),
    );
}

fn line(text: &mut String, args: std::fmt::Arguments<'_>) {
    let from = text.len();
    text.write_fmt(args).expect("a String takes whatever is written");
    text.truncate(from + text[from..].trim_end().len());
    text.push('\n');
}
