//! `goproxy top`: flags; the work is done in [`crate::top`].

#![cfg(feature = "top")]

use std::process::ExitCode;

use clap::Args;

use super::admin::AdminArgs;
use super::output::print;
use crate::top::{self, Look};

/// The arguments of `top`.
#[derive(Args, Debug)]
pub struct TopArgs {
    /// Where the proxy is.
    #[command(flatten)]
    pub admin: AdminArgs,
    /// Print one table and exit
    #[arg(long)]
    pub once: bool,
    /// Print what is known as one JSON object and exit
    #[arg(long, conflicts_with = "once")]
    pub json: bool,
}

/// Shows what a running proxy does.
///
/// # Errors
///
/// The proxy cannot be asked, or there is no terminal that can show it.
pub fn top(args: &TopArgs) -> anyhow::Result<ExitCode> {
    let look = match (args.once, args.json) {
        (_, true) => Look::Json,
        (true, _) => Look::Once,
        _ => Look::Live,
    };
    top::run(&args.admin.client()?, look, print)
}
