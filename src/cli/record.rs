//! `goproxy policy record`: has a running proxy record what a group's policy is asked and answers.

use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::admin::AdminArgs;
use super::output::print;
use crate::admin_client::{AdminClient, encoded};
use crate::base::text::{self, count};
use crate::config::flags;

/// The arguments of `policy record`.
#[derive(Args, Debug)]
pub struct RecordArgs {
    /// The group: its name or port
    #[arg(long, value_name = "GROUP", required_unless_present = "list")]
    group: Option<String>,
    /// End it after so long, such as 10m [default: when it is stopped]
    #[arg(long = "for", value_name = "TIME", value_parser = flags::record_time, conflicts_with_all = ["stop", "list"])]
    time: Option<Duration>,
    /// The largest file [default: 256MiB]
    #[arg(long, value_name = "SIZE", value_parser = flags::record_max, conflicts_with_all = ["stop", "list"])]
    max: Option<u64>,
    /// Write other addresses in the place of the clients'
    #[arg(long, conflicts_with_all = ["stop", "list"])]
    anonymous: bool,
    /// End the recording of the group
    #[arg(long)]
    stop: bool,
    /// Show the recordings under way, and the last one of each group
    #[arg(long, conflicts_with_all = ["group", "stop"])]
    list: bool,
    /// Print the answer of the proxy, one JSON object, instead of text
    #[arg(long)]
    json: bool,
    /// Where the proxy is.
    #[command(flatten)]
    admin: AdminArgs,
}

/// Begins, ends or shows recordings.
///
/// # Errors
///
/// The proxy cannot be asked, or refuses.
pub(super) fn record(args: &RecordArgs) -> anyhow::Result<()> {
    let answer = args.admin.ask(async |client| ask(args, &client).await)?;
    let text = match args.list {
        _ if args.json => answer.to_string(),
        true => listed(&answer),
        false => said(args, &answer),
    };
    print(&format!("{}\n", text.trim_end()))
}

async fn ask(args: &RecordArgs, client: &AdminClient) -> anyhow::Result<Value> {
    let Some(group) = args.group.as_deref().map(encoded) else {
        return Ok(client.get("/record-list.do").await?);
    };
    if args.stop {
        return Ok(client.post(&format!("/record-stop.do?group={group}")).await?);
    }
    let mut target = format!("/record-start.do?group={group}");
    if let Some(time) = args.time {
        target += &format!("&time={}ms", time.as_millis());
    }
    if let Some(max) = args.max {
        target += &format!("&max={max}B");
    }
    if args.anonymous {
        target += "&anonymous=yes";
    }
    Ok(client.post(&target).await?)
}

fn said(args: &RecordArgs, answer: &Value) -> String {
    let msg = answer["msg"].as_str().unwrap_or_default();
    match answer["why"].as_str() {
        Some(why) if args.stop => {
            let bytes = text::size(answer["bytes"].as_u64().unwrap_or(0));
            let lost = answer["lost"].as_u64().filter(|lost| *lost > 0);
            let lost = lost.map_or_else(String::new, |lost| format!("; {lost} picks more could not be written"));
            format!("{msg} in {bytes}; it ended because {why}{lost}")
        }
        _ => msg.to_owned(),
    }
}

fn listed(answer: &Value) -> String {
    let recordings = answer["recordings"].as_array().map_or(&[][..], Vec::as_slice);
    if recordings.is_empty() {
        return "nothing was recorded".to_owned();
    }
    let line = |recording: &Value| {
        let text = |name: &str| recording[name].as_str().unwrap_or_default();
        let number = |name: &str| recording[name].as_u64().unwrap_or(0);
        let group = recording["group_name"].as_str().map_or_else(|| recording["group"].to_string(), str::to_owned);
        let picks = count(usize::try_from(number("picks")).unwrap_or(usize::MAX), "pick");
        let state =
            recording["why"].as_str().map_or_else(|| "under way".to_owned(), |why| format!("ended because {why}"));
        format!("{group} {}: {picks}, {}, {state}: {}\n", text("policy"), text::size(number("bytes")), text("file"))
    };
    recordings.iter().map(line).collect()
}
