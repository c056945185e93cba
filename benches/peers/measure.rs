//! What a process costs, read from `/proc`.
//!
//! CPU time is the sum over all threads of all processes of a peer, in nanoseconds, from `schedstat`. Kernel work
//! that the process causes is in it, loopback delivery included. Where the kernel has no such file, or a thread
//! ended in between and took its figure along, the process's user and system time is used instead; it counts in
//! ticks of mostly 10 ms.

use std::{collections::BTreeMap, fs, time::Duration};

use anyhow::Context;

/// CPU time used so far.
pub(crate) struct Cpu {
    threads: BTreeMap<u32, u64>,
    ticks: u64,
}

impl Cpu {
    /// Reads it for all threads of these processes.
    pub(crate) fn of(pids: &[u32]) -> anyhow::Result<Cpu> {
        let mut cpu = Cpu { threads: BTreeMap::new(), ticks: 0 };
        for &pid in pids {
            let stat = stat(pid).with_context(|| format!("process {pid} is gone"))?;
            let tick = |index: usize| stat.get(index).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
            cpu.ticks += tick(11) + tick(12);
            for tid in threads(pid) {
                let text = fs::read_to_string(format!("/proc/{pid}/task/{tid}/schedstat")).unwrap_or_default();
                if let Some(nanos) = text.split(' ').next().and_then(|field| field.parse().ok()) {
                    cpu.threads.insert(tid, nanos);
                }
            }
        }
        Ok(cpu)
    }

    /// What was used since an earlier reading of the same processes.
    pub(crate) fn since(&self, before: &Cpu) -> Duration {
        let is_whole = !self.threads.is_empty() && before.threads.keys().all(|tid| self.threads.contains_key(tid));
        if is_whole {
            let used = |(tid, nanos): (&u32, &u64)| nanos - before.threads.get(tid).copied().unwrap_or(0);
            return Duration::from_nanos(self.threads.iter().map(used).sum());
        }
        let ticks = self.ticks.saturating_sub(before.ticks);
        Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
    }
}

/// A process and all that descend from it.
pub(crate) fn tree(root: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> =
        numbers("/proc").into_iter().filter_map(|pid| Some((pid, stat(pid)?.get(1)?.parse().ok()?))).collect();
    let mut tree = vec![root];
    let mut index = 0;
    while index < tree.len() {
        let parent = tree[index];
        tree.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        index += 1;
    }
    tree
}

/// Resident bytes of these processes together.
pub(crate) fn resident(pids: &[u32]) -> anyhow::Result<u64> {
    pids.iter().map(|pid| kilobytes(&format!("/proc/{pid}/smaps_rollup"), "Rss:")).sum()
}

/// TCP segments that left any socket of this network namespace, clients' and servers' included.
pub(crate) fn segments() -> anyhow::Result<u64> {
    let text = fs::read_to_string("/proc/net/snmp")?;
    let mut tcp = text.lines().filter(|line| line.starts_with("Tcp:")).map(|line| line.split(' '));
    let column = tcp.next().and_then(|mut names| names.position(|name| name == "OutSegs"));
    let value = column.and_then(|column| tcp.next()?.nth(column)?.parse().ok());
    value.context("/proc/net/snmp: has no OutSegs")
}

/// True once a tracer is attached to every thread.
pub(crate) fn are_traced(pids: &[u32]) -> bool {
    pids.iter().all(|pid| {
        threads(*pid).into_iter().all(|tid| {
            let status = fs::read_to_string(format!("/proc/{pid}/task/{tid}/status")).unwrap_or_default();
            status.lines().any(|line| line.strip_prefix("TracerPid:").is_some_and(|tracer| tracer.trim() != "0"))
        })
    })
}

/// True when a process is gone, or only waits for its parent to notice.
pub(crate) fn has_ended(pid: u32) -> bool {
    stat(pid).is_none_or(|stat| stat.first().is_some_and(|state| state == "Z"))
}

fn threads(pid: u32) -> Vec<u32> {
    numbers(&format!("/proc/{pid}/task"))
}

fn numbers(folder: &str) -> Vec<u32> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The fields of `stat` behind the name, which may hold anything: the state comes first.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(") ")?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

fn kilobytes(file: &str, key: &str) -> anyhow::Result<u64> {
    let text = fs::read_to_string(file).with_context(|| format!("{file}: cannot be read"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let number = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    Ok(1024 * number.with_context(|| format!("{file}: has no {key}"))?)
}
