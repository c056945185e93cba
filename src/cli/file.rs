//! Finding and reading the file that a command works on.

use std::path::{Path, PathBuf};

use clap::Args;

use super::output::print_error;
use crate::base::text::count;
use crate::config::file::ReadError;
use crate::config::{self, Config, Problem};

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

/// Finds, reads and checks the file. Mistakes go to stderr, one per line.
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

pub(super) fn read(path: &Path) -> anyhow::Result<String> {
    config::file::read(path).map_err(|error| match error {
        ReadError::NotText(problem) => refusal(path, &[problem]),
        ReadError::System(error) => anyhow::Error::new(error).context(format!("cannot read {}", path.display())),
    })
}

/// Prints the mistakes to stderr, one per line, and returns the error that sums them up.
pub(super) fn refusal(path: &Path, problems: &[Problem]) -> anyhow::Error {
    for problem in problems {
        print_error(format_args!("{}", problem.in_file(path)));
    }
    anyhow::anyhow!("{} has {}", path.display(), count(problems.len(), "mistake"))
}
