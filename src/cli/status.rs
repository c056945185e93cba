//! `goproxy status`: the groups and servers of a running proxy, as a table or as JSON, or only whether it is ready.
//!
//! It reads what the admin port lists and judges nothing. For a picture that goes on there is [`crate::top`].

use std::fmt::Write;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::admin::AdminArgs;
use super::output::{print, print_error};
use crate::admin_client::{AdminClient, AskError, encoded};
use crate::base::terminal::Style;
use crate::base::text::{count, grouped, one_line};

/// The longest text of a cell, in characters.
const CELL_CHARS_MAX: usize = 160;

/// The arguments of `status`.
#[derive(Args, Debug)]
pub struct StatusArgs {
    /// Where the proxy is.
    #[command(flatten)]
    pub admin: AdminArgs,
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub json: bool,
    /// Only say whether it is ready: exit 0 when it is, and 1 when it is not or cannot be asked
    #[arg(long, conflicts_with = "json")]
    pub ready: bool,
}

/// Prints the status.
///
/// # Errors
///
/// The proxy cannot be asked.
pub fn status(args: &StatusArgs) -> anyhow::Result<ExitCode> {
    args.admin.ask(async |client| {
        let not_ready = readiness(&client).await?;
        if args.ready {
            return match not_ready {
                None => print("ready\n").map(|()| ExitCode::SUCCESS),
                Some(why) => {
                    print_error(format_args!("goproxy: {}: {why}", client.addr()));
                    Ok(ExitCode::FAILURE)
                }
            };
        }
        let mut groups = groups(&client).await?;
        for group in &mut groups {
            group["servers"] = servers_of(&client, &group_id(group)).await?.into();
        }
        let text = match args.json {
            true => format!("{}\n", json!({ "ready": not_ready.is_none(), "groups": groups })),
            false => table(&groups, not_ready.as_deref(), Style::of_stdout()),
        };
        print(&text).map(|()| ExitCode::SUCCESS)
    })
}

/// Why the proxy is not ready; `None` when it is.
async fn readiness(client: &AdminClient) -> Result<Option<String>, AskError> {
    match client.get("/ready").await {
        Ok(_) => Ok(None),
        Err(AskError::Refused { code, msg, .. }) if code == "not_ready" => Ok(Some(msg)),
        Err(error) => Err(error),
    }
}

/// The groups as `group-list.do` shows them.
pub(super) async fn groups(client: &AdminClient) -> Result<Vec<Value>, AskError> {
    Ok(list(&mut client.get("/group-list.do").await?["groups"]))
}

/// What a group of that list is called in requests.
pub(super) fn group_id(group: &Value) -> String {
    group["name"].as_str().map_or_else(|| group["group"].to_string(), str::to_owned)
}

/// The servers of a group as `worker-list.do` shows them.
pub(super) async fn servers_of(client: &AdminClient, group: &str) -> Result<Vec<Value>, AskError> {
    Ok(list(&mut client.get(&format!("/worker-list.do?group={}", encoded(group))).await?["servers"]))
}

fn list(value: &mut Value) -> Vec<Value> {
    match value.take() {
        Value::Array(values) => values,
        _ => Vec::new(),
    }
}

/// Every group with its servers, a line each.
fn table(groups: &[Value], not_ready: Option<&str>, style: Style) -> String {
    let servers = || groups.iter().filter_map(|group| group["servers"].as_array()).flatten();
    let online = servers().filter(|server| server["online"] == true).count();
    let sessions: u64 = groups.iter().filter_map(|group| group["sessions"].as_u64()).sum();
    let ready = match not_ready {
        None => style.green("ready"),
        Some(why) => style.red(&one_line(why, CELL_CHARS_MAX)),
    };
    let mut text = format!(
        "{ready}  {}  {online} of {} online  {} {}\n",
        count(groups.len(), "group"),
        count(servers().count(), "server"),
        grouped(sessions),
        if sessions == 1 { "session" } else { "sessions" },
    );
    let width = servers().map(|server| cell(&server["addr"]).chars().count()).max().unwrap_or(0).max(6);
    for group in groups {
        let (port, listen, policy) = (&group["group"], cell(&group["listen"]), cell(&group["policy"]));
        let name = group["name"].as_str().map(|name| format!(" {}", one_line(name, CELL_CHARS_MAX)));
        let closed = if group["open"] == true { "" } else { "  closed" };
        let headline = format!("GROUP {port}{}", name.unwrap_or_default());
        let (online, total) = (&group["servers_online"], &group["servers_total"]);
        line(
            &mut text,
            format_args!("\n{}  {listen}  {policy}{closed}  {online} of {total} online", style.bold(&headline)),
        );
        let head = format!("{:width$}  {:7}  {:>8}  {:>6}  CAUSE", "SERVER", "STATE", "SESSIONS", "WEIGHT");
        line(&mut text, format_args!("{}", style.dim(&head)));
        for server in group["servers"].as_array().into_iter().flatten() {
            let (state, sessions) = (state(server), server["sessions"].as_u64().unwrap_or(0));
            // Padded first: escape sequences count as characters.
            let padded = format!("{state:7}");
            let padded = match state {
                "online" => style.green(&padded),
                "offline" | "suspect" => style.red(&padded),
                _ => style.yellow(&padded),
            };
            line(
                &mut text,
                format_args!(
                    "{:width$}  {padded}  {:>8}  {:>6}  {}{}",
                    cell(&server["addr"]),
                    grouped(sessions),
                    server["weight"].to_string(),
                    if server["backup"] == true { "backup  " } else { "" },
                    cell(&server["cause"]),
                ),
            );
        }
    }
    text
}

/// What is wanted of a server, when that is not the usual; else how it is.
fn state(server: &Value) -> &'static str {
    match server["state"].as_str() {
        Some("drain") => "drain",
        Some("maint") => "maint",
        _ if server["online"] == true => "online",
        _ if server["suspect"] == true => "suspect",
        _ => "offline",
    }
}

fn cell(value: &Value) -> String {
    one_line(value.as_str().unwrap_or_default(), CELL_CHARS_MAX)
}

/// Adds a line without blanks at its end.
fn line(text: &mut String, args: std::fmt::Arguments<'_>) {
    text.write_fmt(args).expect("a String takes whatever is written");
    text.truncate(text.trim_end().len());
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_says_of_each_server_how_it_is_and_why() {
        let server = |addr: &str, state: &str, online: bool, cause: Value| {
            json!({ "addr": addr, "state": state, "online": online, "cause": cause, "weight": 1, "backup": false,
                    "sessions": 1_200, "suspect": false })
        };
        let servers = [
            server("10.0.0.1:9000", "ready", true, Value::Null),
            server("10.0.0.2:9000", "drain", false, "drained by an operator".into()),
            server("10.0.0.3:9000", "ready", false, "no \u{1b}[2J heartbeat".into()),
        ];
        let group = json!({ "group": 8081, "name": "web", "listen": "0.0.0.0:8081", "policy": "ha", "open": true,
                            "sessions": 3_600, "servers_online": 1, "servers_total": 3, "servers": servers });
        let closed = json!({ "group": 8082, "listen": "0.0.0.0:8082", "policy": "ha", "open": false, "sessions": 0,
                             "servers_online": 0, "servers_total": 0, "servers": [] });
        assert_eq!(
            table(&[group, closed], None, Style::default()),
            "ready  2 groups  1 of 3 servers online  3,600 sessions\n\
             \n\
             GROUP 8081 web  0.0.0.0:8081  ha  1 of 3 online\n\
             SERVER         STATE    SESSIONS  WEIGHT  CAUSE\n\
             10.0.0.1:9000  online      1,200       1\n\
             10.0.0.2:9000  drain       1,200       1  drained by an operator\n\
             10.0.0.3:9000  offline     1,200       1  no \u{fffd}[2J heartbeat\n\
             \n\
             GROUP 8082  0.0.0.0:8082  ha  closed  0 of 0 online\n\
             SERVER         STATE    SESSIONS  WEIGHT  CAUSE\n"
        );
    }
}
