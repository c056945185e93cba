//! What the system knows of this process, from `/proc`.

use std::fs;

use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

/// Each is `None` where the system does not tell.
#[derive(Debug, Default)]
pub(super) struct ProcessFigures {
    pub(super) cpu_seconds: Option<f64>,
    pub(super) resident_bytes: Option<u64>,
    pub(super) open_fds: Option<u64>,
    pub(super) max_fds: Option<u64>,
    /// Since 1970.
    pub(super) start_time_seconds: Option<f64>,
}

impl ProcessFigures {
    pub(super) fn read() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // The second field is the program's name in parentheses, and may hold anything.
        let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
        // Fields count from 1 in proc(5), and the first of ours is the third.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let seconds = |ticks: u64| ticks as f64 / clock_ticks_per_second() as f64;
        Self {
            cpu_seconds: field(14).zip(field(15)).map(|(user, system)| seconds(user + system)),
            resident_bytes: field(24).map(|pages| pages * page_size() as u64),
            open_fds: open_fds(),
            max_fds: getrlimit(Resource::Nofile).current,
            start_time_seconds: field(22).zip(boot_seconds()).map(|(ticks, boot)| boot as f64 + seconds(ticks)),
        }
    }
}

/// Linux tells the number as the folder's size since 6.2; before, they must be counted.
fn open_fds() -> Option<u64> {
    let folder = "/proc/self/fd";
    match fs::metadata(folder).ok()?.len() {
        0 => Some(fs::read_dir(folder).ok()?.count() as u64),
        open => Some(open),
    }
}

fn boot_seconds() -> Option<u64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    #[test]
    fn the_figures_are_of_this_process() {
        let figures = ProcessFigures::read();
        assert!(figures.cpu_seconds.is_some_and(|seconds| seconds >= 0.0));
        assert!(figures.resident_bytes.is_some_and(|bytes| (1 << 20..1 << 40).contains(&bytes)));
        let (open, max) = (figures.open_fds.unwrap(), figures.max_fds.unwrap_or(u64::MAX));
        assert!(open >= 3 && open <= max, "{open} of {max}");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        let age = now - figures.start_time_seconds.unwrap();
        assert!((-5.0..86_400.0).contains(&age), "started {age} s ago");
    }
}
