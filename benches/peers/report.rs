//! From rounds to a table.
//!
//! A figure is kept per peer and round. The table shows each peer's median, and how the first peer compares with
//! each other one: the median of the ratios within one round, with their quartiles. What is in the table is in
//! the JSON as well, round by round, and a few raw figures more.

use std::{fmt::Write, fs};

use serde_json::{Value, json};

use crate::{
    namespace::Network,
    peers::{Kind, Peer},
};

/// What is measured of a workload.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Figure {
    name: &'static str,
    is_shown: bool,
    is_compared: bool,
}

impl Figure {
    /// A row of the table.
    pub(crate) const fn shown(name: &'static str) -> Figure {
        Figure { name, is_shown: true, is_compared: true }
    }

    /// A row without ratios: its values are so close to nothing that ratios would only mislead.
    pub(crate) const fn absolute(name: &'static str) -> Figure {
        Figure { name, is_shown: true, is_compared: false }
    }

    /// For the JSON only.
    pub(crate) const fn raw(name: &'static str) -> Figure {
        Figure { name, is_shown: false, is_compared: false }
    }
}

/// What a reader must know to judge the figures, as names and values.
pub(crate) type Machine = Vec<(&'static str, String)>;

/// Describes the machine, the network and the peers.
pub(crate) fn machine(network: &Network, peers: &[Peer], rounds: usize, args: &crate::Args) -> Machine {
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(": "));
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let versions: Vec<String> = peers.iter().map(|peer| format!("{} {}", peer.kind, peer.version)).collect();
    let mode = if args.quick { " (quick: a fifth of the work, rough figures)" } else { "" };
    vec![
        ("CPU", format!("{}, {cores} cores", model.map_or("unknown", |(_, model)| model))),
        ("kernel", format!("Linux {}", read("/proc/sys/kernel/osrelease").trim())),
        ("congestion control", network.congestion_control.clone()),
        ("peers", versions.join(", ")),
        ("rounds", format!("{rounds}{mode}")),
        ("logs", if args.logs { "every session, into a file" } else { "off" }.to_owned()),
    ]
}

struct Series {
    workload: &'static str,
    figure: Figure,
    /// By peer, then by round; `None` where the round failed or was not run.
    values: Vec<Vec<Option<f64>>>,
}

/// Everything that was measured.
pub(crate) struct Report {
    pub(crate) machine: Machine,
    /// Rounds that were not free of faults.
    pub(crate) failures: Vec<String>,
    peers: Vec<Kind>,
    series: Vec<Series>,
}

impl Report {
    pub(crate) fn new(machine: Machine, peers: &[Kind]) -> Report {
        Report { machine, failures: Vec::new(), peers: peers.to_vec(), series: Vec::new() }
    }

    /// Keeps one figure of one round.
    pub(crate) fn note(&mut self, workload: &'static str, figure: Figure, peer: usize, round: usize, value: f64) {
        let is_it = |series: &Series| series.workload == workload && series.figure == figure;
        let index = self.series.iter().position(is_it).unwrap_or_else(|| {
            self.series.push(Series { workload, figure, values: vec![Vec::new(); self.peers.len()] });
            self.series.len() - 1
        });
        let rounds = &mut self.series[index].values[peer];
        rounds.resize(rounds.len().max(round + 1), None);
        rounds[round] = Some(value);
    }

    /// The table, with what must be known to read it above.
    pub(crate) fn markdown(&self) -> String {
        let facts: Vec<String> = self.machine.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        let mut text = format!("{}\n\n| work | figure |", facts.join(" · "));
        let first = self.peers[0];
        for peer in &self.peers {
            let _infallible = write!(text, " {peer} |");
        }
        for peer in &self.peers[1..] {
            let _infallible = write!(text, " {first} / {peer} |");
        }
        text.push_str("\n|---|---|");
        text.push_str(&"---:|".repeat(2 * self.peers.len() - 1));
        for series in self.series.iter().filter(|series| series.figure.is_shown) {
            let _infallible = write!(text, "\n| {} | {} |", series.workload, series.figure.name);
            for rounds in &series.values {
                let median = quartiles(rounds.iter().flatten().copied().collect()).map(|[_, median, _]| number(median));
                let _infallible = write!(text, " {} |", median.as_deref().unwrap_or("–"));
            }
            for other in &series.values[1..] {
                let ratio = series.figure.is_compared.then(|| ratio(&series.values[0], other)).flatten();
                let _infallible = write!(text, " {} |", ratio.as_deref().unwrap_or("–"));
            }
        }
        text.push('\n');
        for failure in &self.failures {
            let _infallible = writeln!(text, "\nFAILED: {failure}");
        }
        text
    }

    /// Every round.
    pub(crate) fn json(&self) -> Value {
        let machine: serde_json::Map<_, _> =
            self.machine.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        let series: Vec<Value> = self
            .series
            .iter()
            .map(|series| {
                let rounds: serde_json::Map<_, _> = self
                    .peers
                    .iter()
                    .zip(&series.values)
                    .map(|(peer, rounds)| (peer.to_string(), json!(rounds)))
                    .collect();
                json!({ "work": series.workload, "figure": series.figure.name, "rounds": rounds })
            })
            .collect();
        json!({ "machine": machine, "failures": self.failures, "series": series })
    }
}

/// The median of the ratios within one round, and their quartiles where there are several.
fn ratio(first: &[Option<f64>], other: &[Option<f64>]) -> Option<String> {
    let pairs = first.iter().zip(other).filter_map(|(first, other)| Some(((*first)?, (*other)?)));
    let ratios: Vec<f64> = pairs.filter(|(_, other)| *other > 0.0).map(|(first, other)| first / other).collect();
    let rounds = ratios.len();
    let [lower, median, upper] = quartiles(ratios)?;
    Some(if rounds == 1 { format!("**{median:.2}**") } else { format!("**{median:.2}** ({lower:.2}–{upper:.2})") })
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
