//! The results of several policies side by side, for people.

use std::fmt::Write;
use std::time::Duration;

use super::estimate::{Estimate, estimates};
use super::report::{Simulated, name};
use super::sessions::Sessions;
use crate::base::terminal::{Style, bar};
use crate::base::text::{self, count, grouped};
use crate::config::Scenario;
use crate::lab::table::{span, table};

/// The longest bar, in characters.
const BAR_WIDTH: u64 = 40;

/// Servers of which each gets a bar.
const BARS_MAX: usize = 40;

/// What was simulated, a table of what came of it, and on a terminal the sessions of each server. For each policy there is
/// a run for each seed. `remarks` are further notes.
pub fn text(scenario: &Scenario, policies: &[Vec<Simulated>], remarks: &[String], style: Style) -> String {
    let mut text = String::new();
    let first = &policies[0][0];
    let _ = writeln!(text, "{}\n", heading(scenario, first, policies[0].len()));
    text.push_str(&table(&rows(policies), style));
    for runs in policies {
        servers(&mut text, &runs[0], style);
    }
    let notes = notes(scenario, policies, remarks);
    if !notes.is_empty() {
        text.push('\n');
        notes.iter().for_each(|note| _ = writeln!(text, "note: {note}"));
    }
    text
}

/// What was simulated.
pub(super) fn heading(scenario: &Scenario, run: &Simulated, runs: usize) -> String {
    let held = scenario.arrivals.rate * scenario.durations.mean.as_secs_f64();
    let servers: u32 = scenario.servers.iter().map(|plan| plan.count).sum();
    let sessions = match run.has_limits {
        true => format!("{} sessions/s", round(scenario.arrivals.rate)),
        false => format!("{} sessions held on average", round(held)),
    };
    let seeds = match runs {
        1 => format!("seed {}", scenario.seed),
        _ => format!("{runs} seeds from {}", scenario.seed),
    };
    format!(
        "{}, {sessions} ({} {}), {}, {}, {seeds}: {} measured",
        count(servers as usize, "server"),
        scenario.durations.kind,
        span(scenario.durations.mean),
        many(u64::from(scenario.clients.count), "client"),
        span(scenario.until),
        many(run.sessions, "session"),
    )
}

/// A number of things, of which there may be many.
fn many(number: u64, what: &str) -> String {
    format!("{} {what}{}", grouped(number), if number == 1 { "" } else { "s" })
}

fn round(number: f64) -> String {
    if number >= 100.0 { grouped(number.round() as u64) } else { format!("{number:.1}") }
}

/// The heads of the table, and a row for each policy.
pub(super) fn rows(policies: &[Vec<Simulated>]) -> Vec<Vec<String>> {
    std::iter::once(heads(&policies[0][0])).chain(policies.iter().map(|runs| row(runs))).collect()
}

fn heads(run: &Simulated) -> Vec<String> {
    let mut heads: Vec<String> = ["", "busiest/mean", "Jain", "CoV", "smallest share"].map(str::to_owned).to_vec();
    if run.has_limits {
        heads.extend(["response", "p99", "wait p99"].map(str::to_owned));
    }
    for event in &run.changes {
        heads.push(format!("moved at {} ({})", span(Duration::from_secs_f64(event.at)), event.what));
    }
    heads.extend(["refused", "failed picks", "ns a pick"].map(str::to_owned));
    heads
}

fn row(runs: &[Simulated]) -> Vec<String> {
    let run = &runs[0];
    let known = estimates(runs);
    let estimate = |name: &str| known.iter().find(|(known, _)| *known == name).map(|(_, estimate)| *estimate);
    let shown = |name: &str, show: &dyn Fn(f64) -> String| {
        estimate(name).map_or_else(
            || "-".to_owned(),
            |Estimate { mean, half_width }| match runs.len() {
                1 => show(mean),
                _ => format!("{} ± {}", show(mean), show(half_width)),
            },
        )
    };
    let percent = |value: f64| format!("{:.1} %", 100.0 * value);
    let millis = |value: f64| text::time(value * 1e6);
    let mut row = vec![
        run.policy.clone(),
        shown("busiest", &|value| format!("{value:.2}")),
        shown("jain", &|value| format!("{value:.3}")),
        shown("cov", &percent),
        shown("smallest_share", &percent),
    ];
    if run.has_limits {
        match run.overloaded.is_empty() {
            true => row.extend(["response_mean", "response_p99", "wait_p99"].map(|name| shown(name, &millis))),
            false => row.extend(["overloaded", "-", "-"].map(str::to_owned)),
        }
    }
    row.extend(run.changes.iter().map(|change| change.moved.map_or_else(|| "-".to_owned(), percent)));
    row.push(match run.refused {
        0 => "0".to_owned(),
        _ => shown("refused", &|value| format!("{:.2} %", 100.0 * value)),
    });
    row.push(grouped(run.failed_picks));
    row.push(format!("{:.0}", run.cost.ns_per_pick));
    row
}

/// The sessions of each server at the end.
fn servers(text: &mut String, run: &Simulated, style: Style) {
    if !style.is_terminal || run.at_end.len() > BARS_MAX {
        return;
    }
    let _ = writeln!(text, "\n{}, sessions of each server at the end", run.policy);
    let longest = run.at_end.iter().max().copied().unwrap_or(0);
    for (index, sessions) in run.at_end.iter().enumerate() {
        let bar = style.green(&bar(u64::from(*sessions), u64::from(longest), BAR_WIDTH));
        let _ = writeln!(text, "{:>4} {bar} {}", name(index), grouped(u64::from(*sessions)));
    }
}

/// What is worth knowing beside the figures.
pub(super) fn notes(scenario: &Scenario, policies: &[Vec<Simulated>], remarks: &[String]) -> Vec<String> {
    let first = &policies[0][0];
    let mut notes = remarks.to_vec();
    for run in policies.iter().map(|runs| &runs[0]) {
        if !run.overloaded.is_empty() {
            let names = run.overloaded.join(", ");
            notes.push(format!(
                "{} overloaded {names}: more work than they can do, so waits grow without end",
                run.policy
            ));
        }
        if let Some(fault) = &run.last_fault {
            notes.push(format!("{} failed, and its fallback answered from then on: {fault}", run.policy));
        }
    }
    let (largest, servers) = (Sessions::new(scenario).largest_client(), first.share.len());
    if largest > 1.0 / servers as f64 {
        let part = 100.0 * largest;
        notes.push(format!(
            "one client makes {part:.0} % of all sessions: a policy that goes by the client cannot be even"
        ));
    }
    if first.held.mean < 10.0 * servers as f64 && !first.has_limits {
        let each = first.held.mean / servers as f64;
        notes.push(format!("a server holds {each:.1} sessions on average: among so few, one more is much"));
    }
    let failed: u64 = policies.iter().map(|runs| runs[0].failed).sum();
    if failed > 0 {
        notes.push(format!("{} reached none of the servers that they tried", count(failed as usize, "session")));
    }
    notes
}
