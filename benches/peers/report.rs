//! What the benchmark says in the end: the machine, the tables, what failed, the plots.
//!
//! The tables follow each other as the workloads ran; figures go into the last one.

use std::{fs, path::Path};

use anyhow::Context;
use serde_json::{Value, json};

use crate::{
    namespace::Network,
    peers::Peer,
    plot,
    table::{Figure, Table},
};

/// Characters of a line below a plot.
const LINE: usize = 125;

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

/// Everything that was measured.
pub(crate) struct Report {
    pub(crate) machine: Machine,
    /// Rounds that were not free of faults.
    pub(crate) failures: Vec<String>,
    tables: Vec<Table>,
}

impl Report {
    pub(crate) fn new(machine: Machine) -> Report {
        Report { machine, failures: Vec::new(), tables: Vec::new() }
    }

    /// From now on, figures belong to this table.
    pub(crate) fn begin(&mut self, table: Table) {
        self.tables.push(table);
    }

    /// Keeps one figure of one round.
    pub(crate) fn note(&mut self, workload: &'static str, figure: Figure, column: usize, round: usize, value: f64) {
        let table = self.tables.last_mut().expect("a table was begun before anything is measured");
        table.note(workload, figure, column, round, value);
    }

    /// The tables, with what must be known to read them above.
    pub(crate) fn markdown(&self) -> String {
        let mut text = format!("{}\n", self.facts().join(" · "));
        text.extend(self.tables.iter().map(Table::markdown));
        text.extend(self.failures());
        text
    }

    /// Puts the tables and their plots into the file at `page`, in place of what stands there between the lines
    /// `<!-- NAME -->` and `<!-- /NAME -->`. The plots go into a folder of this name beside it.
    pub(crate) fn write_page(&self, page: &Path, name: &str) -> anyhow::Result<()> {
        let (begin, end) = (format!("\n<!-- {name} -->\n"), format!("<!-- /{name} -->\n"));
        let text = fs::read_to_string(page).with_context(|| format!("{}: cannot be read", page.display()))?;
        let parts = text.split_once(&begin).and_then(|(head, rest)| Some((head, rest.split_once(&end)?.1)));
        let (head, tail) = parts.with_context(|| format!("{}: has no lines {begin}{end}", page.display()))?;
        self.write_plots(&page.with_file_name(name))?;
        let mut results = format!("{}\n", self.facts().join(" · "));
        for table in &self.tables {
            results += &table.markdown();
            for (file, chart) in table.charts(&[]) {
                results += &format!("\n![{}]({name}/{file}.svg)\n", chart.figure);
            }
        }
        results.extend(self.failures());
        fs::write(page, format!("{head}{begin}{results}{end}{tail}"))
            .with_context(|| format!("{}: cannot be written", page.display()))
    }

    /// Every round.
    pub(crate) fn json(&self) -> Value {
        let machine: serde_json::Map<_, _> =
            self.machine.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        let series: Vec<Value> = self.tables.iter().flat_map(Table::json).collect();
        json!({ "machine": machine, "failures": self.failures, "series": series })
    }

    /// Writes the plots of all tables into this folder.
    pub(crate) fn write_plots(&self, folder: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(folder).with_context(|| format!("{}: cannot be made", folder.display()))?;
        let caption = lines(&self.facts());
        for (name, chart) in self.tables.iter().flat_map(|table| table.charts(&caption)) {
            let file = folder.join(name).with_extension("svg");
            fs::write(&file, plot::svg(&chart)).with_context(|| format!("{}: cannot be written", file.display()))?;
        }
        Ok(())
    }

    fn failures(&self) -> impl Iterator<Item = String> {
        self.failures.iter().map(|failure| format!("\nFAILED: {failure}\n"))
    }

    fn facts(&self) -> Vec<String> {
        self.machine.iter().map(|(name, value)| format!("{name}: {value}")).collect()
    }
}

/// The facts in lines that fit below a plot.
fn lines(facts: &[String]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for fact in facts {
        match lines.last_mut() {
            Some(line) if line.chars().count() + fact.chars().count() < LINE => *line += &format!(" · {fact}"),
            _ => lines.push(fact.clone()),
        }
    }
    lines
}
