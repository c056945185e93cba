//! `goproxy policy replay`: asks policies again what was recorded; the work is done in [`crate::lab::replay`].
//!
//! Exit codes: 0; 1 when the recorded policy answers otherwise than it did, or a module or the recording cannot be used; 2 for
//! a wrong command line.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use serde_json::json;

use super::failure::Failure;
use super::file::{FileArgs, load};
use super::output::{print, print_error};
use super::subject::subject;
use crate::base::terminal::Style;
use crate::config::flags;
use crate::lab::replay::{self, Survey};
use crate::policy::spec::MODULE_PREFIX;

/// The arguments of `policy replay`.
#[derive(Args, Debug)]
pub struct ReplayArgs {
    /// A recording of policy record
    file: PathBuf,
    /// Ask this policy instead, and compare: a built-in one, a module's file, or wasm:NAME of policies_dir; may be repeated
    #[arg(long = "policy", value_name = "POLICY")]
    policies: Vec<String>,
    /// The configuration of modules of --policy, a JSON object
    #[arg(long = "module-config", value_name = "JSON", value_parser = flags::module_config, requires = "policies")]
    module_config: Option<String>,
    /// proxy.json, for wasm:NAME.
    #[command(flatten)]
    config: FileArgs,
    /// Write a page with pictures as well: one file, without scripts
    #[arg(long, value_name = "FILE", requires = "policies")]
    html: Option<PathBuf>,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
///
/// The recording or `proxy.json` cannot be used, or stdout cannot be written.
pub(super) fn replay(args: &ReplayArgs) -> anyhow::Result<ExitCode> {
    let survey = replay::survey(&args.file)?;
    match args.policies.is_empty() {
        true => repeat(args, &survey),
        false => compare(args, &survey),
    }
}

fn repeat(args: &ReplayArgs, survey: &Survey) -> anyhow::Result<ExitCode> {
    let repeated = replay::repeat(&args.file, survey)?;
    print(&match args.json {
        true => format!("{}\n", json!({ "recording": survey, "repeated": repeated })),
        false => replay::repeated_text(survey, &repeated),
    })?;
    Ok(if repeated.differ == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn compare(args: &ReplayArgs, survey: &Survey) -> anyhow::Result<ExitCode> {
    let needs_file = args.policies.iter().any(|policy| policy.starts_with(MODULE_PREFIX));
    let config = needs_file.then(|| load(&args.config).map_err(Failure::told)).transpose()?.map(|loaded| loaded.config);
    let mut subjects = Vec::new();
    for policy in &args.policies {
        let group = survey.about.group.as_str();
        match subject(policy, Some(group), args.module_config.as_deref(), config.as_ref()) {
            Ok(subject) => subjects.push(subject),
            Err((code, text)) => {
                print_error(format_args!("{text}"));
                return Ok(ExitCode::from(code));
            }
        }
    }
    let comparison = replay::compare(&args.file, survey, &subjects)?;
    if let Some(path) = &args.html {
        let page = replay::compared_page(&args.file, survey, &comparison);
        std::fs::write(path, page).with_context(|| format!("cannot write {}", path.display()))?;
    }
    print(&match args.json {
        true => format!("{}\n", json!({ "recording": survey, "compared": comparison })),
        false => replay::compared_text(survey, &comparison, Style::of_stdout()),
    })?;
    Ok(ExitCode::SUCCESS)
}
