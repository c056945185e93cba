//! The program that a new process is to run.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::VARIABLE;

/// What the service manager tells one process only, by its id.
const OF_ONE_PROCESS: [&str; 4] = ["WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"];

/// The program as it was started: where it is, and its arguments. What is found there later may be another version.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    args: Vec<OsString>,
}

impl Program {
    /// The program of this process. To be asked at the start: when its file has been replaced, the system knows no path any
    /// more.
    ///
    /// # Errors
    ///
    /// The system does not tell.
    pub fn of_this_process() -> io::Result<Self> {
        let mut args = env::args_os();
        let path = path(args.next().as_deref(), &env::current_exe()?);
        Ok(Self { path, args: args.collect() })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Starts it with the same arguments, and with `link` in place of its stdin.
    pub(super) fn start(&self, link: OwnedFd) -> io::Result<Child> {
        let mut command = Command::new(&self.path);
        command.args(&self.args).env(VARIABLE, "1").stdin(Stdio::from(link));
        // Else it would take them for another's, and feed no watchdog.
        OF_ONE_PROCESS.iter().for_each(|name| _ = command.env_remove(name));
        command.spawn()
    }
}

impl std::fmt::Display for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.path.display().fmt(f)
    }
}

/// The path by which it was called, so that a symbolic link that leads to another version leads there; where it was called
/// by no path, the one that the system knows.
fn path(called: Option<&OsStr>, known: &Path) -> PathBuf {
    let called = called.map(Path::new).filter(|called| called.components().count() > 1 || called.is_absolute());
    let called = called.and_then(|called| std::path::absolute(called).ok());
    let is_this = |called: &PathBuf| fs::canonicalize(called).is_ok_and(|called| called == known);
    called.filter(is_this).unwrap_or_else(|| known.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_where_it_was_called_or_where_the_system_knows_it() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        let (known, link) = (folder.join("v1"), folder.join("current"));
        fs::write(&known, "").unwrap();
        std::os::unix::fs::symlink(&known, &link).unwrap();
        assert_eq!(path(Some(link.as_os_str()), &known), link);
        for called in [Some("goproxy"), Some("/bin/sh"), Some(""), None] {
            assert_eq!(path(called.map(OsStr::new), &known), known, "{called:?}");
        }
    }
}
