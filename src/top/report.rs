//! What is shown, for those who look once: a table, or JSON for programs.

use std::fmt::Write;

use serde_json::{Value, json};

use super::state::{Group, Row, Server, State};
use super::text::{bytes, micros};
use crate::base::text::{count, grouped, one_line};

/// The longest cause that is shown, in characters.
const CAUSE_CHARS_MAX: usize = 120;

/// Every group with its servers, one line each.
pub(super) fn table(state: &State) -> String {
    let mut text = String::new();
    let (online, servers) = state.online();
    let process = &state.process;
    line(
        &mut text,
        format_args!(
            "goproxy {}  {online} of {} online  {} of at most {} sessions  {}/s  up {}/s  down {}/s",
            one_line(&process.version, CAUSE_CHARS_MAX),
            count(servers, "server"),
            number(state.totals[0]),
            grouped(process.sessions_max),
            number(state.totals[1]),
            state.totals[2].map_or_else(unknown, bytes),
            state.totals[3].map_or_else(unknown, bytes),
        ),
    );
    if let Some(error) = &process.reload.error {
        line(&mut text, format_args!("last reload refused: {}", one_line(error, 4 * CAUSE_CHARS_MAX)));
    }
    let addr_len = |server: &Server| server.facts.addr.chars().count();
    let width = state.servers.values().map(addr_len).max().unwrap_or(0).max(6);
    for (i, group) in &state.groups {
        text.push('\n');
        write_group(&mut text, group);
        line(
            &mut text,
            format_args!(
                "{:width$}  {:7}  {:>8}  {:>7}  {:>5}  {:>6}  {:>7}  CAUSE",
                "SERVER", "STATE", "SESSIONS", "RATE", "SHARE", "WEIGHT", "CONNECT"
            ),
        );
        for server in state.servers.values().filter(|server| server.facts.g == *i) {
            write_server(&mut text, server, width);
        }
    }
    text
}

fn write_group(text: &mut String, group: &Group) {
    let facts = &group.facts;
    let name = if facts.group == facts.port.to_string() { String::new() } else { format!(" {}", facts.group) };
    let mut notes = String::new();
    if !facts.is_policy_well() {
        write!(notes, " ({})", facts.policy_state).expect("a String takes whatever is written");
    }
    for (is_so, note) in
        [(!facts.open, "  closed"), (facts.fail_open, "  fail open"), (facts.self_preservation, "  self-preservation")]
    {
        notes.push_str(if is_so { note } else { "" });
    }
    let group_line = format!(
        "GROUP {}{name}  {}  {}{notes}  {} of {} online  sessions {}  rate {}",
        facts.port,
        facts.listen,
        facts.policy,
        group.servers.0,
        group.servers.1,
        number(group.row[0]),
        number(group.row[1])
    );
    line(text, format_args!("{}", one_line(&group_line, 4 * CAUSE_CHARS_MAX)));
}

fn write_server(text: &mut String, server: &Server, width: usize) {
    let facts = &server.facts;
    let [sessions, rate, share, connect_us, _] = server.row;
    let backup = if facts.backup { "backup " } else { "" };
    line(
        text,
        format_args!(
            "{:width$}  {:7}  {:>8}  {:>7}  {:>5}  {:>6}  {:>7}  {backup}{}",
            one_line(&facts.addr, CAUSE_CHARS_MAX),
            facts.standing().word(),
            number(sessions),
            number(rate),
            share.map_or_else(unknown, |share| format!("{share}%")),
            facts.weight,
            connect_us.map_or_else(unknown, micros),
            one_line(facts.cause.as_deref().unwrap_or_default(), CAUSE_CHARS_MAX),
        ),
    );
}

fn number(number: Option<u64>) -> String {
    number.map_or_else(unknown, grouped)
}

fn unknown() -> String {
    "-".to_owned()
}

fn line(text: &mut String, args: std::fmt::Arguments<'_>) {
    let from = text.len();
    text.write_fmt(args).expect("a String takes whatever is written");
    text.truncate(from + text[from..].trim_end().len());
    text.push('\n');
}

/// Everything as one object on a line: each thing with its facts and its numbers.
pub(super) fn json(state: &State) -> String {
    let servers = |group: u32| -> Vec<Value> {
        let of_group = state.servers.values().filter(|server| server.facts.g == group);
        let names = ["sessions", "rate", "share", "connect_us", "check_us"];
        of_group.map(|server| with(&server.facts, names, server.row)).collect()
    };
    let groups = state.groups.iter().map(|(i, group)| {
        let mut object = with(&group.facts, ["sessions", "rate", "up", "down", "refused"], group.row);
        object["servers"] = servers(*i).into();
        object
    });
    let [sessions, rate, up, down] = state.totals;
    let all = json!({
        "at_ms": state.at_ms,
        "process": state.process,
        "sessions": sessions,
        "rate": rate,
        "up": up,
        "down": down,
        "groups": groups.collect::<Vec<_>>(),
        "policies": state.policies,
    });
    format!("{all}\n")
}

fn with<const N: usize>(facts: &impl serde::Serialize, names: [&str; N], row: Row<N>) -> Value {
    let mut object = serde_json::to_value(facts).expect("facts have string keys and no failing part");
    for (name, number) in names.into_iter().zip(row) {
        object[name] = number.into();
    }
    object
}
