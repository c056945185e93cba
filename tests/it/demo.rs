//! `goproxy demo` as people run it: the built binary, its output, its exit code, and what it leaves behind.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::support::{goproxy, output};

/// A release build promises 20 s. A debug build on a machine that is busy with other tests may take longer.
const TIME_MAX: Duration = Duration::from_secs(120);

/// A demonstration that keeps its temporary files in `folder`.
fn demo(folder: &TempDir) -> Command {
    let mut command = goproxy();
    command.arg("demo").env("TMPDIR", folder.path()).stdout(Stdio::piped());
    command
}

/// Reads lines until one contains `text`.
fn read_until(stdout: &mut impl BufRead, text: &str) {
    let mut line = String::new();
    while !line.contains(text) {
        line.clear();
        assert_ne!(stdout.read_line(&mut line).unwrap(), 0, "ended without {text:?}");
    }
}

fn terminate(child: &Child) {
    kill_process(Pid::from_child(child), Signal::TERM).unwrap();
}

fn is_empty(folder: &TempDir) -> bool {
    folder.path().read_dir().unwrap().next().is_none()
}

/// The numbers in a line.
fn numbers(line: &str) -> Vec<u64> {
    line.replace(',', "").split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

#[test]
fn every_session_is_served_and_checked_and_nothing_is_left() {
    let folder = TempDir::new().unwrap();
    let output = output(demo(&folder), TIME_MAX);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}: {text}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty());
    let line = |name: &str| {
        let found = text.lines().rev().find(|line| line.trim_start().starts_with(name));
        numbers(found.unwrap_or_else(|| panic!("no line {name} in {text}")))
    };
    let sessions = line("sessions ");
    assert!(sessions[0] > 0 && sessions[0] == sessions[1], "sessions, and hashes that matched: {sessions:?}");
    assert_eq!(line("errors "), [0]);
    assert!(!text.contains('\x1b'), "no terminal, no escape sequences");
    assert!(is_empty(&folder));
}

#[test]
fn a_signal_in_the_middle_ends_it_and_nothing_is_left() {
    let folder = TempDir::new().unwrap();
    let mut child = demo(&folder).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    read_until(&mut stdout, "2. Server 1 is killed");
    let told = Instant::now();
    terminate(&child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "what it was to show was not shown");
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "goproxy: interrupted\n");
    assert!(told.elapsed() < TIME_MAX);
    assert!(is_empty(&folder));
}

#[test]
fn kept_it_runs_on_until_a_signal_and_ends_well() {
    let folder = TempDir::new().unwrap();
    let mut child = demo(&folder).arg("--keep").spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    read_until(&mut stdout, "runs on until Ctrl-C");
    read_until(&mut stdout, "/metrics");
    assert!(child.try_wait().unwrap().is_none() && !is_empty(&folder), "it runs on");
    terminate(&child);
    assert!(child.wait().unwrap().success());
    assert!(is_empty(&folder));
}

#[test]
fn a_reader_that_goes_away_changes_nothing() {
    let folder = TempDir::new().unwrap();
    let mut child = demo(&folder).spawn().unwrap();
    read_until(&mut BufReader::new(child.stdout.take().unwrap()), "goproxy demo");
    assert!(child.wait().unwrap().success());
    assert!(is_empty(&folder));
}
