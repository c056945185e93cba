//! Other people's programs: finding them, pinning with `taskset`, counting system calls with `strace`.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};

use crate::{children::Guarded, measure};

/// Where a program is: in `PATH`, or where servers are installed, which users seldom have in theirs.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// The CPUs this process may use, as `taskset` writes them.
pub(crate) fn allowed_cpus() -> anyhow::Result<String> {
    let status = fs::read_to_string("/proc/self/status")?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    Ok(list.context("/proc/self/status: has no Cpus_allowed_list")?.trim().to_owned())
}

/// Lets all threads of these processes run on these CPUs only.
pub(crate) fn pin(pids: impl IntoIterator<Item = u32>, cpus: &str) -> anyhow::Result<()> {
    let taskset = find("taskset").context("taskset: not found; install the package util-linux")?;
    for pid in pids {
        let done =
            Command::new(&taskset).args(["--all-tasks", "--cpu-list", "--pid", cpus, &pid.to_string()]).output()?;
        ensure!(done.status.success(), "taskset: {}", String::from_utf8_lossy(&done.stderr).trim());
    }
    Ok(())
}

/// How many system calls these processes make during `work`.
pub(crate) fn count_syscalls(strace: &Path, pids: &[u32], folder: &Path, work: impl FnOnce()) -> anyhow::Result<u64> {
    let summary = folder.join("strace.txt");
    let mut command = Command::new(strace);
    command.args(["-c", "-f", "-o"]).arg(&summary);
    for pid in pids {
        command.arg("-p").arg(pid.to_string());
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut tracer = Guarded::spawn(&mut command).context("cannot run strace")?;
    let deadline = Instant::now() + Duration::from_secs(10);
    while !measure::are_traced(pids) {
        ensure!(!tracer.has_ended() && Instant::now() < deadline, "strace: cannot attach");
        thread::sleep(Duration::from_millis(5));
    }
    work();
    tracer.interrupt()?;
    sum_calls(&fs::read_to_string(&summary)?)
}

/// Adds up the calls in a summary of `strace -c`, whose last line is written differently by different versions.
fn sum_calls(summary: &str) -> anyhow::Result<u64> {
    let calls = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields.first()?.parse::<f64>().ok()?;
        if fields.last() == Some(&"total") { None } else { fields.get(3)?.parse::<u64>().ok() }
    };
    let total = summary.lines().filter_map(calls).sum();
    ensure!(total > 0, "strace: its summary names no calls");
    Ok(total)
}
