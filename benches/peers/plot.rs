//! Bars with whiskers as an SVG, in the colours of whoever looks at it.
//!
//! One chart is one figure of several workloads: a panel for each, a bar for each column of the table, all on one
//! axis that begins at zero. The bar ends at the median, the whisker spans the quartiles. No script, no font and no
//! picture from elsewhere; a browser in dark mode gets light text.

use std::fmt::Write;

const WIDTH: f64 = 820.0;
/// Room for the bars' labels, and for the values behind the longest bar.
const LEFT: f64 = 210.0;
const RIGHT: f64 = 90.0;
const BAR: f64 = 16.0;
const STEP: f64 = 24.0;
const TOP: f64 = 48.0;
const PANEL_HEAD: f64 = 30.0;
const PANEL_GAP: f64 = 12.0;
const FOOT: f64 = 78.0;
/// About so many marks on the axis.
const MARKS: f64 = 5.0;

const STYLE: &str = "\
text{font:13px system-ui,sans-serif;fill:#1f2328}\
.title{font-size:16px;font-weight:600}.panel{font-weight:600}.small{font-size:11px;fill:#59636e}\
.grid{stroke:#d1d9e0}.whisker{stroke:#1f2328;stroke-width:1.5}.first{fill:#218bff}.other{fill:#9aa4ae}\
@media(prefers-color-scheme:dark){text{fill:#f0f6fc}.small{fill:#9198a1}.grid{stroke:#3d444d}\
.whisker{stroke:#f0f6fc}.first{fill:#388bfd}.other{fill:#6e7681}}";

/// What is drawn.
pub(crate) struct Chart {
    /// What the axis shows, with its unit.
    pub(crate) figure: String,
    /// What a reader must know to judge it, in lines.
    pub(crate) caption: Vec<String>,
    pub(crate) panels: Vec<Panel>,
}

/// One workload.
pub(crate) struct Panel {
    pub(crate) name: String,
    pub(crate) bars: Vec<Bar>,
}

/// One column of the table.
pub(crate) struct Bar {
    pub(crate) label: String,
    /// The lower quartile, the median and the upper quartile.
    pub(crate) quartiles: [f64; 3],
}

/// The chart as a file's content.
pub(crate) fn svg(chart: &Chart) -> String {
    let bars = || chart.panels.iter().flat_map(|panel| &panel.bars);
    let (mark, end) = axis(bars().map(|bar| bar.quartiles[2]).fold(0.0, f64::max));
    let x = |value: f64| LEFT + (WIDTH - LEFT - RIGHT) * value / end;
    let panels = chart.panels.len() as f64;
    let bottom = TOP + panels * (PANEL_HEAD + PANEL_GAP) + bars().count() as f64 * STEP;
    let height = bottom + FOOT + 16.0 * chart.caption.len() as f64;

    let mut out = Svg(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\n\
         <title>{0}</title>\n<style>{STYLE}</style>\n",
        escaped(&chart.figure)
    ));
    out.text(16.0, 26.0, "title", "start", &format!("{}, lower is better", chart.figure));
    let marks = (end / mark).round() as u32;
    for value in (0..=marks).map(|index| f64::from(index) * mark) {
        out.line("grid", x(value), TOP, x(value), bottom);
        out.text(x(value), bottom + 18.0, "small", "middle", &short(value));
    }
    out.text(x(end / 2.0), bottom + 38.0, "", "middle", &chart.figure);

    let mut y = TOP;
    for panel in &chart.panels {
        y += PANEL_HEAD;
        out.text(16.0, y - 10.0, "panel", "start", &panel.name);
        for (index, bar) in panel.bars.iter().enumerate() {
            let [lower, median, upper] = bar.quartiles;
            let middle = y + BAR / 2.0;
            out.text(LEFT - 8.0, middle + 4.5, "", "end", &bar.label);
            out.bar(if index == 0 { "first" } else { "other" }, LEFT, y, x(median) - LEFT);
            out.line("whisker", x(lower), middle, x(upper), middle);
            for end in [lower, upper] {
                out.line("whisker", x(end), middle - 4.0, x(end), middle + 4.0);
            }
            out.text(x(upper.max(median)) + 8.0, middle + 4.5, "", "start", &short(median));
            y += STEP;
        }
        y += PANEL_GAP;
    }
    for (index, line) in chart.caption.iter().enumerate() {
        out.text(16.0, bottom + 62.0 + 16.0 * index as f64, "small", "start", line);
    }
    out.0.push_str("</svg>\n");
    out.0
}

struct Svg(String);

impl Svg {
    fn text(&mut self, x: f64, y: f64, class: &str, anchor: &str, text: &str) {
        let text = escaped(text);
        let _infallible = writeln!(
            self.0,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\" text-anchor=\"{anchor}\">{text}</text>"
        );
    }

    fn line(&mut self, class: &str, x1: f64, y1: f64, x2: f64, y2: f64) {
        let _infallible =
            writeln!(self.0, "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>");
    }

    fn bar(&mut self, class: &str, x: f64, y: f64, width: f64) {
        let _infallible = writeln!(
            self.0,
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{BAR}\"/>"
        );
    }
}

/// The distance of two marks, 1, 2 or 5 times a power of ten, and the mark at which the axis ends.
fn axis(largest: f64) -> (f64, f64) {
    let rough = if largest > 0.0 { largest / MARKS } else { 1.0 };
    let power = 10_f64.powf(rough.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
    let mark = steps.into_iter().find(|step| *step >= rough * 0.999).unwrap_or(10.0 * power);
    (mark, mark * (largest / mark).ceil().max(1.0))
}

/// At most three digits behind the point, and no zeros that say nothing.
fn short(value: f64) -> String {
    let digits = match value {
        100.0.. => 0,
        1.0.. => 2,
        _ => 3,
    };
    let text = format!("{value:.digits$}");
    if digits == 0 { text } else { text.trim_end_matches('0').trim_end_matches('.').to_owned() }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
