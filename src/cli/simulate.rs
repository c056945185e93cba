//! `goproxy policy simulate`: flags, streams and exit codes; the work is done in [`crate::lab::simulate`].
//!
//! Exit codes: 0; 1 when a condition holds that must not, or a module cannot be used or fails; 2 for a wrong command line
//! or scenario.

mod values;

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use serde_json::json;
use values::{above_zero, clients, duration, event, format};

use super::failure::Failure;
use super::file::{FileArgs, load};
use super::output::{print, print_error};
use super::subject::{EXIT_USAGE, subject};
use crate::base::file::read_argument;
use crate::base::terminal::Style;
use crate::base::text::echo;
use crate::config::{
    Config, Durations, FILE_BYTES_MAX, Happening, SIMULATED_SERVERS_MAX, Scenario, ServerPlan, flags, parse_scenario,
};
use crate::lab::simulate::{self, Condition, Simulated, Trace, TraceFormat};
use crate::policy::built_in::BUILT_IN;
use crate::policy::spec::MODULE_PREFIX;

/// The arguments of `policy simulate`.
#[derive(Args, Debug)]
pub struct SimulateArgs {
    /// Built-in policies, module files, or wasm:NAME of policies_dir; with --group, by default the group's
    policies: Vec<String>,
    /// What happens, as a file; flags count more [schema: goproxy schema --scenario]
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,
    /// So many servers, all alike
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=SIMULATED_SERVERS_MAX as i64))]
    servers: Option<u32>,
    /// Take the sessions of a log: goproxy's, HAProxy's tcplog, or nginx's of stream; - for stdin. With --group, only those of it
    #[arg(long, value_name = "FILE", conflicts_with_all = ["held", "rate", "duration", "clients", "repeat"])]
    trace: Option<PathBuf>,
    /// Who wrote the log [default: as its lines look]
    #[arg(long, value_name = "WORD", requires = "trace", value_parser = format)]
    format: Option<TraceFormat>,
    /// Let the sessions of a log come so many times as fast
    #[arg(long, value_name = "N", requires = "trace", default_value_t = 1.0, value_parser = above_zero)]
    speed: f64,
    /// What they do with sessions: hold, queue or share
    #[arg(long, value_name = "WORD", value_parser = ["hold", "queue", "share"])]
    serve: Option<String>,
    /// Sessions that are held on average, by which the rate is set
    #[arg(long, value_name = "N", conflicts_with = "rate", value_parser = above_zero)]
    held: Option<f64>,
    /// Sessions that come each second
    #[arg(long, value_name = "N", value_parser = above_zero)]
    rate: Option<f64>,
    /// How long sessions are: 30s or exp:30s, fixed:30s, lognormal:30s:SIGMA, pareto:30s:SHAPE
    #[arg(long, value_name = "KIND:TIME", value_parser = duration)]
    duration: Option<Durations>,
    /// How many clients there are, and the exponent of Zipf's law by which they come
    #[arg(long, value_name = "N[:SKEW]", value_parser = clients)]
    clients: Option<(u32, f64)>,
    /// How long clients come
    #[arg(long, value_name = "TIME", value_parser = flags::simulated_time)]
    until: Option<Duration>,
    /// The time at the beginning that is not measured [default: a tenth]
    #[arg(long, value_name = "TIME", value_parser = flags::simulated_time)]
    warm_up: Option<Duration>,
    /// What happens to servers: 5m=kill:s3, revive:s3, drain:s3, ready:s3, add:2, weight:s1=5, slow:s2=0.5
    #[arg(long = "at", value_name = "TIME=EVENT", value_parser = event)]
    events: Vec<Happening>,
    /// Take servers, weights and the policy from this group of proxy.json
    #[arg(long, value_name = "PORT|NAME")]
    group: Option<String>,
    /// proxy.json, for --group and wasm:NAME.
    #[command(flatten)]
    file: FileArgs,
    /// The configuration of modules, a JSON object
    #[arg(long = "module-config", value_name = "JSON", value_parser = flags::module_config)]
    module_config: Option<String>,
    /// What all random numbers follow from
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Run with so many seeds, and print means and how sure they are
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    repeat: u32,
    /// Exit with 1 if this holds for a policy: busiest>1.2, refused>1%; may be repeated
    #[arg(long = "fail-if", value_name = "CONDITION")]
    fail_if: Vec<Condition>,
    /// Write a page with pictures as well: one file, without scripts
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
///
/// `proxy.json` cannot be used, or stdout cannot be written.
pub(super) fn simulate(args: &SimulateArgs) -> anyhow::Result<ExitCode> {
    let needs_file = args.group.is_some() || args.policies.iter().any(|policy| policy.starts_with(MODULE_PREFIX));
    let config = needs_file.then(|| load(&args.file).map_err(Failure::told)).transpose()?.map(|loaded| loaded.config);
    let trace = match &args.trace {
        Some(path) => Some(read_trace(path, args)?),
        None => None,
    };
    let Some((scenario, named)) = scenario(args, config.as_ref(), trace.as_ref())? else {
        return Ok(ExitCode::from(EXIT_USAGE));
    };
    let policies = if args.policies.is_empty() { named } else { args.policies.clone() };
    if policies.is_empty() {
        print_error(format_args!("no policy; expected {}, a module's file, or wasm:NAME", BUILT_IN.join(", ")));
        return Ok(ExitCode::from(EXIT_USAGE));
    }
    let mut subjects = Vec::new();
    for policy in &policies {
        let (group, module_config) = (args.group.as_deref(), args.module_config.as_deref());
        match subject(policy, group, module_config, config.as_ref()) {
            Ok(subject) => subjects.push(subject),
            Err((code, text)) => {
                print_error(format_args!("{text}"));
                return Ok(ExitCode::from(code));
            }
        }
    }
    let mut results = Vec::new();
    for subject in &subjects {
        let seeds = (0..u64::from(args.repeat)).map(|number| scenario.seed.wrapping_add(number));
        let runs =
            seeds.map(|seed| simulate::simulate(subject, &Scenario { seed, ..scenario.clone() }, trace.as_ref()));
        results.push(runs.collect::<Result<Vec<Simulated>, _>>().with_context(|| subject.name.clone())?);
    }
    let notes = trace.as_ref().map_or(&[][..], |trace| &trace.notes);
    if let Some(path) = &args.html {
        let page = simulate::page(&scenario, &results, notes);
        std::fs::write(path, page).with_context(|| format!("cannot write {}", path.display()))?;
    }
    print(&match args.json {
        true => format!("{}\n", answer(&scenario, &results)),
        false => simulate::text(&scenario, &results, notes, Style::of_stdout()),
    })?;
    Ok(verdict(args, &results))
}

fn read_trace(path: &Path, args: &SimulateArgs) -> anyhow::Result<Trace> {
    let (group, place) = (args.group.as_deref(), path.display());
    let read = match path == Path::new("-") {
        true => Trace::read(std::io::stdin().lock(), args.format, group, args.speed),
        false => {
            let file = File::open(path).with_context(|| format!("cannot read {place}"))?;
            Trace::read(BufReader::new(file), args.format, group, args.speed)
        }
    };
    read.with_context(|| place.to_string())
}

/// Says which conditions hold that must not, and which modules have failed.
fn verdict(args: &SimulateArgs, results: &[Vec<Simulated>]) -> ExitCode {
    let mut complaints = Vec::new();
    for run in results.iter().flatten() {
        complaints.extend(args.fail_if.iter().filter_map(|condition| condition.complaint(run)));
        complaints.extend(run.last_fault.as_ref().map(|fault| format!("{}: {fault}", run.policy)));
    }
    complaints.iter().for_each(|complaint| print_error(format_args!("{complaint}")));
    if complaints.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The object that `--json` prints. With several seeds, `policies` has the first, and `estimates` all of them.
fn answer(scenario: &Scenario, results: &[Vec<Simulated>]) -> serde_json::Value {
    let policies: Vec<serde_json::Value> = results
        .iter()
        .map(|runs| {
            let mut shown = serde_json::to_value(&runs[0]).expect("a result has only texts as keys");
            if runs.len() > 1 {
                let estimates: serde_json::Map<_, _> = simulate::estimates(runs)
                    .into_iter()
                    .map(|(name, estimate)| (name.to_owned(), json!(estimate)))
                    .collect();
                shown["estimates"] = estimates.into();
            }
            shown
        })
        .collect();
    let servers: u32 = scenario.servers.iter().map(|plan| plan.count).sum();
    json!({
        "version": env!("CARGO_PKG_VERSION"), "seed": scenario.seed, "seeds": results[0].len(), "servers": servers,
        "until_s": scenario.until.as_secs_f64(), "rate": scenario.arrivals.rate, "policies": policies,
    })
}

/// The scenario, and the policy of the group that it was taken from. `None` when something is wrong with it, which has been
/// said.
fn scenario(
    args: &SimulateArgs,
    config: Option<&Config>,
    trace: Option<&Trace>,
) -> anyhow::Result<Option<(Scenario, Vec<String>)>> {
    let mut scenario = Scenario::default();
    if let Some(path) = &args.scenario {
        let text =
            read_argument(path, FILE_BYTES_MAX as u64).with_context(|| format!("cannot read {}", path.display()))?;
        scenario = match parse_scenario(&text) {
            Ok(scenario) => scenario,
            Err(problems) => {
                problems.iter().for_each(|problem| print_error(format_args!("{}", problem.in_file(path))));
                return Ok(None);
            }
        };
    }
    let mut named = Vec::new();
    if let (Some(wanted), Some(config)) = (&args.group, config) {
        let group = config.groups.iter().find(|group| group.settings.id().as_str() == wanted);
        let Some(group) = group.filter(|group| !group.servers.is_empty()) else {
            print_error(format_args!("{} has no group {} with servers", args.file_name(), echo(wanted)));
            return Ok(None);
        };
        scenario.servers = group
            .servers
            .iter()
            .map(|server| ServerPlan {
                weight: server.weight,
                max_sessions: server.max_sessions,
                backup: server.backup,
                labels: server.labels.clone(),
                ..ServerPlan::default()
            })
            .collect();
        scenario.connect_attempts = group.settings.connect_attempts;
        named.push(group.settings.policy.name().to_owned());
    }
    if let Some(trace) = trace {
        trace.apply(&mut scenario);
    }
    args.change(&mut scenario);
    if let Err(text) = scenario.check() {
        print_error(format_args!("{text}"));
        return Ok(None);
    }
    Ok(Some((scenario, named)))
}

impl SimulateArgs {
    fn file_name(&self) -> String {
        self.file.config.as_deref().unwrap_or(Path::new("proxy.json")).display().to_string()
    }

    /// Flags count more than the file.
    fn change(&self, scenario: &mut Scenario) {
        if let Some(count) = self.servers {
            scenario.servers = vec![ServerPlan { count, ..scenario.servers.first().cloned().unwrap_or_default() }];
        }
        let words = ["hold", "queue", "share"];
        if let Some(serve) = self.serve.as_ref().and_then(|serve| words.into_iter().find(|word| word == serve)) {
            scenario.servers.iter_mut().for_each(|plan| plan.serve = serve);
        }
        if let Some(durations) = &self.duration {
            scenario.durations = durations.clone();
        }
        if let Some((count, skew)) = self.clients {
            (scenario.clients.count, scenario.clients.skew) = (count, skew);
        }
        if let Some(until) = self.until {
            scenario.until = until.max(Duration::from_millis(1));
        }
        if let Some(held) = self.held {
            scenario.arrivals.rate = held / scenario.durations.mean.as_secs_f64();
        }
        scenario.arrivals.rate = self.rate.unwrap_or(scenario.arrivals.rate);
        scenario.warm_up = self.warm_up.or(scenario.warm_up);
        scenario.seed = self.seed.unwrap_or(scenario.seed);
        scenario.events.extend(self.events.iter().cloned());
    }
}
