//! `goproxy drain`: takes a server out of rotation, waits for its sessions, and brings it back.

use std::time::Duration;

use clap::Args;
use serde_json::Value;
use tokio::time::Instant;

use super::admin::AdminArgs;
use super::output::print;
use super::status::{group_id, groups, servers_of};
use crate::admin_client::{AdminClient, encoded};
use crate::base::text::{count, echo};
use crate::config::flags;

/// The arguments of `drain`.
#[derive(Args, Debug)]
pub struct DrainArgs {
    /// The server, as `goproxy status` shows it
    #[arg(value_name = "SERVER")]
    pub server: String,
    /// Only in this group: its name or port
    #[arg(long, value_name = "GROUP")]
    pub group: Option<String>,
    /// Wait until it has no session left, at most this long, such as 30s; exit 1 when some are left
    #[arg(long, value_name = "TIME", value_parser = flags::wait)]
    pub wait: Option<Duration>,
    /// Bring it back: it gets new clients again
    #[arg(long, conflicts_with = "wait")]
    pub undo: bool,
    /// Where the proxy is.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// Drains the server, and prints for each group how many sessions it has left.
///
/// # Errors
///
/// The proxy cannot be asked, no group has the server, or it has sessions left after `--wait`.
pub fn drain(args: &DrainArgs) -> anyhow::Result<()> {
    args.admin.ask(async |client| change(args, &client).await)
}

async fn change(args: &DrainArgs, client: &AdminClient) -> anyhow::Result<()> {
    let groups = match &args.group {
        Some(group) => vec![group.clone()],
        None => groups_of(client, &args.server).await?,
    };
    let state = if args.undo { "ready" } else { "drain" };
    let target = |group: &str, more: &str| {
        let (group, server) = (encoded(group), encoded(&args.server));
        format!("/worker-state.do?group={group}&server={server}&state={state}{more}")
    };
    let mut left = Vec::new();
    // In all of them before any is waited for: a client that comes meanwhile would be one more.
    for group in groups {
        let sessions = sessions(&client.post(&target(&group, "")).await?);
        left.push((group, sessions));
    }
    if let Some(wait) = args.wait {
        let deadline = Instant::now() + wait;
        for (group, sessions) in left.iter_mut().filter(|(_, sessions)| *sessions > 0) {
            let wait = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            let target = target(group, &format!("&wait={}ms", wait.as_millis()));
            *sessions = self::sessions(&client.post_and_wait(&target, wait).await?);
        }
    }
    let lines = left.iter().map(|(group, left)| format!("group {group}: state is {state}, {}\n", sessions_left(*left)));
    print(&lines.collect::<String>())?;
    let total: u64 = left.iter().map(|(_, sessions)| sessions).sum();
    anyhow::ensure!(
        args.wait.is_none() || total == 0,
        "{} has {} after the time to wait; it stays drained",
        echo(&args.server),
        sessions_left(total)
    );
    Ok(())
}

/// The groups that have the server.
async fn groups_of(client: &AdminClient, server: &str) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    for group in groups(client).await? {
        let id = group_id(&group);
        if servers_of(client, &id).await?.iter().any(|known| known["addr"] == server) {
            found.push(id);
        }
    }
    anyhow::ensure!(
        !found.is_empty(),
        "no group has the server {}; expected one that goproxy status shows",
        echo(server)
    );
    Ok(found)
}

fn sessions(answer: &Value) -> u64 {
    answer["sessions"].as_u64().unwrap_or(0)
}

fn sessions_left(sessions: u64) -> String {
    match sessions {
        0 => "no session left".to_owned(),
        _ => format!("{} left", count(usize::try_from(sessions).unwrap_or(usize::MAX), "session")),
    }
}
