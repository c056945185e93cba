//! The side-by-side benchmark: goproxy, HAProxy and nginx stream on the same loopback work.
//!
//! The program starts the peers in a network namespace of its own, is client and server of all of them at
//! once, and reads what each one cost: CPU time per unit of work, TCP segments, system calls, latency, resident
//! memory. Rounds alternate between the peers, so that whatever else the machine does hits all of them, and a
//! ratio is the median of ratios within one round. `docs/benchmarks.md` says how to run and read it.
//!
//! Every exchange is checked: a short read, a reset, a wrong count or a session left over is a fault, the
//! figure of that round is dropped, and the program ends with exit code 1.

#![allow(clippy::disallowed_methods, reason = "a benchmark lets time pass")]

mod admin;
mod backend;
mod bulk;
mod children;
mod configs;
mod exchange;
mod faults;
mod idle;
mod measure;
mod namespace;
mod peers;
mod plot;
mod reload;
mod report;
mod scale;
mod table;
#[cfg(feature = "tls")]
mod tls;
mod tools;
mod wire;
mod workloads;

use std::{path::PathBuf, process::ExitCode, sync::Arc, thread, time::Instant};

use anyhow::Context;
use clap::{Parser, ValueEnum};

use crate::{
    backend::Backends,
    configs::Speaks,
    faults::Faults,
    peers::{Kind, Means, Peer},
    report::Report,
    table::{Ratio, Table},
    workloads::Bench,
};

#[cfg(feature = "tls")]
const TLS_PEERS: usize = tls::PEERS;
#[cfg(not(feature = "tls"))]
const TLS_PEERS: usize = 0;

/// What can be chosen with `--only`.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    Short,
    Pingpong,
    Bulk,
    Idle,
    /// goproxy against itself, with more groups, servers and idle sessions
    Scale,
    /// A changed file with many groups
    Reload,
    /// Handshakes and bulk over TLS, and routing by the name in a hello
    #[cfg(feature = "tls")]
    Tls,
}

/// Compares goproxy with HAProxy and nginx on this machine.
#[derive(Parser)]
#[command(name = "peers")]
pub(crate) struct Args {
    /// Rounds of each workload; every peer runs once in each [default: 9, with --quick 3]
    #[arg(long)]
    rounds: Option<usize>,
    /// A fifth of the work: a smoke run of one or two minutes, whose figures are rough
    #[arg(long)]
    quick: bool,
    /// Only these workloads
    #[arg(long, value_delimiter = ',', default_value = "short,pingpong,bulk,idle,scale,reload")]
    only: Vec<Part>,
    /// Only these peers; the first one is what the others are compared with
    #[arg(long, value_delimiter = ',', default_value = "goproxy,haproxy,haproxy-splice,nginx")]
    peers: Vec<Kind>,
    /// Every session is logged into a file, by goproxy in JSON, by HAProxy and nginx in an access log
    #[arg(long)]
    logs: bool,
    /// The goproxy to measure; by default the one cargo has just built
    #[arg(long, default_value = env!("CARGO_BIN_EXE_goproxy"))]
    goproxy: PathBuf,
    /// Another build of goproxy, which is the peer `goproxy-before`: what has a change brought?
    #[arg(long)]
    before: Option<PathBuf>,
    /// The HAProxy to measure; by default the one that is installed
    #[arg(long)]
    haproxy: Option<PathBuf>,
    /// The nginx to measure, with its stream module; by default the one that is installed
    #[arg(long)]
    nginx: Option<PathBuf>,
    /// Writes every round's raw figures to this file
    #[arg(long)]
    json: Option<PathBuf>,
    /// Writes a plot for each kind of figure into this folder
    #[arg(long)]
    plots: Option<PathBuf>,
    /// Puts tables and plots into this page, between its lines `<!-- plots -->` and `<!-- /plots -->`, with `--logs`
    /// `<!-- plots-logs -->` and `<!-- /plots-logs -->`
    #[arg(long)]
    page: Option<PathBuf>,
    /// The namespace outside, set by the program itself once it runs in its own
    #[arg(long, hide = true)]
    inside: Option<PathBuf>,
    /// Cargo passes this to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("peers: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// True when every round of every workload was free of faults.
fn run(args: &Args) -> anyhow::Result<bool> {
    let Some(outside) = &args.inside else { return Err(namespace::reenter()) };
    children::end_on_signals().context("cannot wait for signals")?;
    let network = namespace::prepare(outside)?;
    let began = Instant::now();
    let cores = thread::available_parallelism()?.get();
    let lanes = (cores / 2).max(1);
    let faults = Arc::new(Faults::default());
    let side_by_side = args.peers.len();
    let all = side_by_side + scale::PEERS + reload::PEERS + TLS_PEERS;
    let backends = Backends::start(lanes, all, side_by_side, &faults).context("cannot start the servers")?;
    let means = Means {
        cores,
        goproxy: &args.goproxy,
        before: args.before.as_deref(),
        haproxy: args.haproxy.as_deref(),
        nginx: args.nginx.as_deref(),
        has_logs: args.logs,
        speaks: Speaks::Tcp,
    };
    let mut peers = Vec::new();
    for (index, &kind) in args.peers.iter().enumerate() {
        peers.push(Peer::new(kind, index, 1, backends.of(index), means)?);
    }

    let rounds = args.rounds.unwrap_or(if args.quick { 3 } else { 9 }).max(1);
    let machine = report::machine(&network, &peers, rounds, args);
    let mut bench = Bench { rounds, quick: args.quick, lanes, backends, faults, report: Report::new(machine), held: 0 };
    let columns = args.peers.iter().map(Kind::to_string).collect();
    bench.report.begin(Table::new("Side by side", "", columns, Ratio::FirstByOther));
    // What was measured before something failed is told all the same.
    let done = measure(args, means, &mut bench, peers);

    print!("{}", bench.report.markdown());
    if let Some(path) = &args.json {
        std::fs::write(path, format!("{:#}\n", bench.report.json()))
            .with_context(|| format!("{}: cannot be written", path.display()))?;
    }
    if let Some(folder) = &args.plots {
        bench.report.write_plots(folder)?;
    }
    if let Some(page) = &args.page {
        bench.report.write_page(page, if args.logs { "plots-logs" } else { "plots" })?;
    }
    eprintln!("peers: {} s", began.elapsed().as_secs());
    done?;
    Ok(bench.report.failures.is_empty())
}

/// Runs the workloads that are wanted.
fn measure(args: &Args, means: Means<'_>, bench: &mut Bench, mut peers: Vec<Peer>) -> anyhow::Result<()> {
    bench.run_timed(&mut peers, &args.only)?;
    if args.only.contains(&Part::Idle) {
        idle::run(bench, &mut peers)?;
    }
    let own = args.peers.iter().copied().find(|kind| kind.is_goproxy()).unwrap_or(Kind::Goproxy);
    let first = peers.len();
    drop(peers);
    #[cfg(feature = "tls")]
    if args.only.contains(&Part::Tls) {
        tls::run(bench, &args.peers, first + scale::PEERS + reload::PEERS, means)?;
    }
    if args.only.iter().any(|part| matches!(part, Part::Scale | Part::Reload)) {
        bench.report.machine.push(("against itself", own.to_string()));
    }
    if args.only.contains(&Part::Scale) {
        scale::run(bench, own, first, means)?;
    }
    if args.only.contains(&Part::Reload) {
        reload::run(bench, own, first + scale::PEERS, means)?;
    }
    Ok(())
}
