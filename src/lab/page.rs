//! Results as a page: one file without scripts, to be kept or sent.

use std::fmt::Write;
use std::time::Duration;

use super::table::span;
use crate::base::text::grouped;

/// Servers of which each gets a line; of more, the fullest, the middle and the emptiest do.
const LINES_MAX: usize = 20;

/// Size of a picture, in pixels.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 220.0;

/// Room for what is written beside a picture.
const MARGIN: f64 = 48.0;

const STYLE: &str = "<style>\n\
    body { font: 15px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; color: #222; background: #fff }\n\
    table { border-collapse: collapse } th, td { padding: .2em .8em; text-align: right; white-space: nowrap; border-bottom: 1px solid #ddd }\n\
    th:first-child, td:first-child { text-align: left } svg { display: block; max-width: 100%; height: auto }\n\
    svg text { font: 11px system-ui, sans-serif; fill: #555 } polyline { fill: none; stroke-width: 1.2 }\n\
    @media (prefers-color-scheme: dark) { body { color: #ddd; background: #181818 } th, td { border-color: #444 } svg text { fill: #aaa } }\n\
    </style>\n";

/// The top of a page: its title, a line that says what was done, a table, and notes.
pub(super) fn top(title: &str, heading: &str, rows: &[Vec<String>], notes: &[String]) -> String {
    let mut page =
        format!("<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>{title}</title>\n{STYLE}");
    let _ = write!(page, "<h1>{title}</h1>\n<p>{}</p>\n<table>\n", escaped(heading));
    for (number, row) in rows.iter().enumerate() {
        let cell = if number == 0 { "th" } else { "td" };
        let cells: String = row.iter().map(|text| format!("<{cell}>{}</{cell}>", escaped(text))).collect();
        let _ = writeln!(page, "<tr>{cells}</tr>");
    }
    page.push_str("</table>\n");
    for note in notes {
        let _ = writeln!(page, "<p>Note: {}</p>", escaped(note));
    }
    page
}

/// A heading in the page.
pub(super) fn section(page: &mut String, heading: &str) {
    let _ = writeln!(page, "<h2>{}</h2>", escaped(heading));
}

/// Text in the place of HTML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Sessions of each server, or of those that matter, over time; `marks` are moments in seconds, and what they are called. Each count is one of `highest` at most.
pub(super) fn over_time(page: &mut String, until: Duration, series: &[Vec<u32>], highest: u32, marks: &[(f64, &str)]) {
    let (width, height) = (WIDTH + 2.0 * MARGIN, HEIGHT + MARGIN);
    let _ = writeln!(
        page,
        "<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"sessions of each server over time\">"
    );
    let servers = series.last().map_or(0, Vec::len);
    let line = |page: &mut String, color: &str, value: &dyn Fn(&[u32]) -> Option<u32>| {
        let steps = series.len().max(2) - 1;
        let point = |(step, counts): (usize, &Vec<u32>)| {
            let x = MARGIN + WIDTH * step as f64 / steps as f64;
            let y = 10.0 + HEIGHT * (1.0 - f64::from(value(counts)?) / f64::from(highest));
            Some(format!("{x:.1},{y:.1}"))
        };
        let points: Vec<String> = series.iter().enumerate().filter_map(point).collect();
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
    let end = span(until);
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
    for (at, what) in marks {
        let x = MARGIN + WIDTH * at / until.as_secs_f64();
        let _ = writeln!(
            page,
            "<path d=\"M{x:.1} 10 V{bottom}\" stroke=\"#999\" stroke-dasharray=\"3 3\"/><text x=\"{:.1}\" y=\"20\">{}</text>",
            x + 4.0,
            escaped(what)
        );
    }
    page.push_str("</svg>\n");
}

/// The part of the sessions that each server got.
pub(super) fn shares(page: &mut String, shares: &[f64], name: impl Fn(usize) -> String) {
    let longest = shares.iter().copied().fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    let shown = shares.len().min(2 * LINES_MAX);
    let (row, height) = (16.0, 16.0 * shown as f64 + 4.0);
    let width = WIDTH + 2.0 * MARGIN;
    let _ = writeln!(page, "<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"share of each server\">");
    for (index, share) in shares.iter().take(shown).enumerate() {
        let (y, length) = (row * index as f64, WIDTH * share / longest);
        let _ = writeln!(
            page,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text><rect x=\"{MARGIN}\" y=\"{}\" width=\"{length:.1}\" height=\"11\" fill=\"#4a8\"/>\
             <text x=\"{:.1}\" y=\"{}\">{:.1} %</text>",
            MARGIN - 6.0,
            y + 12.0,
            escaped(&name(index)),
            y + 3.0,
            MARGIN + length + 4.0,
            y + 12.0,
            100.0 * share,
        );
    }
    page.push_str("</svg>\n");
}
