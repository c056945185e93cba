//! Why the process does not serve, or serves no longer: what is said when there is no log yet, or none any more.
//!
//! Whoever reads the log as JSON reads this as JSON too, as far as the file says that it shall be so.

use std::io::Write;

use super::output::{error_text, print_error};
use crate::base::clock;
use crate::config::Problem;
use crate::log::LogFormat;

/// Why the process ends.
#[derive(Debug)]
pub struct Failure {
    format: LogFormat,
    mistakes: Vec<String>,
    error: anyhow::Error,
}

impl Failure {
    /// `error`, to be told as the log is written.
    pub fn new(format: LogFormat, error: anyhow::Error) -> Self {
        Self { format, mistakes: Vec::new(), error }
    }

    /// The same, and before it every mistake of the file.
    pub(super) fn with_mistakes(self, path: &std::path::Path, problems: &[Problem]) -> Self {
        Self { mistakes: problems.iter().map(|problem| problem.in_file(path).to_string()).collect(), ..self }
    }

    /// The error, and the first mistake.
    pub fn summary(&self) -> String {
        let first = self.mistakes.first().map(|mistake| format!(", the first at {mistake}"));
        error_text(&self.error) + &first.unwrap_or_default()
    }

    /// Says in text which mistakes there are, one per line; the error that sums them up. For commands, which write no log.
    pub(super) fn told(self) -> anyhow::Error {
        self.mistakes.iter().for_each(|mistake| print_error(format_args!("{mistake}")));
        self.error
    }

    /// Says it on stderr, which may be closed; the exit code says it too.
    pub fn say(&self) {
        let error = error_text(&self.error);
        match self.format {
            LogFormat::Text => {
                self.mistakes.iter().for_each(|mistake| print_error(format_args!("{mistake}")));
                print_error(format_args!("goproxy: {error}"));
            }
            LogFormat::Json => {
                self.mistakes.iter().for_each(|mistake| print_json("mistake in proxy.json", "problem", mistake));
                print_json("cannot serve", "error", &error);
            }
        }
    }
}

fn print_json(message: &str, field: &str, value: &str) {
    let timestamp = clock::stamp(std::time::SystemTime::now());
    let value = serde_json::Value::from(value);
    let line =
        format!(r#"{{"timestamp":"{timestamp}","level":"ERROR","message":"{message}","{field}":{value}}}"#) + "\n";
    let _ = std::io::stderr().lock().write_all(line.as_bytes());
}
