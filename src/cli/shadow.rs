//! `goproxy policy shadow`: tries a policy beside the one that serves in a running proxy, and shows how both do.

use std::time::Duration;

use clap::Args;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::admin::AdminArgs;
use super::output::print;
use crate::admin_client::{AdminClient, encoded};
use crate::base::terminal::Style;
use crate::base::text::{self, grouped};
use crate::config::flags;
use crate::lab::text_table;

/// Between two looks while `--for` lasts.
const PAUSE: Duration = Duration::from_secs(1);

/// More picks that nobody looked at than this part make the figures worthless.
const HOLES_MAX: f64 = 0.001;

/// The arguments of `policy shadow`.
#[derive(Args, Debug)]
pub struct ShadowArgs {
    /// The policy: a built-in one, or wasm:NAME of the proxy's policies_dir
    #[arg(value_name = "POLICY", required_unless_present_any = ["stop", "list"])]
    policy: Option<String>,
    /// The group: its name or port
    #[arg(long, value_name = "GROUP", required_unless_present = "list")]
    group: Option<String>,
    /// Wait so long, such as 10m, then show how both did and end it [default: until it is stopped]
    #[arg(long = "for", value_name = "TIME", value_parser = flags::record_time, conflicts_with_all = ["stop", "list"])]
    time: Option<Duration>,
    /// Show how both did, and end it
    #[arg(long, conflicts_with = "policy")]
    stop: bool,
    /// Show how they do, in all groups
    #[arg(long, conflicts_with_all = ["policy", "group", "stop"])]
    list: bool,
    /// Print the answer of the proxy, one JSON object, instead of text
    #[arg(long)]
    json: bool,
    /// Where the proxy is.
    #[command(flatten)]
    admin: AdminArgs,
}

/// Begins, ends or shows shadows.
///
/// # Errors
///
/// The proxy cannot be asked, or refuses.
pub(super) fn shadow(args: &ShadowArgs) -> anyhow::Result<()> {
    let answer = args.admin.ask(async |client| ask(args, &client).await)?;
    let style = Style::of_stdout();
    let text = match (args.list, args.policy.is_some() && args.time.is_none()) {
        _ if args.json => answer.to_string(),
        (true, _) => {
            let shadows = answer["shadows"].as_array().map_or(&[][..], Vec::as_slice);
            let texts: Vec<String> = shadows.iter().map(|shadow| shown(shadow, style)).collect();
            if texts.is_empty() { "no policy was tried beside another".to_owned() } else { texts.join("\n") }
        }
        (false, true) => answer["msg"].as_str().unwrap_or_default().to_owned(),
        (false, false) => shown(&answer, style),
    };
    print(&format!("{}\n", text.trim_end()))
}

async fn ask(args: &ShadowArgs, client: &AdminClient) -> anyhow::Result<Value> {
    let Some(group) = args.group.as_deref().map(encoded) else {
        return Ok(client.get("/shadow-list.do").await?);
    };
    let stop = format!("/shadow-stop.do?group={group}");
    let Some(policy) = &args.policy else { return Ok(client.post(&stop).await?) };
    let started = client.post(&format!("/shadow-start.do?group={group}&policy={}", encoded(policy))).await?;
    let Some(time) = args.time else { return Ok(started) };
    let until = Instant::now() + time;
    while Instant::now() < until {
        sleep(PAUSE.min(until.saturating_duration_since(Instant::now()))).await;
    }
    Ok(client.post(&stop).await?)
}

/// How a policy does, and the other one beside it.
fn shown(shadow: &Value, style: Style) -> String {
    let number = |name: &str| shadow[name].as_u64().unwrap_or(0);
    let group = shadow["group_name"].as_str().map_or_else(|| shadow["group"].to_string(), str::to_owned);
    let (live, candidate) = (shadow["policy"].as_str().unwrap_or(""), shadow["candidate"].as_str().unwrap_or(""));
    let state = if shadow["active"] == true { "" } else { ", ended" };
    let mut text = format!(
        "group {group}, {candidate} beside {live} for {}: {} picks, {} not looked at{state}\n\n",
        text::time(number("elapsed_ms") as f64 * 1e6),
        grouped(number("picks")),
        grouped(number("dropped")),
    );
    let heads = ["", "busiest/mean", "p99", "Jain", "CoV", "other server", "nobody", "faults", "ns a pick"];
    let differ = number("differ") as f64 / number("sessions").max(1) as f64;
    let mut beside = row(candidate, &shadow["shadow"]);
    beside.extend([
        percent(differ),
        grouped(number("nobody")),
        grouped(number("faults")),
        grouped(number("ns_per_pick")),
    ]);
    let mut serving = row(live, &shadow["live"]);
    serving.extend(["-"; 4].map(str::to_owned));
    text.push_str(&text_table(&[heads.map(str::to_owned).to_vec(), serving, beside], style));
    let mut notes = Vec::new();
    if shadow["warming"] == true {
        notes.push("fewer sessions have ended than are held: these are the figures of servers that fill up".to_owned());
    }
    if let Some(fault) = shadow["last_fault"].as_str() {
        notes.push(format!("{candidate} failed, and its fallback answered from then on: {fault}"));
    }
    let holes = number("dropped") as f64 / (number("dropped") + number("picks")).max(1) as f64;
    if holes > HOLES_MAX {
        notes.push(format!("{} of what happened was not looked at: do not trust these figures", percent(holes)));
    }
    notes.iter().for_each(|note| text.push_str(&format!("note: {note}\n")));
    text
}

fn row(policy: &str, figures: &Value) -> Vec<String> {
    let number = |value: &Value| value.as_f64().unwrap_or(0.0);
    let busiest = &figures["busiest_over_mean"];
    let shown = |text: String| if number(&busiest["mean"]) > 0.0 { text } else { "-".to_owned() };
    vec![
        policy.to_owned(),
        shown(format!("{:.2}", number(&busiest["mean"]))),
        shown(format!("{:.2}", number(&busiest["p99"]))),
        shown(format!("{:.3}", number(&figures["jain"]))),
        shown(percent(number(&figures["cov"]))),
    ]
}

fn percent(part: f64) -> String {
    format!("{:.1} %", 100.0 * part)
}
