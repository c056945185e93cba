//! What came of a replay, for people.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use super::compare::{Compared, Comparison};
use super::repeat::{Difference, Repeated};
use super::survey::Survey;
use crate::base::terminal::Style;
use crate::base::text::grouped;
use crate::lab::page::{over_time, section, shares, top};
use crate::lab::table::{span, table};

/// What the recorded policy answers now.
pub fn repeated_text(survey: &Survey, repeated: &Repeated) -> String {
    let mut text = format!(
        "{}: {} picks, {}, {}: ",
        survey.about.policy,
        grouped(repeated.picks),
        many(survey.sets, "set of servers", "sets of servers"),
        many(survey.retries, "retry", "retries"),
    );
    match &repeated.first {
        None => text.push_str("all the same\n"),
        Some(first) => {
            let _ = writeln!(text, "{} differ; first: {}", grouped(repeated.differ), worded(first));
        }
    }
    notes(survey, repeated.first.is_some()).iter().for_each(|note| _ = writeln!(text, "note: {note}"));
    text
}

/// What other policies would have answered.
pub fn compared_text(survey: &Survey, comparison: &Comparison, style: Style) -> String {
    let mut text = format!("{}\n\n{}", heading(survey), table(&rows(comparison), style));
    let remarks = remarks(survey, comparison);
    if !remarks.is_empty() {
        text.push('\n');
        remarks.iter().for_each(|remark| _ = writeln!(text, "{remark}"));
    }
    text
}

/// The same as a page.
pub fn compared_page(file: &Path, survey: &Survey, comparison: &Comparison) -> String {
    let heading = format!("{}: {}", file.display(), heading(survey));
    let mut page = top("goproxy policy replay", &heading, &rows(comparison), &remarks(survey, comparison));
    let counts = comparison.policies.iter().flat_map(|policy| policy.series.iter().flatten());
    let highest = counts.max().copied().unwrap_or(0).max(1);
    for policy in &comparison.policies {
        section(&mut page, &policy.policy);
        over_time(&mut page, Duration::from_millis(survey.lasted_ms), &policy.series, highest, &[]);
        shares(&mut page, &policy.share, |server| comparison.servers[server].clone());
    }
    page
}

fn heading(survey: &Survey) -> String {
    format!(
        "{} picks of {} in group {}, {} on {}",
        grouped(survey.picks),
        survey.about.policy,
        survey.about.group,
        span(Duration::from_millis(survey.lasted_ms)),
        survey.about.started,
    )
}

fn rows(comparison: &Comparison) -> Vec<Vec<String>> {
    let heads = ["", "busiest/mean", "p99", "Jain", "CoV", "smallest share", "other server", "nobody"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    for (number, policy) in comparison.policies.iter().enumerate() {
        rows.push(row(policy, number == 0));
    }
    rows
}

fn row(policy: &Compared, is_recorded: bool) -> Vec<String> {
    let percent = |part: f64| format!("{:.1} %", 100.0 * part);
    let shown = |value: String| if policy.is_measured { value } else { "-".to_owned() };
    let differ = policy.differ as f64 / policy.sessions.max(1) as f64;
    vec![
        policy.policy.clone(),
        shown(format!("{:.2}", policy.busiest_over_mean.mean)),
        shown(format!("{:.2}", policy.busiest_over_mean.p99)),
        shown(format!("{:.3}", policy.jain)),
        shown(percent(policy.cov)),
        policy.smallest_share.map_or_else(|| "-".to_owned(), percent),
        if is_recorded { "-".to_owned() } else { percent(differ) },
        grouped(policy.nobody),
    ]
}

fn remarks(survey: &Survey, comparison: &Comparison) -> Vec<String> {
    let mut remarks = Vec::new();
    for policy in &comparison.policies {
        if let Some(first) = &policy.first {
            remarks.push(format!("{}, first: {}", policy.policy, worded(first)));
        }
        if let Some(fault) = &policy.last_fault {
            remarks.push(format!("{} failed, and its fallback answered from then on: {fault}", policy.policy));
        }
    }
    if survey.about.sessions_before > 0 {
        let before = many(survey.about.sessions_before, "session", "sessions");
        remarks.push(format!("{before} had begun before the recording, and no policy is charged with them"));
    }
    remarks.extend(notes(survey, survey.about.is_anonymous));
    remarks
}

/// What is worth knowing of the recording. `matters`: somebody may wonder where a difference comes from.
fn notes(survey: &Survey, matters: bool) -> Vec<String> {
    let mut notes = Vec::new();
    if survey.is_cut {
        notes.push("the file ends in the middle; what is before that is complete".to_owned());
    }
    if let Some(why) = &survey.why {
        notes.push(format!("the recording ended because {why}"));
    }
    if survey.unknown > 0 {
        notes.push(format!("{} of a later version were passed over", many(survey.unknown, "note", "notes")));
    }
    if survey.about.is_anonymous && matters {
        notes.push("clients' addresses were replaced: a policy that goes by the client answers otherwise".to_owned());
    }
    notes
}

fn worded(difference: &Difference) -> String {
    let held: Vec<String> = difference.held.iter().map(|(addr, sessions)| format!("{addr} {sessions}")).collect();
    let server = |server: &Option<String>| server.clone().unwrap_or_else(|| "nobody".to_owned());
    format!(
        "pick {} (client {}, held {}): was {}, would be {}",
        grouped(difference.pick),
        difference.client.ip(),
        held.join(", "),
        server(&difference.was),
        server(&difference.would_be),
    )
}

fn many(number: u64, one: &str, more: &str) -> String {
    format!("{} {}", grouped(number), if number == 1 { one } else { more })
}
