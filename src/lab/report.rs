//! What was found out about a module: as JSON for programs, as text for people.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::base::terminal::{Style, bar};
use crate::base::text::{grouped, size, time};
use crate::policy::spec::ModuleSpec;
use crate::policy::wasm::source::ModuleFile;

/// The longest bar, in characters.
const BAR_WIDTH: u64 = 40;

/// Everything about a module. As JSON, what could not be found out is `null` or empty.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The file as named.
    pub file: String,
    /// True when the proxy may use it.
    pub fit: bool,
    /// Why it may not; empty when it may.
    pub reasons: Vec<Reason>,
    /// What is worth knowing but makes the module no less fit.
    pub notes: Vec<String>,
    /// What the module calls itself.
    pub name: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// `component`, `module` or `text`.
    pub format: Option<String>,
    /// Size of the file.
    pub file_bytes: Option<usize>,
    /// The hash of the file in hex, for `sha256` in `proxy.json`.
    pub sha256: Option<String>,
    /// The number of the key that signed it; `null` when no key was given.
    pub signed_by: Option<String>,
    /// What it imports.
    pub imports: Vec<String>,
    /// What it exports.
    pub exports: Vec<String>,
    /// True when it exports the feedback functions.
    pub feedback: Option<bool>,
    /// Milliseconds that it took to look through the file and to compile it.
    pub compile_ms: Option<f64>,
    /// The first lines that it wrote to `host.log`, with the level in front.
    pub says: Vec<String>,
    /// What it was configured with.
    pub config: Option<serde_json::Value>,
    /// What a pick may take.
    pub deadline_ms: f64,
    /// What an instance may hold.
    pub memory_max_bytes: u64,
    /// What an instance holds.
    pub memory: Option<Sizes>,
    /// What a pick costs.
    pub cost: Vec<Cost>,
    /// The conformance run.
    pub checks: Vec<Check>,
    /// How clients are spread.
    pub spread: Option<Spread>,
    /// Who moves when a server leaves.
    pub leaving: Option<Leaving>,
}

/// Why a module is unfit.
#[derive(Debug, Serialize)]
pub struct Reason {
    /// What is wrong.
    pub text: String,
    /// The scenes in which it was seen: a name of a check, `spread`, `leaving`, `memory` or `cost`; or else `load`,
    /// `start` or `all`.
    pub seen_in: Vec<&'static str>,
}

/// Bytes of linear memory.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Sizes {
    /// With ten servers.
    pub with_10_servers: u64,
    /// With ten thousand.
    pub with_10000_servers: u64,
}

/// What a pick costs among so many servers, timed in batches.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Cost {
    /// Servers to choose from.
    pub servers: u32,
    /// Picks that were timed.
    pub picks: u64,
    /// Picks in a batch.
    pub batch: u32,
    /// Nanoseconds per pick in the fastest batch.
    pub min_ns: f64,
    /// The same in the median batch.
    pub median_ns: f64,
    /// The same in the 99th percentile of batches.
    pub p99_ns: f64,
}

/// A promise every policy makes.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Check {
    /// Its name.
    pub name: &'static str,
    /// What is promised.
    pub promise: &'static str,
    /// True when it was kept.
    pub ok: bool,
    /// Picks that were judged.
    pub picks: u64,
}

/// How many of the clients each server got, in the order of the list.
#[derive(Clone, Debug, Serialize)]
pub struct Spread {
    /// Clients that came.
    pub clients: u64,
    /// Those of each server.
    pub servers: Vec<u64>,
}

/// What happened to clients of the others when one of ten servers left.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Leaving {
    /// Clients of other servers.
    pub clients: u64,
    /// Of these, those that got another server afterwards.
    pub moved: u64,
}

impl Report {
    pub(super) fn new(path: &Path, spec: &ModuleSpec) -> Self {
        Self {
            file: path.display().to_string(),
            fit: true,
            reasons: Vec::new(),
            notes: Vec::new(),
            name: None,
            version: None,
            format: None,
            file_bytes: None,
            sha256: None,
            signed_by: None,
            imports: Vec::new(),
            exports: Vec::new(),
            feedback: None,
            compile_ms: None,
            says: Vec::new(),
            config: serde_json::from_str(&spec.config).ok(),
            deadline_ms: spec.deadline.as_secs_f64() * 1e3,
            memory_max_bytes: spec.memory,
            memory: None,
            cost: Vec::new(),
            checks: Vec::new(),
            spread: None,
            leaving: None,
        }
    }

    /// Adds a reason why the module is unfit, seen in this scene.
    pub(super) fn refuse(&mut self, text: &str, seen_in: &'static str) {
        self.fit = false;
        match self.reasons.iter_mut().find(|reason| reason.text == text) {
            Some(reason) => reason.seen_in.push(seen_in),
            None => self.reasons.push(Reason { text: text.to_owned(), seen_in: vec![seen_in] }),
        }
    }

    pub(super) fn source(&mut self, source: &ModuleFile, sha256: String, compile_time: Duration) {
        self.format = Some(source.format.to_string());
        self.file_bytes = Some(source.file_bytes);
        self.sha256 = Some(sha256);
        self.imports.clone_from(&source.imports);
        self.exports.clone_from(&source.exports);
        self.feedback = Some(source.has_feedback);
        self.compile_ms = Some(compile_time.as_secs_f64() * 1e3);
    }

    /// The reasons why the module is unfit, one line each, with the file in front.
    pub fn complaints(&self) -> impl Iterator<Item = String> {
        self.reasons.iter().map(|Reason { text, seen_in }| match seen_in[..] {
            ["load" | "start" | "all"] => format!("{}: {text}", self.file),
            _ => format!("{}: {text} (in {})", self.file, seen_in.join(", ")),
        })
    }

    /// The report as one line of JSON.
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("a report has only texts as keys")
    }

    /// The report as text. It says that the module is unfit, but not why; see [`Report::complaints`].
    pub fn text(&self, style: Style) -> String {
        let mut text = String::new();
        self.write_facts(&mut text);
        for cost in &self.cost {
            let [min, median, p99] = [cost.min_ns, cost.median_ns, cost.p99_ns].map(time);
            let (servers, picks) = (grouped(cost.servers.into()), grouped(cost.picks));
            let value = format!(
                "{min} at best, {median} median, {p99} p99 with {servers} servers ({picks} picks in batches of {})",
                cost.batch
            );
            line(&mut text, "a pick costs", &value);
        }
        for check in &self.checks {
            let verdict = if check.ok { style.green("ok") } else { style.red("FAILED") };
            let value = format!("{verdict}, {} ({} picks)", check.promise, grouped(check.picks));
            line(&mut text, check.name, &value);
        }
        self.write_spread(&mut text, style);
        let labels = std::iter::once("says").chain(std::iter::repeat(""));
        labels.zip(&self.says).for_each(|(label, said)| line(&mut text, label, said));
        for note in &self.notes {
            line(&mut text, "note", note);
        }
        let verdict = if self.fit { style.green("fit") } else { style.red("unfit") };
        let _ = writeln!(text, "{}: {}", self.file, style.bold(&verdict));
        text
    }

    fn write_facts(&self, text: &mut String) {
        if let (Some(name), Some(version)) = (&self.name, &self.version) {
            line(text, "name", name);
            line(text, "version", version);
        }
        let (Some(format), Some(bytes), Some(sha256)) = (&self.format, self.file_bytes, &self.sha256) else { return };
        line(text, "format", format);
        line(text, "size", &format!("{} bytes", grouped(bytes as u64)));
        line(text, "sha256", sha256);
        if let Some(number) = &self.signed_by {
            line(text, "signed by", number);
        }
        for (label, names) in [("imports", &self.imports), ("exports", &self.exports)] {
            let labels = std::iter::once(label).chain(std::iter::repeat(""));
            labels.zip(names).for_each(|(label, name)| line(text, label, name));
        }
        line(text, "compiled in", &time(self.compile_ms.unwrap_or(0.0) * 1e6));
        if let Some(memory) = self.memory {
            let [few, many, max] = [memory.with_10_servers, memory.with_10000_servers, self.memory_max_bytes].map(size);
            line(text, "memory", &format!("{few} with 10 servers, {many} with 10,000; of {max}"));
        }
    }

    fn write_spread(&self, text: &mut String, style: Style) {
        if let Some(Spread { clients, servers }) = &self.spread {
            let counts: Vec<String> = servers.iter().map(|count| grouped(*count)).collect();
            let what = format!("{} clients over {} servers", grouped(*clients), servers.len());
            if style.is_terminal {
                line(text, "spread", &what);
                let longest = servers.iter().max().copied().unwrap_or(0);
                for ((index, count), shown) in servers.iter().enumerate().zip(&counts) {
                    let bar = style.green(&bar(*count, longest, BAR_WIDTH));
                    line(text, "", &format!("{:>2} {bar} {shown}", index + 1));
                }
            } else {
                line(text, "spread", &format!("{what}: {}", counts.join(" ")));
            }
        }
        if let Some(Leaving { clients, moved }) = self.leaving {
            let share = 100.0 * moved as f64 / clients.max(1) as f64;
            line(text, "leaving", &format!("{share:.1} % of the clients of nine servers move when the tenth leaves"));
        }
    }
}

fn line(text: &mut String, label: &str, value: &str) {
    let _ = writeln!(text, "{label:<13} {value}");
}
