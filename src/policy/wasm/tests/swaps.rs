//! A thousand versions, one after the other, while sessions ask.

use std::sync::atomic::AtomicBool;

use super::*;

const SWAPS: u64 = 1_000;

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

#[test]
fn a_thousand_swaps_while_sessions_ask_leave_no_pick_to_the_fallback() {
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
        (1..=SWAPS).for_each(swap);
        drop(end);
        let picks: Vec<_> = asking.into_iter().map(|thread| thread.join().unwrap()).collect();
        println!("{SWAPS} swaps in {:?}, picks {picks:?}", began.elapsed());
        assert!(picks.iter().all(|picks| picks[0] == 0 && picks[1] > 0 && picks[2] > 0), "{picks:?}");
    });
    let counters = bench.view().counters.unwrap();
    assert_eq!((counters.swaps.load(Relaxed), counters.refusals.load(Relaxed)), (SWAPS, 0));
    assert_eq!((counters.faults_total(), bench.fallbacks()), (0, 0));
}
