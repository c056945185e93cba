//! Finding and reading the file that a command works on.

use std::path::{Path, PathBuf};

use clap::Args;

use super::failure::Failure;
use super::output::print_error;
use crate::base::text::count;
use crate::config::file::ReadError;
use crate::config::{self, Config, Problem};
use crate::log::LogFormat;

/// Where `proxy.json` is.
#[derive(Args, Clone, Debug, Default)]
pub struct FileArgs {
    /// proxy.json, or the folder that holds it [default: $PROXY_CONFIG_PATH, ./proxy.json, ./config/proxy.json]
    #[arg(short = 'c', long = "config", value_name = "PATH")]
    pub config: Option<PathBuf>,
}

/// A configuration and where it came from.
#[derive(Debug)]
pub struct Loaded {
    /// The file.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
    /// The text, read and checked.
    pub config: Config,
}

/// Finds, reads and checks the file for a process that is to serve.
///
/// # Errors
///
/// There is no file, it cannot be read, or it has mistakes.
pub fn load(file: &FileArgs) -> Result<Loaded, Failure> {
    let in_text = |error| Failure::new(LogFormat::Text, error);
    let path = config::find(file.config.as_deref()).map_err(|error| in_text(error.into()))?;
    let text = config::file::read(&path).map_err(|error| match error {
        ReadError::NotText(problem) => in_text(has_mistakes(&path, 1)).with_mistakes(&path, &[problem]),
        ReadError::System(error) => in_text(cannot_read(&path, error)),
    })?;
    config::parse(&path, &text)
        .map_err(|problems| {
            // As far as it can be read, the file says how it wants to be answered.
            let format = config::inspect(&path, &text).config.map_or(LogFormat::Text, |config| config.log.format);
            Failure::new(format, has_mistakes(&path, problems.len())).with_mistakes(&path, &problems)
        })
        .map(|config| Loaded { path, text, config })
}

pub(super) fn read(path: &Path) -> anyhow::Result<String> {
    config::file::read(path).map_err(|error| match error {
        ReadError::NotText(problem) => refusal(path, &[problem]),
        ReadError::System(error) => cannot_read(path, error),
    })
}

fn cannot_read(path: &Path, error: std::io::Error) -> anyhow::Error {
    anyhow::Error::new(error).context(format!("cannot read {}", path.display()))
}

/// Prints the mistakes to stderr, one per line, and returns the error that sums them up.
pub(super) fn refusal(path: &Path, problems: &[Problem]) -> anyhow::Error {
    for problem in problems {
        print_error(format_args!("{}", problem.in_file(path)));
    }
    has_mistakes(path, problems.len())
}

fn has_mistakes(path: &Path, mistakes: usize) -> anyhow::Error {
    anyhow::anyhow!("{} has {}", path.display(), count(mistakes, "mistake"))
}
