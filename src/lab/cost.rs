//! What a pick costs.
//!
//! A pick takes about as long as reading the clock, so picks are timed in batches. The report has the cost of one pick
//! in the fastest batch, in the median batch and in the 99th percentile. That is what a session pays: checking the
//! answer and counting are included.

use std::time::Duration;

use super::report::Cost;
use super::rig::{Budget, Rig, servers};

/// How long a batch should take, in nanoseconds.
const BATCH_NS: u64 = 50_000;

/// Most picks in a batch.
const BATCH_MAX: u32 = 1_000;

/// Batches that are timed.
const BATCHES: usize = 300;

/// How long warming up may take.
const WARM_UP: Duration = Duration::from_millis(100);

/// How long measuring may take.
const MEASURE: Duration = Duration::from_millis(1_000);

/// Measures picks among so many servers.
pub(super) fn cost(rig: &mut Rig, size: u32) -> Result<Cost, String> {
    rig.show(servers(0..size))?;
    let budget = Budget::new(WARM_UP);
    let mut pick_ns = rig.time(1)?;
    for _ in 0..100 {
        if budget.is_over() {
            break;
        }
        pick_ns = rig.time(10)? / 10;
    }
    let batch = u32::try_from(BATCH_NS / pick_ns.max(1)).unwrap_or(BATCH_MAX).clamp(1, BATCH_MAX);
    let mut batches = Vec::with_capacity(BATCHES);
    let budget = Budget::new(MEASURE);
    while batches.is_empty() || (batches.len() < BATCHES && !budget.is_over()) {
        batches.push(rig.time(batch)? as f64 / f64::from(batch));
    }
    batches.sort_by(f64::total_cmp);
    Ok(Cost {
        servers: size,
        picks: u64::from(batch) * batches.len() as u64,
        batch,
        min_ns: batches[0],
        median_ns: batches[batches.len() / 2],
        p99_ns: batches[(batches.len() * 99).div_ceil(100) - 1],
    })
}
