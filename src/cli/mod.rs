//! The command line: what may be asked of the program, and the commands that need no running proxy.

mod policy;

use std::io::{self, Write};
use std::net::ToSocketAddrs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Parser, Subcommand};

use crate::config::{self, Config, Problem};
use crate::lab;

pub use policy::{PolicyCommand, policy};

/// A TCP reverse proxy whose servers register themselves and whose balancing policies are plugins.
///
/// Without a command it serves. `goproxy demo` shows what it does; docs/tutorial.md leads through it.
#[derive(Debug, Parser)]
#[command(name = "goproxy", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do; `run` without a command.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The file, for `goproxy -c FILE`.
    #[command(flatten)]
    pub file: FileArgs,
    /// Check the file and exit, as `check` does.
    #[arg(short = 't')]
    pub test: bool,
}

/// Where `proxy.json` is.
#[derive(Args, Clone, Debug, Default)]
pub struct FileArgs {
    /// proxy.json, or the folder that holds it [default: $PROXY_CONFIG_PATH, ./proxy.json, ./config/proxy.json]
    #[arg(short = 'c', long = "config", value_name = "PATH")]
    pub config: Option<PathBuf>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve clients (the default)
    Run {
        /// The file.
        #[command(flatten)]
        file: FileArgs,
    },
    /// Check proxy.json and the modules it names: exit 0, or report every mistake and exit 1
    Check {
        /// The file.
        #[command(flatten)]
        file: FileArgs,
        /// Print the whole configuration, with every default
        #[arg(long)]
        dump: bool,
        /// Treat warnings as mistakes, and look up the name of every server
        #[arg(long)]
        strict: bool,
    },
    /// Show a proxy, servers and clients at work on loopback, in less than 20 seconds
    Demo {
        /// Keep everything running afterwards, until Ctrl-C
        #[arg(long)]
        keep: bool,
    },
    /// Check, list and create balancing policies; needs no running proxy
    Policy {
        /// What to do with them.
        #[command(subcommand)]
        command: PolicyCommand,
    },
    /// Print the JSON Schema of proxy.json, for editors
    Schema,
}

/// A configuration and where it came from.
#[derive(Debug)]
pub struct Loaded {
    /// The file.
    pub path: PathBuf,
    /// What it says.
    pub text: String,
    /// What that means.
    pub config: Config,
}

/// Finds, reads and checks the file; every mistake goes to stderr, one a line.
///
/// # Errors
///
/// There is no file, it cannot be read, or it has mistakes.
pub fn load(file: &FileArgs) -> anyhow::Result<Loaded> {
    let path = config::find(file.config.as_deref())?;
    let text = config::file::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    match config::parse(&path, &text) {
        Ok(config) => Ok(Loaded { path, text, config }),
        Err(problems) => {
            tell(&path, &problems);
            anyhow::bail!("{} has {}", path.display(), count(problems.len(), "mistake"))
        }
    }
}

/// `goproxy check`: tells what is wrong with the file, or that it is in order. Modules are loaded and tried.
///
/// # Errors
///
/// As [`load`]; with `strict` also for what is merely doubtful.
pub fn check(file: &FileArgs, dump: bool, strict: bool) -> anyhow::Result<()> {
    let Loaded { path, text, config } = load(file)?;
    let mut problems: Vec<Problem> =
        lab::unusable(&config).into_iter().map(|(index, error)| config::policy_problem(&text, index, &error)).collect();
    // Groups that share a policy share its mistake.
    problems.dedup();
    if !problems.is_empty() {
        tell(&path, &problems);
        anyhow::bail!("{} has {}", path.display(), count(problems.len(), "mistake"));
    }
    let mut doubts = Vec::new();
    if config.is_legacy {
        doubts.push(config::LEGACY_NOTE.to_owned());
    }
    if strict {
        doubts.extend(unresolved(&config));
    }
    for doubt in &doubts {
        complain(format_args!("{}: warning: {doubt}", path.display()));
    }
    anyhow::ensure!(!strict || doubts.is_empty(), "{} has {}", path.display(), count(doubts.len(), "warning"));
    if dump {
        return print(&config::dump(&config, &path, true));
    }
    let servers = config.groups.iter().map(|group| group.servers.len()).sum();
    let (groups, servers) = (count(config.groups.len(), "group"), count(servers, "server"));
    print(&format!("{}: OK, {groups}, {servers}\n", path.display()))
}

/// Prints to stdout. A reader that has gone away is no error.
///
/// # Errors
///
/// Stdout cannot be written to.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("cannot write to stdout"),
        _ => Ok(()),
    }
}

fn tell(path: &Path, problems: &[Problem]) {
    for problem in problems {
        complain(format_args!("{}", problem.in_file(path)));
    }
}

/// Writes a line to stderr, which may be closed.
fn complain(line: std::fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Servers whose name does not resolve here and now.
fn unresolved(config: &Config) -> Vec<String> {
    let mut doubts = Vec::new();
    for group in &config.groups {
        for server in group.servers.iter().filter(|server| server.addr.literal().is_none()) {
            if let Err(error) = (server.addr.host(), server.addr.port()).to_socket_addrs() {
                let port = group.settings.listen.port();
                doubts.push(format!("group {port}: server {}: cannot resolve its name: {error}", server.addr));
            }
        }
    }
    doubts
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
