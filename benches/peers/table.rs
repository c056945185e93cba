//! From rounds to a table.
//!
//! A figure is kept per column and round; a column is a peer, or a variant of one. The table shows each column's
//! median and how the first compares with the others: the median of the ratios within one round, with their
//! quartiles. What is in the table is in the JSON as well, round by round, and a few raw figures more.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::plot::{Bar, Chart, Panel};

/// What is measured of a workload.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Figure {
    name: &'static str,
    is_shown: bool,
    is_compared: bool,
    /// The plot it is drawn in; without ending.
    plot: Option<&'static str>,
}

impl Figure {
    /// A row of the table.
    pub(crate) const fn shown(name: &'static str) -> Figure {
        Figure { name, is_shown: true, is_compared: true, plot: None }
    }

    /// A row without ratios: its values are so close to nothing that ratios would only mislead.
    pub(crate) const fn absolute(name: &'static str) -> Figure {
        Figure { is_compared: false, ..Figure::shown(name) }
    }

    /// For the JSON only.
    pub(crate) const fn raw(name: &'static str) -> Figure {
        Figure { is_shown: false, ..Figure::absolute(name) }
    }

    /// Drawn as well, with all other workloads of this figure, into the file of this name.
    pub(crate) const fn plotted(self, file: &'static str) -> Figure {
        Figure { plot: Some(file), ..self }
    }
}

/// What is divided by what.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ratio {
    /// The first column by each other one: we by a peer.
    FirstByOther,
    /// Each other column by the first: more by less of the same.
    OtherByFirst,
}

struct Series {
    workload: &'static str,
    figure: Figure,
    /// By column, then by round; `None` where the round failed or was not run.
    values: Vec<Vec<Option<f64>>>,
}

/// The figures of some workloads.
pub(crate) struct Table {
    title: &'static str,
    /// What the names of its plots begin with.
    prefix: &'static str,
    columns: Vec<String>,
    ratio: Ratio,
    series: Vec<Series>,
}

impl Table {
    pub(crate) fn new(title: &'static str, prefix: &'static str, columns: Vec<String>, ratio: Ratio) -> Table {
        Table { title, prefix, columns, ratio, series: Vec::new() }
    }

    /// Keeps one figure of one round.
    pub(crate) fn note(&mut self, workload: &'static str, figure: Figure, column: usize, round: usize, value: f64) {
        let is_it = |series: &Series| series.workload == workload && series.figure == figure;
        let index = self.series.iter().position(is_it).unwrap_or_else(|| {
            self.series.push(Series { workload, figure, values: vec![Vec::new(); self.columns.len()] });
            self.series.len() - 1
        });
        let rounds = &mut self.series[index].values[column];
        rounds.resize(rounds.len().max(round + 1), None);
        rounds[round] = Some(value);
    }

    /// Empty when nothing was measured.
    pub(crate) fn markdown(&self) -> String {
        if self.series.is_empty() {
            return String::new();
        }
        let mut text = format!("\n### {}\n\n| work | figure |", self.title);
        let first = &self.columns[0];
        for column in &self.columns {
            let _infallible = write!(text, " {column} |");
        }
        for column in &self.columns[1..] {
            let _infallible = match self.ratio {
                Ratio::FirstByOther => write!(text, " {first} / {column} |"),
                Ratio::OtherByFirst => write!(text, " {column} / {first} |"),
            };
        }
        text.push_str("\n|---|---|");
        text.push_str(&"---:|".repeat(2 * self.columns.len() - 1));
        for series in self.series.iter().filter(|series| series.figure.is_shown) {
            let _infallible = write!(text, "\n| {} | {} |", series.workload, series.figure.name);
            for rounds in &series.values {
                let median = quartiles(rounds.iter().flatten().copied().collect()).map(|[_, median, _]| number(median));
                let _infallible = write!(text, " {} |", median.as_deref().unwrap_or("–"));
            }
            for other in &series.values[1..] {
                let ratio = series.figure.is_compared.then(|| self.ratio(&series.values[0], other)).flatten();
                let _infallible = write!(text, " {} |", ratio.as_deref().unwrap_or("–"));
            }
        }
        text.push('\n');
        text
    }

    /// Every round.
    pub(crate) fn json(&self) -> impl Iterator<Item = Value> {
        self.series.iter().map(|series| {
            let rounds: serde_json::Map<_, _> =
                self.columns.iter().cloned().zip(series.values.iter().map(|rounds| json!(rounds))).collect();
            json!({ "table": self.title, "work": series.workload, "figure": series.figure.name, "rounds": rounds })
        })
    }

    /// The charts of the figures that are plotted, by the name of the file.
    pub(crate) fn charts(&self, caption: &[String]) -> Vec<(String, Chart)> {
        let mut charts: Vec<(String, Chart)> = Vec::new();
        for series in &self.series {
            let Some(plot) = series.figure.plot else { continue };
            let file = format!("{}{plot}", self.prefix);
            let bars = self.columns.iter().zip(&series.values).filter_map(|(column, rounds)| {
                let quartiles = quartiles(rounds.iter().flatten().copied().collect())?;
                Some(Bar { label: column.clone(), quartiles })
            });
            let panel = Panel { name: series.workload.to_owned(), bars: bars.collect() };
            match charts.iter_mut().find(|(name, _)| *name == file) {
                Some((_, chart)) => chart.panels.push(panel),
                None => {
                    let figure = series.figure.name.to_owned();
                    charts.push((file, Chart { figure, caption: caption.to_vec(), panels: vec![panel] }));
                }
            }
        }
        charts
    }

    /// The median of the ratios within one round, and their quartiles where there are several.
    fn ratio(&self, first: &[Option<f64>], other: &[Option<f64>]) -> Option<String> {
        let pairs = first.iter().zip(other).filter_map(|(first, other)| Some(((*first)?, (*other)?)));
        let ratios: Vec<f64> = pairs
            .map(|(first, other)| if self.ratio == Ratio::FirstByOther { (first, other) } else { (other, first) })
            .filter(|(_, below)| *below > 0.0)
            .map(|(above, below)| above / below)
            .collect();
        let rounds = ratios.len();
        let [lower, median, upper] = quartiles(ratios)?;
        Some(if rounds == 1 {
            format!("**{median:.2}**")
        } else {
            format!("**{median:.2}** ({lower:.2}–{upper:.2})")
        })
    }
}

/// The lower quartile, the median and the upper quartile; quartiles are values that occurred.
fn quartiles(mut values: Vec<f64>) -> Option<[f64; 3]> {
    values.sort_unstable_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    let median = f64::midpoint(values[last / 2], values[last.div_ceil(2)]);
    Some([values[last / 4], median, values[(3 * last).div_ceil(4)]])
}

/// About three digits, which is more than the noise allows.
fn number(value: f64) -> String {
    match value {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        1.0.. => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}
