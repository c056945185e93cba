//! The command line: what may be asked of the program, and the commands that need no running proxy.

mod policy;

use std::io::{self, Write};
use std::net::ToSocketAddrs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Parser, Subcommand};

use crate::config::file::ReadError;
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
        /// With --dump: write out secrets that stand in the file, instead of "***"
        #[arg(long, requires = "dump")]
        secrets: bool,
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

/// What `check` prints of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dump {
    /// Nothing.
    None,
    /// All of it, but for secrets that stand in the file.
    WithoutSecrets,
    /// All of it.
    WithSecrets,
}

impl Dump {
    /// What the flags `--dump` and `--secrets` ask for.
    pub fn new(dump: bool, secrets: bool) -> Self {
        match (dump, secrets) {
            (false, _) => Self::None,
            (true, false) => Self::WithoutSecrets,
            (true, true) => Self::WithSecrets,
        }
    }
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
    let text = read(&path)?;
    match config::parse(&path, &text) {
        Ok(config) => Ok(Loaded { path, text, config }),
        Err(problems) => Err(refusal(&path, &problems)),
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    config::file::read(path).map_err(|error| match error {
        ReadError::NotText(problem) => refusal(path, &[problem]),
        ReadError::System(error) => anyhow::Error::new(error).context(format!("cannot read {}", path.display())),
    })
}

/// Tells every mistake on stderr, one a line; gives the error that sums them up.
fn refusal(path: &Path, problems: &[Problem]) -> anyhow::Error {
    for problem in problems {
        complain(format_args!("{}", problem.in_file(path)));
    }
    anyhow::anyhow!("{} has {}", path.display(), count(problems.len(), "mistake"))
}

/// `goproxy check`: tells what is wrong with the file, or that it is in order. Modules are loaded and tried.
///
/// # Errors
///
/// As [`load`], modules that cannot be used included; with `strict` also for what is merely doubtful.
pub fn check(file: &FileArgs, dump: Dump, strict: bool) -> anyhow::Result<()> {
    let path = config::find(file.config.as_deref())?;
    let text = read(&path)?;
    let mut inspected = config::inspect(&path, &text);
    // Where modules are, or how large they may be, must be known to judge them.
    let says_where = |problem: &Problem| ["policies_dir", "policy_max_bytes"].contains(&&*problem.path);
    if let Some(config) = &inspected.config
        && !inspected.problems.iter().any(says_where)
    {
        for (index, error) in lab::unusable(config) {
            inspected.add_policy_problem(&text, index, error);
        }
    }
    let config = match inspected.config {
        Some(config) if inspected.problems.is_empty() => config,
        _ => return Err(refusal(&path, &inspected.problems)),
    };
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
    if dump != Dump::None {
        return print(&config::dump(&config, &path, dump == Dump::WithSecrets));
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

/// An error with its causes, each once: some errors name their cause in their own text, too.
pub fn told_once(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        let error = |text: &str| anyhow::Error::new(io::Error::other("in use")).context(text.to_owned());
        assert_eq!(
            told_once(&error("cannot listen on 1: in use; nothing was changed")),
            "cannot listen on 1: in use; nothing was changed"
        );
        assert_eq!(told_once(&error("cannot read x")), "cannot read x: in use");
    }
}
