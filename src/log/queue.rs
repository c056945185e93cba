//! What waits for the log thread: bounded, filled by everybody, emptied in one go.
//!
//! Each thread pushes into the shard that is its own while there are as few threads as shards, so the
//! locks are hardly ever contended. Nobody is woken for an entry: the log thread looks every
//! [`PAUSE`], and only after a second without any entry does the next one wake it.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::{Duration, SystemTime};

use super::event::SessionEvent;

/// Entries one shard holds; what comes after them is dropped.
pub(super) const SHARD_ENTRIES_MAX: usize = 16_384;

/// How long the log thread lets entries gather.
pub(super) const PAUSE: Duration = Duration::from_millis(20);

const SHARDS: usize = 8;

/// A larger vector is freed after use when little of it was used, so that one burst does not hold memory for good, and
/// lasting load does not ask for it anew each time.
const CAPACITY_KEPT_MAX: usize = 1_024;

/// Little is less than one in so many.
const USED_PART_MIN: usize = 4;

static THREADS_SEEN: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static SHARD: usize = THREADS_SEEN.fetch_add(1, Relaxed) % SHARDS;
}

/// Something to write.
pub(super) struct Entry {
    pub(super) at: SystemTime,
    pub(super) what: What,
}

pub(super) enum What {
    /// A line as `tracing` formatted it, with its end of line.
    Line(Box<[u8]>),
    /// Not formatted yet.
    Session(SessionEvent),
}

/// Guards the entries of the threads that share it. A cache line each, so shards do not slow each other.
#[repr(align(64))]
struct Shard(Mutex<Vec<Entry>>);

/// The queue, and how its two ends tell each other about flushing and stopping.
pub(super) struct Queue {
    shards: [Shard; SHARDS],
    has_session_events: AtomicBool,
    dropped: AtomicU64,
    is_idle: AtomicBool,
    is_stopping: AtomicBool,
    flushes_wanted: AtomicU64,
    /// Guards the number of the last flush that was done.
    flushes_done: Mutex<u64>,
    flush_done: Condvar,
    log_thread: OnceLock<Thread>,
}

impl Queue {
    pub(super) const fn new() -> Self {
        Self {
            shards: [const { Shard(Mutex::new(Vec::new())) }; SHARDS],
            has_session_events: AtomicBool::new(false),
            dropped: AtomicU64::new(0),
            is_idle: AtomicBool::new(false),
            is_stopping: AtomicBool::new(false),
            flushes_wanted: AtomicU64::new(0),
            flushes_done: Mutex::new(0),
            flush_done: Condvar::new(),
            log_thread: OnceLock::new(),
        }
    }

    pub(super) fn push_session(&self, event: impl FnOnce() -> SessionEvent) {
        if self.has_session_events.load(Relaxed) {
            self.push(What::Session(event()));
        }
    }

    /// Never waits longer than another thread takes to move one entry.
    pub(super) fn push(&self, what: What) {
        self.push_entry(Entry { at: SystemTime::now(), what });
    }

    pub(super) fn push_entry(&self, entry: Entry) {
        let mut entries = lock(&self.shards[SHARD.with(|shard| *shard)].0);
        if entries.len() >= SHARD_ENTRIES_MAX {
            drop(entries);
            return self.count_dropped(1);
        }
        entries.push(entry);
        let is_first = entries.len() == 1;
        drop(entries);
        // The log thread says that it is idle before it looks into the shards for the last time, and
        // the lock orders that against this: an entry it did not see comes from somebody who sees this.
        if is_first && self.is_idle.load(Relaxed) && self.is_idle.swap(false, Relaxed) {
            self.wake();
        }
    }

    pub(super) fn set_session_events(&self, has_session_events: bool) {
        self.has_session_events.store(has_session_events, Relaxed);
    }

    pub(super) fn dropped_total(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    pub(super) fn count_dropped(&self, lines: u64) {
        self.dropped.fetch_add(lines, Relaxed);
    }

    /// Waits until what was pushed so far is written, or for `time_max`. True when it is written.
    pub(super) fn flush(&self, time_max: Duration) -> bool {
        let mine = {
            let _done = lock(&self.flushes_done);
            self.flushes_wanted.fetch_add(1, Relaxed) + 1
        };
        self.wake();
        let done = lock(&self.flushes_done);
        let waited = self.flush_done.wait_timeout_while(done, time_max, |done| *done < mine);
        let (done, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *done >= mine
    }

    /// Flushes for the last time: the log thread ends, and session events cost nothing any more.
    pub(super) fn stop(&self, time_max: Duration) {
        self.is_stopping.store(true, Relaxed);
        self.flush(time_max);
        self.set_session_events(false);
    }

    fn wake(&self) {
        if let Some(thread) = self.log_thread.get() {
            thread.unpark();
        }
    }
}

/// The log thread's end.
impl Queue {
    /// Says who is to be woken. Called once, by the log thread, before anything else.
    pub(super) fn attach(&self) {
        self.log_thread.get_or_init(std::thread::current);
    }

    /// The number of the flush that a pass beginning now will fulfil, and whether it is the last pass.
    pub(super) fn begin_pass(&self) -> (u64, bool) {
        let _done = lock(&self.flushes_done);
        (self.flushes_wanted.load(Relaxed), self.is_stopping.load(Relaxed))
    }

    pub(super) fn end_pass(&self, flush: u64) {
        let mut done = lock(&self.flushes_done);
        if *done < flush {
            *done = flush;
            self.flush_done.notify_all();
        }
    }

    /// Moves everything into `batch`, in the order of time. `spare` goes round between the shards so
    /// that each is locked for one swap only.
    pub(super) fn collect(&self, batch: &mut Vec<Entry>, spare: &mut Vec<Entry>) {
        for shard in &self.shards {
            let mut entries = lock(&shard.0);
            if entries.is_empty() {
                shrink(&mut entries, 0);
                continue;
            }
            std::mem::swap(&mut *entries, spare);
            drop(entries);
            let used = spare.len();
            batch.append(spare);
            shrink(spare, used);
        }
        if batch.is_empty() {
            shrink(spare, 0);
        }
        batch.sort_by_key(|entry| entry.at);
    }

    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.is_idle.load(Relaxed)
    }

    pub(super) fn set_idle(&self, is_idle: bool) {
        self.is_idle.store(is_idle, Relaxed);
    }
}

/// Frees what a burst has left behind of a vector that is empty now, and of which so much was `used`.
pub(super) fn shrink(entries: &mut Vec<Entry>, used: usize) {
    if entries.capacity() > CAPACITY_KEPT_MAX.max(used * USED_PART_MIN) {
        *entries = Vec::new();
    }
}

/// A panic elsewhere leaves vectors and counters valid, so poison means nothing here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANY: usize = 4 * CAPACITY_KEPT_MAX;

    #[test]
    fn lasting_load_keeps_its_memory_and_a_burst_leaves_none() {
        let queue = Queue::new();
        let (mut batch, mut spare) = (Vec::new(), Vec::new());
        let mut capacities = |entries: usize| {
            for _ in 0..entries {
                queue.push(What::Line(Box::default()));
            }
            queue.collect(&mut batch, &mut spare);
            assert_eq!(batch.len(), entries);
            batch.clear();
            shrink(&mut batch, entries);
            let shards = queue.shards.iter().map(|shard| lock(&shard.0).capacity());
            (batch.capacity(), shards.sum::<usize>() + spare.capacity())
        };
        for _ in 0..3 {
            let (of_batch, of_shards) = capacities(MANY);
            assert!(of_batch >= MANY && of_shards >= MANY, "{of_batch} {of_shards}");
        }
        capacities(1);
        let (of_batch, of_shards) = capacities(0);
        assert!(of_batch <= CAPACITY_KEPT_MAX && of_shards <= 2 * CAPACITY_KEPT_MAX, "{of_batch} {of_shards}");
    }
}
