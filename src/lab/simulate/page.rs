//! The results as a page: one file without scripts, to be kept or sent.

use std::fmt::Write;

use super::report::{Simulated, name};
use super::table::{heading, notes, rows, span};
use crate::base::text::grouped;
use crate::config::Scenario;

/// Servers of which each gets a line; of more, the fullest, the middle and the emptiest do.
const LINES_MAX: usize = 20;

/// Size of a picture, in pixels.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 220.0;

/// Room for what is written beside a picture.
const MARGIN: f64 = 48.0;

const HEAD: &str = "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>goproxy policy simulate</title>\n<style>\n\
    body { font: 15px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; color: #222; background: #fff }\n\
    table { border-collapse: collapse } th, td { padding: .2em .8em; text-align: right; white-space: nowrap; border-bottom: 1px solid #ddd }\n\
    th:first-child, td:first-child { text-align: left } svg { display: block; max-width: 100%; height: auto }\n\
    svg text { font: 11px system-ui, sans-serif; fill: #555 } polyline { fill: none; stroke-width: 1.2 }\n\
    @media (prefers-color-scheme: dark) { body { color: #ddd; background: #181818 } th, td { border-color: #444 } svg text { fill: #aaa } }\n\
    </style>\n";

/// What was simulated, the table, and of each policy the sessions of its servers over time and their shares.
pub fn page(scenario: &Scenario, policies: &[Vec<Simulated>], remarks: &[String]) -> String {
    let mut page = HEAD.to_owned();
    let heading = escaped(&heading(scenario, &policies[0][0], policies[0].len()));
    let _ = write!(page, "<h1>goproxy policy simulate</h1>\n<p>{heading}</p>\n<table>\n");
    for (number, row) in rows(policies).iter().enumerate() {
        let cell = if number == 0 { "th" } else { "td" };
        let cells: String = row.iter().map(|text| format!("<{cell}>{}</{cell}>", escaped(text))).collect();
        let _ = writeln!(page, "<tr>{cells}</tr>");
    }
    page.push_str("</table>\n");
    for note in notes(scenario, policies, remarks) {
        let _ = writeln!(page, "<p>Note: {}</p>", escaped(&note));
    }
    // The same scale for all, so that pictures can be compared.
    let highest = policies.iter().flat_map(|runs| runs[0].series.iter().flatten()).max().copied().unwrap_or(0).max(1);
    for run in policies.iter().map(|runs| &runs[0]) {
        let _ = writeln!(page, "<h2>{}</h2>", escaped(&run.policy));
        over_time(&mut page, scenario, run, highest);
        shares(&mut page, run);
    }
    page
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Sessions of each server, or of those that matter, over time.
fn over_time(page: &mut String, scenario: &Scenario, run: &Simulated, highest: u32) {
    let (width, height) = (WIDTH + 2.0 * MARGIN, HEIGHT + MARGIN);
    let _ = writeln!(
        page,
        "<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"sessions of each server over time\">"
    );
    let servers = run.series.last().map_or(0, Vec::len);
    let line = |page: &mut String, color: &str, value: &dyn Fn(&[u32]) -> Option<u32>| {
        let steps = run.series.len().max(2) - 1;
        let point = |(step, counts): (usize, &Vec<u32>)| {
            let x = MARGIN + WIDTH * step as f64 / steps as f64;
            let y = 10.0 + HEIGHT * (1.0 - f64::from(value(counts)?) / f64::from(highest));
            Some(format!("{x:.1},{y:.1}"))
        };
        let points: Vec<String> = run.series.iter().enumerate().filter_map(point).collect();
        let _ = writeln!(page, "<polyline stroke=\"{color}\" points=\"{}\"/>", points.join(" "));
    };
    if servers <= LINES_MAX {
        for server in 0..servers {
            let color = format!("hsl({} 60% 50%)", server * 360 / servers.max(1));
            line(page, &color, &|counts| counts.get(server).copied());
        }
    } else {
        let sorted = |counts: &[u32], part: usize| {
            let mut counts = counts.to_vec();
            counts.sort_unstable();
            counts.get((counts.len() - 1) * part / 2).copied()
        };
        for (part, color) in [(0, "#48a"), (1, "#888"), (2, "#c44")] {
            line(page, color, &|counts| sorted(counts, part));
        }
    }
    let bottom = 10.0 + HEIGHT;
    let end = span(scenario.until);
    let _ = writeln!(
        page,
        "<path d=\"M{MARGIN} 10 V{bottom} H{}\" fill=\"none\" stroke=\"#999\"/>\n\
         <text x=\"{}\" y=\"16\" text-anchor=\"end\">{}</text><text x=\"{}\" y=\"{bottom}\" text-anchor=\"end\">0</text>\n\
         <text x=\"{}\" y=\"{}\" text-anchor=\"end\">{end}</text>",
        MARGIN + WIDTH,
        MARGIN - 6.0,
        grouped(u64::from(highest)),
        MARGIN - 6.0,
        MARGIN + WIDTH,
        bottom + 16.0,
    );
    for change in &run.changes {
        let x = MARGIN + WIDTH * change.at / scenario.until.as_secs_f64();
        let _ = writeln!(
            page,
            "<path d=\"M{x:.1} 10 V{bottom}\" stroke=\"#999\" stroke-dasharray=\"3 3\"/><text x=\"{:.1}\" y=\"20\">{}</text>",
            x + 4.0,
            escaped(&change.what)
        );
    }
    page.push_str("</svg>\n");
}

/// The part of the sessions that each server got.
fn shares(page: &mut String, run: &Simulated) {
    let longest = run.share.iter().copied().fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    let shown = run.share.len().min(2 * LINES_MAX);
    let (row, height) = (16.0, 16.0 * shown as f64 + 4.0);
    let width = WIDTH + 2.0 * MARGIN;
    let _ = writeln!(page, "<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"share of each server\">");
    for (index, share) in run.share.iter().take(shown).enumerate() {
        let (y, length) = (row * index as f64, WIDTH * share / longest);
        let _ = writeln!(
            page,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text><rect x=\"{MARGIN}\" y=\"{}\" width=\"{length:.1}\" height=\"11\" fill=\"#4a8\"/>\
             <text x=\"{:.1}\" y=\"{}\">{:.1} %</text>",
            MARGIN - 6.0,
            y + 12.0,
            name(index),
            y + 3.0,
            MARGIN + length + 4.0,
            y + 12.0,
            100.0 * share,
        );
    }
    page.push_str("</svg>\n");
}
