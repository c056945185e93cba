//! The command line: its flags, the commands that need no running proxy, and those that ask one.

mod output;
mod failure;
mod file;
mod check;
mod import;
mod policy;
mod simulate;
mod subject;
mod record;
mod replay;
mod shadow;
mod admin;
mod events;
mod status;
mod reload;
mod upgrade;
mod drain;
mod top;

use clap::{Parser, Subcommand};

pub use admin::AdminArgs;
pub use check::{Dump, check};
pub use drain::{DrainArgs, drain};
pub use events::{EventsArgs, events};
pub use failure::Failure;
pub use file::{FileArgs, Loaded, load};
pub use import::{ImportArgs, import};
pub use output::{error_text, print};
pub use policy::{PolicyCommand, policy};
pub use reload::{ReloadArgs, reload};
pub use status::{StatusArgs, status};
#[cfg(feature = "top")]
pub use top::{TopArgs, top};
pub use upgrade::{UpgradeArgs, upgrade};

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
    /// Show live what a running proxy does: sessions, groups, servers, policies, events
    #[cfg(feature = "top")]
    Top(TopArgs),
    /// Print what happens in a running proxy: servers that come and go, reloads, changes
    Events(EventsArgs),
    /// Show the groups and servers of a running proxy, or whether it is ready
    Status(StatusArgs),
    /// Have a running proxy read its file now: exit 0, or report every mistake and exit 1
    Reload(ReloadArgs),
    /// Have a new process of the program that is installed now take over from a running proxy: no client notices
    Upgrade(UpgradeArgs),
    /// Send no new clients to a server, in every group that has it, and wait for its sessions
    Drain(DrainArgs),
    /// Print what the configuration of another proxy is here, with a comment for what has no equivalent
    Import(ImportArgs),
    /// Check, list, try and create balancing policies
    Policy {
        /// What to do with them.
        #[command(subcommand)]
        command: PolicyCommand,
    },
    /// Print the JSON Schema of proxy.json, for editors
    Schema {
        /// Print that of a scenario of `policy simulate` instead
        #[arg(long)]
        scenario: bool,
    },
}
