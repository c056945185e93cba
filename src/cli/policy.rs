//! `goproxy policy`: flags, streams and exit codes; the work is done in [`crate::lab`].
//!
//! Results go to stdout, as text or as one line of JSON. The reasons why a module is unfit go to stderr, one per line.
//! An unfit module means exit code 1; it is not an error of this program.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::failure::Failure;
use super::file::{FileArgs, Loaded, load};
use super::output::{print, print_error};
use super::record::{RecordArgs, record};
use super::replay::{ReplayArgs, replay};
use super::shadow::{ShadowArgs, shadow};
use super::simulate::{SimulateArgs, simulate};
use crate::base::terminal::Style;
use crate::config::flags;
use crate::lab::{self, Lang};
use crate::policy::spec::ModuleSpec;
use crate::policy::wasm::source::PolicyKey;

/// The commands of `goproxy policy`.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Try a module as the proxy would use it: exit 0 if it is fit, or report every reason and exit 1
    Check(CheckArgs),
    /// List the built-in policies and the modules in policies_dir, each tried as proxy.json configures it
    List {
        /// The file.
        #[command(flatten)]
        file: FileArgs,
        /// Print one JSON object instead of text
        #[arg(long)]
        json: bool,
    },
    /// Run policies on made-up sessions, side by side: who spreads them best, who waits, who moves when a server goes
    Simulate(Box<SimulateArgs>),
    /// Record what a group's policy is asked and answers in a running proxy, with a fresh policy, into record_dir
    Record(RecordArgs),
    /// Ask the policy of a recording the same again, which gives the same answers on any machine, or ask others and compare
    Replay(ReplayArgs),
    /// Try a policy beside the one that serves in a running proxy, on its traffic, and show how both do; nobody is affected
    Shadow(ShadowArgs),
    /// Create a policy to start from, which builds and works as it is
    New {
        /// Its name: letters, digits, _ and -
        name: String,
        /// Its language
        #[arg(long, value_enum, default_value_t)]
        lang: LangArg,
        /// The folder to create it in
        #[arg(long, default_value = ".")]
        dir: PathBuf,
    },
}

/// The arguments of `policy check`.
#[derive(Args, Debug)]
pub struct CheckArgs {
    /// The module: .wasm (a component or a core module) or .wat
    file: PathBuf,
    /// Its configuration, a JSON object, as `config` in proxy.json
    #[arg(long, value_name = "JSON", default_value = flags::default_of("config"), value_parser = flags::module_config)]
    config: String,
    /// How long a pick may take, as `deadline` in proxy.json
    #[arg(long, value_name = "TIME", default_value = flags::default_of("deadline"), value_parser = flags::module_deadline)]
    deadline: Duration,
    /// How much memory an instance may have, as `memory` in proxy.json
    #[arg(long, value_name = "SIZE", default_value = flags::default_of("memory"), value_parser = flags::module_memory)]
    memory: u64,
    /// How long compiling may take, as `compile_budget` in proxy.json
    #[arg(long, value_name = "TIME", default_value = flags::default_of("compile_budget"), value_parser = flags::module_compile_budget)]
    compile_budget: Duration,
    /// The largest file that is used, as `policy_max_bytes` in proxy.json
    #[arg(long, value_name = "SIZE", default_value = flags::default_of("policy_max_bytes"), value_parser = flags::policy_max_bytes)]
    max_bytes: u64,
    /// A key that must have signed it, as one of `policy_keys` in proxy.json; may be repeated
    #[arg(long = "policy-key", value_name = "KEY|file:PATH", value_parser = flags::policy_key)]
    policy_keys: Vec<PolicyKey>,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// The languages of `policy new`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LangArg {
    /// A Rust project
    #[default]
    Rust,
    /// One file of WebAssembly text
    Wat,
    /// One file of C, for clang
    C,
    /// One file of C++, for clang
    #[value(name = "cpp")]
    Cpp,
    /// One file of Zig
    Zig,
    /// One file of AssemblyScript
    #[value(name = "assemblyscript")]
    AssemblyScript,
    /// A module of Go
    Go,
    /// A project in JavaScript
    #[value(name = "javascript")]
    JavaScript,
}

/// Runs the command.
///
/// # Errors
///
/// `proxy.json` cannot be used, or a new policy or stdout cannot be written.
pub fn policy(command: &PolicyCommand) -> anyhow::Result<ExitCode> {
    match command {
        PolicyCommand::Check(args) => check(args),
        PolicyCommand::List { file, json } => list(file, *json),
        PolicyCommand::Simulate(args) => simulate(args),
        PolicyCommand::Record(args) => record(args).map(|()| ExitCode::SUCCESS),
        PolicyCommand::Replay(args) => replay(args),
        PolicyCommand::Shadow(args) => shadow(args).map(|()| ExitCode::SUCCESS),
        PolicyCommand::New { name, lang, dir } => {
            let lang = match lang {
                LangArg::Rust => Lang::Rust,
                LangArg::Wat => Lang::Wat,
                LangArg::C => Lang::C,
                LangArg::Cpp => Lang::Cpp,
                LangArg::Zig => Lang::Zig,
                LangArg::AssemblyScript => Lang::AssemblyScript,
                LangArg::Go => Lang::Go,
                LangArg::JavaScript => Lang::JavaScript,
            };
            let made = lab::create(dir, name, lang)?;
            let next = lab::next_steps(&made, name, lang);
            print(&format!("created {}; next:\n{next}", made.display()))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn check(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let name = args.file.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    let spec = ModuleSpec {
        config: args.config.clone(),
        deadline: args.deadline,
        memory: args.memory,
        compile_budget: args.compile_budget,
        ..ModuleSpec::new(&name)
    };
    let report = lab::check(&args.file, &spec, args.max_bytes, &args.policy_keys.clone().into());
    if args.json {
        print(&format!("{}\n", report.json()))?;
    } else {
        print(&report.text(Style::of_stdout()))?;
        report.complaints().for_each(|complaint| print_error(format_args!("{complaint}")));
    }
    Ok(if report.fit { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn list(file: &FileArgs, json: bool) -> anyhow::Result<ExitCode> {
    let Loaded { config, .. } = load(file).map_err(Failure::told)?;
    let listing = lab::list(&config);
    print(&if json { format!("{}\n", listing.json()) } else { listing.text(Style::of_stdout()) })?;
    Ok(ExitCode::SUCCESS)
}
