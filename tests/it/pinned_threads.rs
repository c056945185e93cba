//! Where the data threads run.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::support::{FakeServer, Group, Setup, TestProxy, eventually};

const THREADS: usize = 3;

/// The cores on which a thread may run, by its folder in `/proc`.
fn cores(thread: &Path) -> Vec<usize> {
    let status = fs::read_to_string(thread.join("status")).unwrap();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
    let ranges = list.trim().split(',').map(|range| range.split_once('-').unwrap_or((range, range)));
    ranges.flat_map(|(first, last)| first.parse().unwrap()..=last.parse().unwrap()).collect()
}

/// Those of all data threads of a proxy, by the names of the threads.
fn data_cores(proxy: &TestProxy) -> BTreeMap<String, Vec<usize>> {
    let threads = fs::read_dir(format!("/proc/{}/task", proxy.pid())).unwrap().map(|thread| thread.unwrap().path());
    let named =
        threads.map(|thread| (fs::read_to_string(thread.join("comm")).unwrap().trim().to_owned(), cores(&thread)));
    named.filter(|(name, _)| name.starts_with("data-")).collect()
}

#[test]
fn data_threads_stay_on_cores_of_their_own_when_they_are_pinned_and_only_then() {
    let server = FakeServer::echo();
    let allowed = cores(Path::new("/proc/self"));
    for pinned in [true, false] {
        let setup = Setup::default().with("threads", THREADS).with("pin_threads", pinned);
        let proxy = setup.group(Group::new("round_robin", &[&server])).start();
        let own = |index: usize| if pinned { vec![allowed[index % allowed.len()]] } else { allowed.clone() };
        let expected: BTreeMap<_, _> = (0..THREADS).map(|index| (format!("data-{index}"), own(index))).collect();
        eventually("each thread is where it belongs", || data_cores(&proxy) == expected);
        for _ in 0..10 {
            proxy.connect().echo(b"served all the same");
        }
    }
}
