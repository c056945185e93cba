//! A thousand versions, one after the other, while sessions ask.

use std::sync::atomic::AtomicBool;

use super::*;

const SWAPS: u64 = 1_000;

/// Memory that may come to stay with the process, in kilobytes.
const RESIDENT_GROWTH_MAX: usize = 64 << 10;

/// Set in the process that runs the test below and nothing else.
const ALONE: &str = "GOPROXY_TEST_ALONE";

/// Threads that ask all the while.
const THREADS: usize = 2;

/// Picks the last of the servers, or the last but one.
fn from_the_end(place: u64) -> String {
    let set_servers = format!(
        "(global.set $heap (i32.const 65536))
        (global.set $some (i32.gt_u (local.get $len) (i32.const {place})))
        (if (global.get $some) (then (global.set $first (i32.load (i32.add (local.get $ptr)
          (i32.mul (i32.const 36) (i32.sub (local.get $len) (i32.const {}))))))))",
        place + 1
    );
    guests::policy(Parts { set_servers: &set_servers, ..Parts::default() })
}

/// Ends the threads, also when the test fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

fn resident_kb() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// In a process of its own, because other tests fill and free the memory of this one meanwhile.
#[test]
fn a_thousand_swaps_while_sessions_ask_leave_no_pick_to_the_fallback_and_nothing_behind() {
    if std::env::var_os(ALONE).is_none() {
        let own = concat!(
            "policy::wasm::tests::swaps::",
            "a_thousand_swaps_while_sessions_ask_leave_no_pick_to_the_fallback_and_nothing_behind"
        );
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        let output = child.args([own, "--exact", "--nocapture"]).env(ALONE, "1").output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && said.contains("1 passed"),
            "{said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        return;
    }
    let bench = Bench::with(&from_the_end(0));
    let servers = set(&[1; 3]);
    // Nobody but the fallback picks the first.
    let spec = ModuleSpec { fallback: "ha", deadline: Duration::from_secs(1), ..spec() };
    let policy = bench.make(&spec).unwrap().for_servers(&servers);
    let is_over = AtomicBool::new(false);
    let began = Instant::now();
    thread::scope(|scope| {
        let end = End(&is_over);
        let asking: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    let mut picks = [0_u64; 3];
                    while !is_over.load(Relaxed) {
                        picks[policy.pick_index(&request(&servers)).unwrap()] += 1;
                        // Asking without a pause would leave the processor to nobody else.
                        thread::park_timeout(Duration::from_micros(100));
                    }
                    picks
                })
            })
            .collect();
        let swap = |number: u64| {
            bench.write(&from_the_end(number % 2));
            bench.look();
            assert_eq!(bench.view().error, None);
            assert_eq!(policy.pick_index(&request(&servers)), Some(2 - (number % 2) as usize), "at once");
        };
        (1..=SWAPS / 10).for_each(swap);
        let before = resident_kb();
        (SWAPS / 10 + 1..=SWAPS).for_each(swap);
        let growth = resident_kb().saturating_sub(before);
        drop(end);
        let picks: Vec<_> = asking.into_iter().map(|thread| thread.join().unwrap()).collect();
        println!("{SWAPS} swaps in {:?}, picks {picks:?}, {growth} kB more", began.elapsed());
        assert!(growth < RESIDENT_GROWTH_MAX, "{growth} kB");
        assert!(picks.iter().all(|picks| picks[0] == 0 && picks[1] > 0 && picks[2] > 0), "{picks:?}");
    });
    let counters = bench.view().counters.unwrap();
    assert_eq!((counters.swaps.load(Relaxed), counters.refusals.load(Relaxed)), (SWAPS, 0));
    assert_eq!((counters.faults_total(), bench.fallbacks()), (0, 0));
}
