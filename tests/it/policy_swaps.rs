//! Versions follow each other under traffic, and nobody notices but by who serves.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use crate::policy_kit::guests::FEEDBACK;
use crate::policy_kit::{Folder, connect, counted, group_of, nth, patient, served_by, takes_over, three};
use crate::support::{eventually, let_pass};

/// Each waits for the watch to notice, so a thousand of them are tried where the modules are looked after.
const SWAPS: u32 = 30;

/// Clients at any moment.
const CLIENTS: usize = 4;

/// Memory that may come to stay with the process, in bytes.
const RESIDENT_GROWTH_MAX: u64 = 16 << 20;

/// Ends the clients, also when the test fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

#[test]
fn versions_that_follow_each_other_under_traffic_cost_no_client_and_leave_nothing_behind() {
    // The fallback would say A: nobody is to get there. Of both, one wants to hear what becomes of its picks.
    let version = |number: u32| match number % 2 {
        0 => nth(1),
        _ => nth(2).replacen("(func (export", &format!("{FEEDBACK}\n(func (export"), 1),
    };
    let folder = Folder::with("x.wat", version(0));
    let servers = three();
    let proxy = folder.setup().group(group_of(patient(), &servers)).start();
    let (is_over, clients) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (mut long, _) = connect(proxy.addr());
    let swap = |number: u32| {
        let text = version(number);
        folder.drop_in("x.wat", &text);
        takes_over(&proxy, &text);
    };
    let start = Instant::now();
    thread::scope(|scope| {
        let end = End(&is_over);
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                while !is_over.load(Relaxed) {
                    assert_ne!(served_by(proxy.addr()), 'A');
                    clients.fetch_add(1, Relaxed);
                    let_pass(Duration::from_millis(1), "the pace of the clients");
                }
            });
        }
        // Whatever comes to stay with the first swaps is there now.
        (1..6).for_each(swap);
        let resident = proxy.resident_bytes();
        (6..=SWAPS).for_each(swap);
        let growth = proxy.resident_bytes().saturating_sub(resident);
        drop(end);
        println!("{SWAPS} swaps in {:?}, {clients:?} clients, {growth} bytes more", start.elapsed());
        assert!(growth < RESIDENT_GROWTH_MAX, "{growth} bytes");
    });
    long.echo(b"still there");
    assert_eq!(counted(&proxy, "swaps_total"), u64::from(SWAPS));
    assert_eq!(servers[0].accepted(), 0, "no pick was left to the fallback");
    for metric in ["fallbacks_total", "faults_total", "refused_versions_total"] {
        assert_eq!(counted(&proxy, metric), 0, "{metric}");
    }
    for end in ["no_server", "connect_failed", "policy_failed", "limit", "client_reset", "server_reset"] {
        assert_eq!(proxy.ended(end), 0, "{end}");
    }
}

#[test]
fn swaps_without_traffic_leave_the_descriptors_as_they_were() {
    let folder = Folder::with("x.wat", nth(1));
    let servers = three();
    let proxy = folder.setup().group(group_of(patient(), &servers)).start();
    let swap = |number: u32| {
        folder.drop_in("x.wat", nth(number % 3));
        takes_over(&proxy, nth(number % 3));
        served_by(proxy.addr());
    };
    let idle = || eventually("nobody is there", || proxy.sessions() == 0);
    swap(0);
    idle();
    let before = proxy.descriptors();
    (1..8).for_each(swap);
    idle();
    // Pipes of sessions that are over may be kept, one for each thread.
    eventually("no descriptor is left", || proxy.descriptors() <= before + 4);
    println!("{before} descriptors before, {} after", proxy.descriptors());
}
