//! `goproxy import`: the configuration of another proxy as a `proxy.json`.
//!
//! Each format has a module that turns its text into a [`Draft`]; how that is written is in `draft`. Nothing is dropped in
//! silence: what has no equivalent becomes a comment that names its line and says why, at the place where it would
//! have stood. What comes out is checked as any file is, and mistakes are told on stderr.

mod draft;
mod gobetween;
mod haproxy;
mod nginx;
mod tls;

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, ValueEnum};

use super::file::refusal;
use super::output::print;
use crate::base::file::read_argument;
use crate::config;
use draft::Draft;

/// Where the mistakes of what comes out are said to be.
const OUTPUT: &str = "proxy.json";

/// What is imported.
#[derive(Args, Clone, Debug)]
pub struct ImportArgs {
    /// Whose configuration it is
    #[arg(value_name = "PROXY")]
    pub from: Proxy,
    /// Its file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// The proxies whose configuration is understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Proxy {
    /// HAProxy: what is in mode tcp
    Haproxy,
    /// nginx: what is in stream
    Nginx,
    /// gobetween: its servers, in TOML
    Gobetween,
}

/// Prints what a file of another proxy is here.
///
/// # Errors
///
/// The file cannot be read or makes no sense, or what it says is refused here; then the text is printed all the same.
pub fn import(args: &ImportArgs) -> anyhow::Result<()> {
    let path = &args.file;
    let text = read_argument(path, config::FILE_BYTES_MAX as u64)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let text = converted(args.from, &path.display().to_string(), &text)
        .map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
    print(&text)?;
    match config::parse(Path::new(OUTPUT), &text) {
        Ok(_) => Ok(()),
        Err(problems) => Err(refusal(Path::new(OUTPUT), &problems)),
    }
}

/// The text of a `proxy.json`, or what is wrong with that of the other proxy and where.
fn converted(from: Proxy, name: &str, text: &str) -> Result<String, String> {
    let (draft, command): (Draft, &str) = match from {
        Proxy::Haproxy => (haproxy::read(text)?, "haproxy"),
        Proxy::Nginx => (nginx::read(text)?, "nginx"),
        Proxy::Gobetween => (gobetween::read(text)?, "gobetween"),
    };
    Ok(draft.write(&format!("goproxy import {command} {name}")))
}

#[cfg(test)]
mod tests;
